/**
 * What `merge` and `convert` do alike: read a model from its files and write it as a Hugging Face folder or as a GGUF
 * file, with progress, and with nothing left behind where that fails or is stopped.
 *
 * @module
 */
import { z } from "zod";
import { UserError } from "../kernels/errors.ts";
import { SIGNAL_EXIT, type StopSignal } from "../cli/exit_codes.ts";
import { noteLine } from "../kernels/terminal.ts";
import * as common from "../cli/common_settings.ts";
import { loadingBar } from "../cli/progress.ts";
import { choice, text } from "../cli/settings.ts";
import { stopSignals } from "../cli/signals.ts";
import { rewrittenTensors, type WeightChange } from "../model/formats/rewrite.ts";
import { type GgufFormat, isBlocks } from "../model/formats/gguf/quantization_mix.ts";
import { takenDtype } from "../model/formats/gguf/written_tensors.ts";
import { tensorBytes } from "../model/formats/write_safetensors.ts";
import {
  type FileDtype,
  listTypes,
  quantizedTypes,
  type WeightSource,
} from "../model/formats/weights.ts";
import { exists } from "../model/files/whole_file.ts";
import { type ModelToSave, saveModel } from "../model/checkpoint/save.ts";
import { saveGguf } from "../model/checkpoint/save_gguf.ts";
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
  output: text("path", "a new folder or a new file").describe(
    "Hugging Face folder to make, or GGUF file, whose name ends in .gguf.",
  ),
  dtype: choice(["f32", "f16", "bf16", "q8_0", "q4_0", "q4_k_m"]).optional().describe(
    "Dtype of every tensor; without it, each keeps its own. q8_0, q4_0 and q4_k_m in GGUF alone.",
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
export async function openFiles(
  { model, output, dtype, tokenizer }: WriteFlags,
): Promise<FileModel> {
  const source = openModel(model);
  const { weights } = source;
  if (weights === undefined) {
    throw new UserError(
      `model "${model}" has no files: its weights are random; expected builtin, a model folder or a GGUF file`,
    );
  }
  const isFile = isGgufName(output);
  if (exists(output)) {
    const what = isFile ? "file" : "folder";
    throw new UserError(
      `output ${what} ${output} exists already and is not overwritten; expected a new one`,
    );
  }
  if (isBlocks(ggufFormat(dtype)) && !isFile) {
    throw new UserError(
      `--dtype ${dtype} is one of GGUF's: expected an --output that ends in .gguf, or f32, f16 or bf16`,
    );
  }
  if (tokenizer !== undefined) {
    vocabularyCheck(await loadTokenizer(tokenizer), source.config.vocab_size, { tokenizer, model });
  }
  return { ...source, weights, tokenizerPath: tokenizer ?? source.tokenizerPath };
}

/** Says what is written of a model whose files have its weights quantised. */
function noteDequantized({ name, weights }: FileModel, dtype: string | undefined): void {
  const types = quantizedTypes(weights);
  if (types.length === 0) return;
  const smaller = dtype === undefined ? " (--dtype f16 or bf16 would halve that)" : "";
  noteLine(
    `Model "${name}" has quantised weights (${
      listTypes(types)
    }); what they stand for is written in ${dtype ?? "f32"}${smaller}.`,
  );
}

/** Says so where a model was written without a tokenizer. */
export function noteMissingTokenizer({ name, tokenizerPath }: FileModel): void {
  if (tokenizerPath !== undefined) return;
  noteLine(`Model "${name}" brings no tokenizer; --tokenizer FILE would add one.`);
}

/** Thrown where the writing is to stop, to undo what was done of it. */
class Stopped extends Error {
  constructor(readonly signal: StopSignal) {
    super(signal);
  }
}

/** What is left of a writing that was stopped. */
export interface StoppedWriting {
  /** The command's exit code. */
  code: number;
}

const FORMATS: Record<string, GgufFormat> = {
  f32: "F32",
  f16: "F16",
  bf16: "BF16",
  q8_0: "Q8_0",
  q4_0: "Q4_0",
  q4_k_m: "Q4_K_M",
};

/** What `--dtype` says. */
export function ggufFormat(dtype: string | undefined): GgufFormat | undefined {
  return dtype === undefined ? undefined : FORMATS[dtype];
}

/** Whether an output is a GGUF file rather than a folder. */
export function isGgufName(output: string): boolean {
  return output.endsWith(".gguf");
}

/** The dtype of tensors in a folder. */
function folderDtype(format: GgufFormat | undefined): FileDtype | undefined {
  return isBlocks(format) ? undefined : format;
}

/**
 * Writes the model with all that belongs to it. Ctrl-C or another signal that asks to stop undoes it.
 *
 * @param verb For the progress bar: what is done to the model.
 * @param change New values for some weights.
 * @returns What was written, or the exit code where it was stopped.
 */
export async function writeModel(
  source: FileModel,
  { output, dtype }: WriteFlags,
  verb: string,
  change?: WeightChange,
): Promise<Written | StoppedWriting> {
  let stopped: StopSignal | undefined;
  const listeners = stopSignals().map((signal) =>
    [signal, () => void (stopped ??= signal)] as const
  );
  noteDequantized(source, dtype);
  const bar = loadingBar(verb), format = ggufFormat(dtype), isFile = isGgufName(output);
  const tensors = rewrittenTensors(source.weights, {
    dtype: isFile ? (shape) => takenDtype(shape, format) : folderDtype(format),
    change,
    progress(done, total) {
      if (stopped !== undefined) throw new Stopped(stopped);
      bar(done, total);
    },
  });
  for (const [signal, listener] of listeners) Deno.addSignalListener(signal, listener);
  const model: ModelToSave = {
    source,
    config: change?.config ?? source.config,
    tensors,
    tokenizerPath: source.tokenizerPath,
  };
  try {
    if (isFile) return { output, ...await saveGguf(output, model, format) };
    await saveModel(output, model);
  } catch (error) {
    if (!(error instanceof Stopped)) throw error;
    noteLine(`\nStopped; ${output} was not made.`);
    return { code: SIGNAL_EXIT[error.signal] };
  } finally {
    for (const [signal, listener] of listeners) Deno.removeSignalListener(signal, listener);
  }
  const bytes = tensors.reduce((sum, tensor) => sum + tensorBytes(tensor), 0);
  return { output, tensors: tensors.length, bytes };
}
