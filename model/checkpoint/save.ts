/**
 * Models written into a folder of their own, with tokenizer and configuration: by `merge`, `convert` and full
 * fine-tuning alike.
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import { noteLine } from "../../kernels/terminal.ts";
import type { ModelConfig } from "../families/config.ts";
import type { TensorToWrite } from "../formats/write_safetensors.ts";
import { type FolderOptions, writeHuggingFace } from "../formats/write_huggingface.ts";
import type { ModelSource } from "./source.ts";
import { stopTokens } from "../text/tokenizer/stop_tokens.ts";
import { loadTokenizer } from "../text/tokenizer/load.ts";
import { tokenizerFiles } from "../text/tokenizer/tokenizer_files.ts";

/** A model to be written. */
export interface ModelToSave {
  /** Where it came from. */
  source: ModelSource;
  /** What it is now: layers may have been cut. */
  config: ModelConfig;
  tensors: Iterable<TensorToWrite>;
  /** The file or folder of its tokenizer, where it has one. */
  tokenizerPath?: string;
}

/**
 * The files of its tokenizer, and where its texts end. Where the model's own tokenizer can't be read here, says so: its
 * files are copied as they are.
 */
async function tokenizerToSave(
  { source, config, tokenizerPath: path }: ModelToSave,
): Promise<Pick<FolderOptions, "tokenizer" | "endTokens">> {
  if (path === undefined) return {};
  const own = path === source.folder;
  try {
    const endTokens = stopTokens(config, await loadTokenizer(path), source.folder);
    const files = await tokenizerFiles(path);
    if (!own) return { endTokens, tokenizer: { files, others: "replaced" } };
    const made = files.filter(({ content }) => "text" in content);
    return { endTokens, tokenizer: { files: made, others: "carried" } };
  } catch (error) {
    if (!(error instanceof UserError) || !own) throw error;
    noteLine(
      `The tokenizer is copied as it is, since it can't be read here: ${error.message}`,
    );
    return {};
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
export async function saveModel(folder: string, model: ModelToSave): Promise<void> {
  const { source, config, tensors } = model;
  const carried = await writeHuggingFace(folder, config, tensors, {
    base: source.folder,
    baseConfig: source.configPath,
    ...await tokenizerToSave(model),
  });
  const line = describeCarried(carried);
  if (line !== undefined) noteLine(line);
}
