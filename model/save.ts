/**
 * Models on their way into a folder of their own, with all that belongs to them: what `merge`, `convert` and full
 * fine-tuning write alike.
 *
 * @module
 */
import { UserError } from "../kernels/errors.ts";
import type { LlamaConfig } from "./config.ts";
import type { TensorToWrite } from "./files/safetensors.ts";
import { writeHuggingFace } from "./files/write_huggingface.ts";
import type { ModelSource } from "./source.ts";
import { stopTokens } from "./text/stop_tokens.ts";
import { loadTokenizer, type Tokenizer } from "./text/tokenizer.ts";
import { completeTokenizer } from "./text/tokenizer_files.ts";

/** A model to be written. */
export interface ModelToSave {
  /** Where it came from. */
  source: ModelSource;
  /** What it is now: layers may have been cut. */
  config: LlamaConfig;
  tensors: Iterable<TensorToWrite>;
  /** The file or folder of its tokenizer, where it has one. */
  tokenizerPath?: string;
}

/** Its tokenizer; where it can't be read here, says so: its files are copied as they are. */
async function tokenizerOf(path: string): Promise<Tokenizer | undefined> {
  try {
    return await loadTokenizer(path);
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    console.error(
      `The tokenizer is copied as it is, since it can't be read here: ${error.message}`,
    );
  }
}

/** One line about the files of the model's folder: how many were copied, and what was not. */
function describeCarried({ files, left }: { files: string[]; left: string[] }): string | undefined {
  if (files.length + left.length === 0) return undefined;
  const copied = `${files.length} other file${files.length === 1 ? "" : "s"}`;
  const shown = left.length > 8 ? [...left.slice(0, 7), `${left.length - 7} more`] : left;
  const without = left.length === 0 ? "" : `; left out: ${shown.join(", ")}`;
  return `Copied from the model's folder: ${copied}${without}.`;
}

/**
 * Writes a model as a Hugging Face folder in which `transformers` finds what Lorikeet found: tokenizer, chat template,
 * end tokens, and the keys of `config.json` that nobody here knows. Says on stderr what else was copied.
 *
 * @throws UserError where the folder exists or a file can't be read or written.
 */
export async function saveModel(
  folder: string,
  { source, config, tensors, tokenizerPath }: ModelToSave,
): Promise<void> {
  const tokenizer = tokenizerPath === undefined ? undefined : await tokenizerOf(tokenizerPath);
  const carried = await writeHuggingFace(folder, config, tensors, {
    base: source.folder,
    baseConfig: source.configPath,
    tokenizerPath,
    endTokens: tokenizer && stopTokens(config, tokenizer, source.folder),
    completeTokenizer: tokenizer && tokenizerPath !== undefined
      ? (temporary) => completeTokenizer(tokenizerPath, temporary)
      : undefined,
  });
  const line = describeCarried(carried);
  if (line !== undefined) console.error(line);
}
