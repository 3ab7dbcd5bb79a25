/**
 * Whether a tokenizer is the model's, and tokenizers that are held to what the model knows.
 *
 * @module
 */
import { UserError } from "../../../kernels/errors.ts";
import { textEncoder } from "./text_encoding.ts";
import type { AddBos, Tokenizer } from "./tokenizer.ts";

/** What to call a tokenizer and a model in messages. */
export interface Names {
  tokenizer: string;
  model: string;
}

/**
 * Refuses a tokenizer whose vocabulary has no place in the model's embedding. Tokens that were added and
 * have no row there are fine as long as no text uses them; the opposite, rows that no id uses, is common
 * (vocabularies are padded).
 *
 * @throws {UserError} Naming both numbers, or the token that every text needs.
 */
export function vocabularyCheck(tokenizer: Tokenizer, vocab_size: number, names: Names): void {
  const { base_vocab_size, prefix_ids, suffix_ids, eos_id } = tokenizer;
  if (base_vocab_size > vocab_size) {
    throw new UserError(
      `tokenizer "${names.tokenizer}" has ${base_vocab_size} ids but model "${names.model}" has ` +
        `a vocab_size of ${vocab_size}: it is another model's; expected the tokenizer the model was ` +
        "trained with",
    );
  }
  checkIds([...prefix_ids, ...suffix_ids, eos_id], tokenizer, vocab_size, names);
}

/** @throws {UserError} naming the first id that has no row in the embedding. */
function checkIds(
  ids: readonly number[],
  tokenizer: Tokenizer,
  vocab_size: number,
  names: Names,
): void {
  const beyond = ids.find((id) => id >= vocab_size);
  if (beyond === undefined) return;
  const token = JSON.stringify(tokenizer.token(beyond) ?? "");
  throw new UserError(
    `tokenizer "${names.tokenizer}" has id ${beyond} for ${token}, but model "${names.model}" has a ` +
      `vocab_size of ${vocab_size}: the token was added and the model never learnt it; expected the ` +
      "tokenizer the model was trained with",
  );
}

/**
 * The tokenizer for a model, which refuses texts with tokens that the model has no row for.
 *
 * @throws {UserError} as {@linkcode vocabularyCheck} does.
 */
export function tokenizerForModel(
  tokenizer: Tokenizer,
  vocab_size: number,
  names: Names,
): Tokenizer {
  vocabularyCheck(tokenizer, vocab_size, names);
  if (tokenizer.vocab_size <= vocab_size) return tokenizer;
  const checked = (ids: number[]) => {
    checkIds(ids, tokenizer, vocab_size, names);
    return ids;
  };
  return {
    ...tokenizer,
    encode: (text) => checked(tokenizer.encode(text)),
    encodeSpecial: (text, isPlain) => checked(tokenizer.encodeSpecial(text, isPlain)),
    encodeSections: (text, isPlain) => {
      const sections = tokenizer.encodeSections(text, isPlain);
      sections.forEach(({ ids }) => checkIds(ids, tokenizer, vocab_size, names));
      return sections;
    },
    encodeText: (text) => checked(tokenizer.encodeText(text)),
    encodeParts: (parts) => checked(tokenizer.encodeParts(parts)),
  };
}

/**
 * The tokenizer with BOS before every text, or never. A BOS that is written out in a text stays.
 *
 * @param name What to call it in the message.
 * @throws {UserError} where it has no BOS to put there.
 */
export function withBos(tokenizer: Tokenizer, add_bos: AddBos, name: string): Tokenizer {
  if (add_bos === "auto") return tokenizer;
  const { bos_id, eos_id, prefix_ids, suffix_ids, encodeSpecial } = tokenizer;
  if (add_bos === "always" && bos_id === undefined) {
    throw new UserError(
      `--add-bos always: tokenizer "${name}" names no BOS token; expected auto or never`,
    );
  }
  const others = prefix_ids.filter((id) => id !== bos_id);
  const first = add_bos === "always" && bos_id !== undefined ? [bos_id] : [];
  const prefix = [...first, ...others];
  return {
    ...tokenizer,
    add_bos,
    prefix_ids: prefix,
    encodeText: textEncoder({ bos_id, eos_id, prefix, suffix: suffix_ids, encodeSpecial }),
  };
}

/**
 * The ids of a rendered chat template with BOS as {@linkcode withBos} was told: by itself nothing is added
 * to what the template writes.
 */
export function templateIds(
  { add_bos, bos_id }: Tokenizer,
  ids: readonly number[],
): number[] {
  if (add_bos === "auto" || bos_id === undefined) return [...ids];
  const begins = ids[0] === bos_id;
  if (add_bos === "always") return begins ? [...ids] : [bos_id, ...ids];
  return begins ? ids.slice(1) : [...ids];
}
