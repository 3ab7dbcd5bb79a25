/**
 * Models written into a GGUF file, with tokenizer, chat templates and configuration: by `merge` and `convert` alike.
 *
 * @module
 */
import { basename } from "node:path";
import { UserError } from "../../kernels/errors.ts";
import { megabytes } from "../../kernels/gpu/memory.ts";
import { refuseFullDisk } from "../files/free_space.ts";
import { modelMetadata } from "../formats/gguf/model_metadata.ts";
import { type GgufMetadata, text, texts } from "../formats/gguf/values.ts";
import { ggufTensors } from "../formats/gguf/written_tensors.ts";
import {
  ggufBytes,
  ggufFileBytes,
  type GgufTensor,
  writeGguf,
  type WrittenType,
} from "../formats/gguf/write_gguf.ts";
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

/** What a file's matrices are in: those of a block, where they differ. */
function mostType(tensors: readonly GgufTensor[]): WrittenType {
  const matrix = tensors.find(({ name }) => name.endsWith("ffn_down.weight"));
  if (matrix === undefined) throw new RangeError("the model has no blocks");
  return matrix.type;
}

/**
 * Writes a model as one GGUF file with everything in it that a runtime needs. Says on stderr how large it will be.
 *
 * @param model `tensors` in the dtypes of `takenDtype` (model/formats/gguf/written_tensors.ts).
 * @param type What matrices are written in; undefined where each keeps its own.
 * @returns How many tensors were written, and their bytes.
 * @throws UserError where the file exists, has no room or can't be written, or where GGUF can't hold the model or its
 *   tokenizer.
 */
export async function saveGguf(
  path: string,
  { source, config, tensors, tokenizerPath }: ModelToSave,
  type: WrittenType | undefined,
): Promise<{ tensors: number; bytes: number }> {
  if (tokenizerPath === undefined) {
    throw new UserError(
      `model "${source.name}" brings no tokenizer, which a GGUF file has in it; name one with --tokenizer`,
    );
  }
  const written = ggufTensors([...tensors], config, type);
  const metadata: GgufMetadata = new Map([
    ...modelMetadata(config, { name: basename(source.name), type: mostType(written) }),
    ...await tokenizerMetadata(tokenizerPath, {
      model: source.name,
      config,
      folder: source.folder,
    }),
    ...templateMetadata(tokenizerPath),
  ]);
  const size = ggufFileBytes(metadata, written);
  refuseFullDisk(path, size);
  console.error(`${path} will have ${megabytes(size).toFixed(1)} MB.`);
  await writeGguf(path, metadata, written);
  const bytes = written.reduce((sum, tensor) => sum + ggufBytes(tensor), 0);
  return { tensors: written.length, bytes };
}
