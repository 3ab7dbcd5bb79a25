/**
 * Which file a tokenizer is read from.
 *
 * @module
 */

import { join } from "node:path";
import { UserError } from "../../../kernels/errors.ts";
import { exists, fileError } from "../../files/whole_file.ts";
import { isGguf } from "../../formats/gguf/header.ts";
import { isMetaFolder } from "../../formats/meta.ts";
import { TOKENIZER_SETTINGS } from "../../formats/tokenizer_names.ts";
import { pipelineTokenizer } from "./pipeline_tokenizer.ts";
import type { Tokenizer } from "./tokenizer.ts";
import { holdsTokenizer, readTokenizerFolder } from "./tokenizer_folder.ts";

/** What a tokenizer is read from. */
export type TokenizerOrigin =
  /** A file that is read as SentencePiece itself does. */
  | { kind: "sentencepiece"; file: string }
  /** A file that holds a model, and its tokenizer. */
  | { kind: "gguf"; file: string }
  /** A folder's files, or a tokenizer.json with what is beside it. */
  | { kind: "folder"; path: string };

/** What the tokenizer at a path is read from. */
export function tokenizerOrigin(path: string, isFolder: boolean): TokenizerOrigin {
  if (isGguf(path)) return { kind: "gguf", file: path };
  const file = sentencePieceModel(path, isFolder);
  return file === undefined ? { kind: "folder", path } : { kind: "sentencepiece", file };
}

/**
 * The file of a tokenizer that is read as SentencePiece itself does: a tokenizer.model that is given itself,
 * and one in a folder in Meta's layout, or with nothing beside it that says how it is to be read.
 * `transformers` 5 opens the last kind without BOS and with other ids, which no model was trained with.
 */
function sentencePieceModel(path: string, isFolder: boolean): string | undefined {
  if (!isFolder) return path.endsWith(".json") ? undefined : path;
  const model = join(path, "tokenizer.model");
  const others = ["tokenizer.json", ...TOKENIZER_SETTINGS];
  const alone = exists(model) && !others.some((name) => exists(join(path, name)));
  return alone || isMetaFolder(path) ? model : undefined;
}

/**
 * Loads a tokenizer.
 *
 * All files of a folder are read together, as `transformers` 5.18 does. Three kinds keep SentencePiece's own
 * way, a space before the text and BOS at its beginning: a folder in Meta's layout, one whose
 * tokenizer is a tokenizer.model alone, and a tokenizer.model that is given itself, whatever is beside it.
 *
 * @param path A SentencePiece `tokenizer.model`, a Hugging Face `tokenizer.json`, a folder with either, or a GGUF file.
 * @throws {UserError} When a file is missing, truncated, of another format, or without EOS.
 */
export async function loadTokenizer(path: string): Promise<Tokenizer> {
  let info: Deno.FileInfo;
  try {
    info = Deno.statSync(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw fileError(path, "read", error);
    throw new UserError(
      `tokenizer "${path}" does not exist; expected a tokenizer.model, tokenizer.json or GGUF file, or a ` +
        "folder with one",
    );
  }
  const origin = tokenizerOrigin(path, info.isDirectory);
  if (origin.kind === "sentencepiece") {
    // The library that computes it is large, and most tokenizers do without it.
    const { loadSentencePiece } = await import("./sentencepiece/sentencepiece.ts");
    return await loadSentencePiece(origin.file);
  }
  if (origin.kind === "gguf") {
    const { ggufTokenizer } = await import("./gguf/gguf_tokenizer.ts");
    return pipelineTokenizer(await ggufTokenizer(origin.file));
  }
  if (info.isDirectory && !holdsTokenizer(path)) {
    throw new UserError(
      `folder "${path}" holds no tokenizer.model or tokenizer.json; name one with --tokenizer`,
    );
  }
  return pipelineTokenizer(await readTokenizerFolder(path));
}
