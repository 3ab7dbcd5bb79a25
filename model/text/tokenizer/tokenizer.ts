/**
 * What a tokenizer is here.
 *
 * @module
 */

import type { Split } from "./token_places.ts";

/** Whether BOS stands before a text: as the tokenizer has it, or always, or never. */
export type AddBos = "auto" | "always" | "never";

/** Whether what stands between two UTF-16 offsets of a text stays letters, whatever it reads as. */
export type IsPlain = (start: number, end: number) => boolean;

/** A part of a text that is encoded on its own: a control token, or what is between two of them. */
export interface EncodedSection {
  /** UTF-16 offsets in the text. */
  readonly start: number;
  readonly end: number;
  readonly ids: readonly number[];
  /** How many of them are before an offset of the text. */
  split(at: number): Split;
}

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
  /** The ids of {@linkcode encodeSpecial} with the parts of the text that they are of, which make up all of it. */
  encodeSections(text: string, isPlain?: IsPlain): EncodedSection[];
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
