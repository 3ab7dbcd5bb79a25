/**
 * What a tokenizer is here, and which file one is read from.
 *
 * @module
 */

import { join } from "node:path";
import { UserError } from "../../../kernels/errors.ts";
import { exists, fileError } from "../../files/whole_file.ts";
import { isMetaFolder } from "../../files/meta.ts";
import { pipelineTokenizer } from "./pipeline_tokenizer.ts";
import { holdsTokenizer, readTokenizerFolder } from "./tokenizer_folder.ts";

/** Whether BOS stands before a text: as the tokenizer has it, or always, or never. */
export type AddBos = "auto" | "always" | "never";

/** Whether what stands between two UTF-16 offsets of a text stays letters, whatever it reads as. */
export type IsPlain = (start: number, end: number) => boolean;

/** Text to token ids and back. */
export interface Tokenizer {
  /** Number of ids; every id `encode` returns is below it. */
  readonly vocab_size: number;
  /** Number of ids without those of tokens that were added to the vocabulary. */
  readonly base_vocab_size: number;
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
  /** What `prefix_ids` come from: the tokenizer's own, or what {@linkcode withBos} was told. */
  readonly add_bos: AddBos;
  /** Texts of the named control tokens (`bos_token`, `eos_token`, `pad_token` ...), as templates see them. */
  readonly named_tokens: ReadonlyMap<string, string>;
  /** Control (special) tokens as they are written out, with their ids; BOS and EOS are among them. */
  readonly special_tokens: ReadonlyMap<string, number>;
  /** A token as it is written in the vocabulary. */
  token(id: number): string | undefined;
  /**
   * Ids of `text`, without BOS and EOS. Control tokens written out in the text stay plain text; tokens that
   * were added and are no control tokens are found.
   */
  encode(text: string): number[];
  /**
   * Ids of `text` in which control tokens written out become their ids; no BOS or EOS is added.
   *
   * @param isPlain Whether what stands between two UTF-16 offsets stays letters, though it reads as a control
   *   token: what users wrote into a chat template.
   */
  encodeSpecial(text: string, isPlain?: IsPlain): number[];
  /**
   * Ids of `text` as `transformers` gives them: control tokens written out become their ids, and
   * `prefix_ids` and `suffix_ids` stand around it. A BOS or EOS that stands there already is not doubled.
   */
  encodeText(text: string): number[];
  /** Ids of a text that was cut at its control tokens: these are given as ids, the rest is plain text. */
  encodeParts(parts: readonly (string | number)[]): number[];
  /**
   * Text of `ids`, each space where the model put it; control tokens (BOS, EOS, padding) and ids outside
   * the vocabulary add nothing. A byte that is part of no character is U+FFFD.
   */
  decode(ids: readonly number[]): string;
}

/**
 * The file of a tokenizer that is read as SentencePiece itself does: a tokenizer.model that is given itself,
 * and one in a folder in Meta's layout, or with nothing beside it that says how it is to be read.
 * `transformers` 5 opens the last kind without BOS and with other ids, which no model was trained with.
 */
export function sentencePieceModel(path: string, isFolder: boolean): string | undefined {
  if (!isFolder) return path.endsWith(".json") ? undefined : path;
  const model = join(path, "tokenizer.model");
  const others = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
  ];
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
 * @param path A SentencePiece `tokenizer.model`, a Hugging Face `tokenizer.json`, or a folder with either.
 * @throws {UserError} When a file is missing, truncated, of another format, or without EOS.
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
  const model = sentencePieceModel(path, info.isDirectory);
  if (model !== undefined) {
    // The library that computes it is large, and most tokenizers do without it.
    const { loadSentencePiece } = await import("./sentencepiece/sentencepiece.ts");
    return await loadSentencePiece(model);
  }
  if (info.isDirectory && !holdsTokenizer(path)) {
    throw new UserError(
      `folder "${path}" holds no tokenizer.model or tokenizer.json; name one with --tokenizer`,
    );
  }
  return pipelineTokenizer(await readTokenizerFolder(path));
}
