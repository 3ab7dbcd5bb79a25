/**
 * Models written into a GGUF file, with tokenizer, chat templates and configuration: by `merge` and `convert` alike.
 *
 * @module
 */
import { basename } from "node:path";
import { UserError } from "../../kernels/errors.ts";
import { megabytes } from "../../kernels/gpu/memory.ts";
import { noteLine } from "../../kernels/terminal.ts";
import { refuseFullDisk } from "../files/free_space.ts";
import { modelMetadata } from "../formats/gguf/model_metadata.ts";
import { Quantizers } from "../formats/gguf/quantizers.ts";
import { type GgufMetadata, text, texts } from "../formats/gguf/values.ts";
import type { GgufFormat } from "../formats/gguf/quantization_mix.ts";
import { ggufTensors } from "../formats/gguf/written_tensors.ts";
import { ggufBytes, ggufFileBytes, writeGguf } from "../formats/gguf/write_gguf.ts";
import type { FileDtype } from "../formats/weights.ts";
import type { TensorToWrite } from "../formats/write_safetensors.ts";
import { chatTemplates } from "../text/templates/chat_template.ts";
import { tokenizerMetadata } from "../text/tokenizer/gguf_metadata.ts";
import type { ModelToSave } from "./save.ts";

/** The chat templates that go with a tokenizer. */
function templateMetadata(path: string): GgufMetadata {
  const metadata: GgufMetadata = new Map(), named: string[] = [];
  for (const [name, { source }] of chatTemplates(path)) {
    if (name !== "default") named.push(name);
    const key = name === "default" ? "" : `.${name}`;
    metadata.set(`tokenizer.chat_template${key}`, text(source));
  }
  if (named.length > 0) metadata.set("tokenizer.chat_templates", texts(named));
  return metadata;
}

/** The dtype of most matrices, where each keeps its own: that of a block's. */
function ownDtype(tensors: readonly TensorToWrite[]): FileDtype {
  const matrix = tensors.find(({ name }) => name.endsWith("down_proj.weight"));
  if (matrix === undefined) throw new RangeError("the model has no blocks");
  return matrix.dtype;
}

/**
 * Writes a model as one GGUF file with everything in it that a runtime needs. Says on stderr how large it will be.
 *
 * @param model `tensors` in the dtypes of `takenDtype` (model/formats/gguf/written_tensors.ts).
 * @param format What matrices are written in; undefined where each keeps its own.
 * @returns How many tensors were written, and their bytes.
 * @throws UserError where the file exists, has no room or can't be written, or where GGUF can't hold the model or its
 *   tokenizer.
 */
export async function saveGguf(
  path: string,
  { source, config, tensors, tokenizerPath }: ModelToSave,
  format: GgufFormat | undefined,
): Promise<{ tensors: number; bytes: number }> {
  if (tokenizerPath === undefined) {
    throw new UserError(
      `model "${source.name}" brings no tokenizer, which a GGUF file has in it; name one with --tokenizer`,
    );
  }
  using quantizers = new Quantizers();
  const taken = [...tensors], written = ggufTensors(taken, config, format, quantizers);
  const metadata: GgufMetadata = new Map([
    ...modelMetadata(config, {
      name: basename(source.name, ".gguf"),
      format: format ?? ownDtype(taken),
    }),
    ...await tokenizerMetadata(tokenizerPath, {
      model: source.name,
      config,
      folder: source.folder,
    }),
    ...templateMetadata(tokenizerPath),
  ]);
  const size = ggufFileBytes(metadata, written);
  refuseFullDisk(path, size);
  noteLine(`${path} will have ${megabytes(size).toFixed(1)} MB.`);
  await writeGguf(path, metadata, written);
  const bytes = written.reduce((sum, tensor) => sum + ggufBytes(tensor), 0);
  return { tensors: written.length, bytes };
}
