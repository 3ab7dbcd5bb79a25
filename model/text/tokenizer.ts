/**
 * What a tokenizer is here, and which file one is read from.
 *
 * @module
 */

import { join } from "node:path";
import { UserError } from "../../kernels/errors.ts";
import { exists, fileError, isObject, readJson } from "../files/weights.ts";
import { loadSentencePiece } from "./sentencepiece.ts";
import { loadTokenizerJson } from "./tokenizer_json.ts";

/** Text to token ids and back. */
export interface Tokenizer {
  /** Number of ids; every id `encode` returns is below it. */
  readonly vocab_size: number;
  /** Id of the beginning-of-sequence control token; undefined where the tokenizer has none. */
  readonly bos_id: number | undefined;
  /** Id of the end-of-sequence control token. */
  readonly eos_id: number;
  /**
   * What stands before and after a text by itself, as `transformers` adds it with `add_special_tokens`:
   * usually BOS, and nothing.
   */
  readonly prefix_ids: readonly number[];
  readonly suffix_ids: readonly number[];
  /** Texts of the named control tokens (`bos_token`, `eos_token`, `pad_token` ...), as templates see them. */
  readonly named_tokens: ReadonlyMap<string, string>;
  /** Control (special) tokens as they are written out, with their ids; BOS and EOS are among them. */
  readonly special_tokens: ReadonlyMap<string, number>;
  /** Ids of `text`, without BOS and EOS. Control tokens written out in the text stay plain text. */
  encode(text: string): number[];
  /**
   * Ids of a rendered chat template: control tokens written out in the text become their ids; no BOS or
   * EOS is added.
   *
   * @param isPlain Whether what stands between two UTF-16 offsets stays plain text, though it reads as a
   *   control token: what users wrote.
   */
  encodeSpecial(text: string, isPlain?: (start: number, end: number) => boolean): number[];
  /** Ids of a text that was cut at its control tokens: these are given as ids, the rest is plain text. */
  encodeParts(parts: readonly (string | number)[]): number[];
  /**
   * Text of `ids`, each space where the model put it; control tokens (BOS, EOS, padding) and ids outside
   * the vocabulary add nothing. A byte that is part of no character is U+FFFD.
   */
  decode(ids: readonly number[]): string;
}

/**
 * Whether `tokenizer_config.json` lists a token that a tokenizer lacks: models that were trained
 * further often have control tokens in `tokenizer.json` that their `tokenizer.model` knows nothing of.
 */
function listsMoreTokens(folder: string, vocab_size: number): boolean {
  const file = join(folder, "tokenizer_config.json");
  const config = exists(file) ? readJson(file) : undefined;
  const added = isObject(config) ? config.added_tokens_decoder : undefined;
  return isObject(added) && Object.keys(added).some((id) => Number(id) >= vocab_size);
}

/**
 * Loads a tokenizer.
 *
 * Of a folder with both files, `tokenizer.model` is read, unless `tokenizer_config.json` lists tokens
 * beyond it. Files beside a `tokenizer.model` that is given itself are not looked at.
 *
 * @param path A SentencePiece `tokenizer.model`, a Hugging Face `tokenizer.json`, or a folder with either.
 * @throws {UserError} When a file is missing, truncated, of another format, or without BOS or EOS.
 */
export async function loadTokenizer(path: string): Promise<Tokenizer> {
  let info: Deno.FileInfo;
  try {
    info = Deno.statSync(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw fileError(path, "read", error);
    throw new UserError(
      `tokenizer "${path}" does not exist; expected a tokenizer.model or tokenizer.json file or a ` +
        "folder with one",
    );
  }
  if (!info.isDirectory) {
    return path.endsWith(".json") ? loadTokenizerJson(path) : await loadSentencePiece(path);
  }
  const model = join(path, "tokenizer.model"), json = join(path, "tokenizer.json");
  if (exists(model)) {
    const tokenizer = await loadSentencePiece(model);
    const other = exists(json) && listsMoreTokens(path, tokenizer.vocab_size);
    return other ? loadTokenizerJson(json) : tokenizer;
  }
  if (exists(json)) return loadTokenizerJson(json);
  throw new UserError(
    `folder "${path}" holds no tokenizer.model or tokenizer.json; name one with --tokenizer`,
  );
}

/**
 * Refuses a tokenizer whose ids don't all have a row in the model's embedding. The opposite, rows
 * that no id uses, is common (vocabularies are padded) and fine.
 *
 * @param files What to call the two in the message.
 * @throws {UserError} Naming both numbers.
 */
export function vocabularyCheck(
  tokenizer: Tokenizer,
  vocab_size: number,
  files: { tokenizer: string; model: string },
): void {
  if (tokenizer.vocab_size <= vocab_size) return;
  throw new UserError(
    `tokenizer "${files.tokenizer}" has ${tokenizer.vocab_size} ids but model "${files.model}" has ` +
      `a vocab_size of ${vocab_size}; expected the tokenizer the model was trained with`,
  );
}
