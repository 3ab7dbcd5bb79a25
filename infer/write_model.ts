/**
 * What `merge` and `convert` do alike: read a model from its files and write it as a Hugging Face
 * folder, with progress, and with nothing left behind where that fails or is stopped.
 *
 * @module
 */
import { z } from "zod";
import { UserError } from "../kernels/errors.ts";
import * as common from "../cli/common_settings.ts";
import { loadingBar } from "../cli/progress.ts";
import { choice, text } from "../cli/settings.ts";
import { rewrittenTensors, type WeightChange } from "../model/formats/rewrite.ts";
import { tensorBytes } from "../model/formats/write_safetensors.ts";
import type { FileDtype, WeightSource } from "../model/formats/weights.ts";
import { exists } from "../model/files/whole_file.ts";
import { saveModel } from "../model/checkpoint/save.ts";
import { type ModelSource, openModel } from "../model/checkpoint/source.ts";
import { loadTokenizer } from "../model/text/tokenizer/load.ts";
import { vocabularyCheck } from "../model/text/tokenizer/vocabulary_check.ts";

/** A model with files. */
export interface FileModel extends ModelSource {
  weights: WeightSource;
}

/** What `merge` and `convert` need to know of the files. */
export const fileKeys = {
  model: text("path", "a model folder or GGUF file, or builtin").describe(
    "Model folder in Hugging Face's or Meta's layout, GGUF file, or builtin.",
  ),
  output: text("folder", "a new folder").describe("Hugging Face folder to make."),
  dtype: choice(["f32", "f16", "bf16"]).optional().describe(
    "Dtype of every tensor; without it, each keeps its own.",
  ),
  tokenizer: common.tokenizer,
};

type WriteFlags = z.output<z.ZodObject<typeof fileKeys>>;

/** What was written. */
export interface Written {
  output: string;
  tensors: number;
  /** Of all tensors. */
  bytes: number;
}

/**
 * Finds the model, and refuses what would fail later.
 *
 * @throws {UserError} where the model has no files or they are wrong, the output folder exists, or the
 *   tokenizer named is not the model's.
 */
export async function openFiles({ model, output, tokenizer }: WriteFlags): Promise<FileModel> {
  const source = openModel(model);
  const { weights } = source;
  if (weights === undefined) {
    throw new UserError(
      `model "${model}" has no files: its weights are random; expected builtin, a model folder or a GGUF file`,
    );
  }
  if (exists(output)) {
    throw new UserError(
      `output folder ${output} exists already and is not overwritten; expected a new one`,
    );
  }
  if (tokenizer !== undefined) {
    vocabularyCheck(await loadTokenizer(tokenizer), source.config.vocab_size, { tokenizer, model });
  }
  return { ...source, weights, tokenizerPath: tokenizer ?? source.tokenizerPath };
}

/** Says so where a model was written without a tokenizer. */
export function noteMissingTokenizer({ name, tokenizerPath }: FileModel): void {
  if (tokenizerPath !== undefined) return;
  console.error(`Model "${name}" brings no tokenizer; --tokenizer FILE would add one.`);
}

/** Ctrl-C, and what a cluster sends before it takes a node away. */
const SIGNALS = ["SIGINT", "SIGTERM"] as const;

/** Thrown where the writing is to stop, to undo what was done of it. */
class Stopped extends Error {}

const FILE_DTYPES: Record<string, FileDtype> = { f32: "F32", f16: "F16", bf16: "BF16" };

/**
 * Writes the model with all that belongs to it. Ctrl-C or SIGTERM undoes it.
 *
 * @param verb For the progress bar: what is done to the model.
 * @param change New values for some weights.
 * @returns Undefined where it was stopped.
 */
export async function writeModel(
  source: FileModel,
  { output, dtype }: WriteFlags,
  verb: string,
  change?: WeightChange,
): Promise<Written | undefined> {
  let stopped = false;
  const stop = () => {
    stopped = true;
  };
  const bar = loadingBar(verb);
  const tensors = rewrittenTensors(source.weights, {
    dtype: dtype && FILE_DTYPES[dtype],
    change,
    progress(done, total) {
      if (stopped) throw new Stopped();
      bar(done, total);
    },
  });
  for (const signal of SIGNALS) Deno.addSignalListener(signal, stop);
  try {
    await saveModel(output, {
      source,
      config: change?.config ?? source.config,
      tensors,
      tokenizerPath: source.tokenizerPath,
    });
  } catch (error) {
    if (!(error instanceof Stopped)) throw error;
    console.error(`\nStopped; ${output} was not made.`);
    return undefined;
  } finally {
    for (const signal of SIGNALS) Deno.removeSignalListener(signal, stop);
  }
  const bytes = tensors.reduce((sum, tensor) => sum + tensorBytes(tensor), 0);
  return { output, tensors: tensors.length, bytes };
}
