/**
 * Hugging Face's `tokenizer.json`: byte-level BPE (Llama 3, SmolLM) and SentencePiece BPE in that form
 * (TinyLlama, Mistral), through the tokenizers library.
 *
 * @module
 */
import { dirname, join } from "node:path";
import { Tokenizer as Library } from "tokenizers";
import { UserError } from "../../kernels/errors.ts";
import { brief, exists, isObject, readJson } from "../files/weights.ts";
import { decodePieces, type Piece, pieceByte } from "./pieces.ts";
import { joinText, splitSpecial } from "./special_tokens.ts";
import type { Tokenizer } from "./tokenizer.ts";
import { type Decoding, decoding, normalizer, preTokenizer } from "./tokenizer_pipeline.ts";

/** Largest id taken, beyond any vocabulary in use. */
const MAX_ID = 2 ** 24;

/**
 * Stands for a control token in the text that the library sees. No text holds it: a well-formed one has
 * a low surrogate behind every high one.
 */
const MARK = "\ud800\ud800";

/** An entry of `added_tokens`. */
interface AddedToken extends Record<string, unknown> {
  id: number;
  content: string;
  special: boolean;
}

/** What is used of the file, checked. */
interface TokenizerFile {
  vocab: Map<string, number>;
  merges: (string | string[])[];
  added: AddedToken[];
  /** The model's other settings. */
  model: Record<string, unknown>;
  decoding: Decoding;
  normalizer: unknown;
  preTokenizer: unknown;
}

function checkId(id: unknown, token: string): number {
  if (Number.isSafeInteger(id) && (id as number) >= 0 && (id as number) < MAX_ID) {
    return id as number;
  }
  throw new RangeError(
    `has id ${brief(id)} for ${brief(token)}, expected a whole number below ${MAX_ID}`,
  );
}

function readVocab(vocab: unknown): Map<string, number> {
  if (!isObject(vocab)) throw new RangeError("has no model.vocab object");
  const entries = Object.entries(vocab);
  if (entries.length === 0) throw new RangeError("has an empty model.vocab");
  return new Map(entries.map(([token, id]) => [token, checkId(id, token)]));
}

function readMerges(merges: unknown): (string | string[])[] {
  if (!Array.isArray(merges)) throw new RangeError("has no model.merges list");
  const isText = (part: unknown) => typeof part === "string";
  for (const [i, merge] of merges.entries()) {
    const pair = Array.isArray(merge) ? merge : isText(merge) ? merge.split(" ") : [];
    if (pair.length !== 2 || !pair.every(isText) || isText(merge) !== isText(merges[0])) {
      throw new RangeError(`has ${brief(merge)} as model.merges[${i}], expected two tokens`);
    }
  }
  return merges;
}

function readAdded(added: unknown): AddedToken[] {
  if (added === undefined || added === null) return [];
  if (!Array.isArray(added)) throw new RangeError("has an added_tokens that is no list");
  return added.map((token) => {
    if (!isObject(token) || typeof token.content !== "string" || token.content === "") {
      throw new RangeError(`has ${brief(token)} among added_tokens, expected an id and a content`);
    }
    const { content } = token;
    return { ...token, content, id: checkId(token.id, content), special: token.special === true };
  });
}

function readFile(file: string): TokenizerFile {
  const json = readJson(file);
  if (!isObject(json) || !isObject(json.model)) throw new RangeError("has no model");
  const { type, vocab, merges, ...model } = json.model;
  if (type !== "BPE") {
    throw new RangeError(
      `has a model of type ${brief(type)}, expected "BPE", which every Llama uses`,
    );
  }
  for (const key of ["continuing_subword_prefix", "end_of_word_suffix"]) {
    if (model[key]) throw new RangeError(`has a model with ${key}, which is not supported`);
  }
  return {
    vocab: readVocab(vocab),
    merges: readMerges(merges),
    added: readAdded(json.added_tokens),
    model,
    decoding: decoding(json.decoder),
    normalizer: normalizer(json.normalizer),
    preTokenizer: preTokenizer(json.pre_tokenizer),
  };
}

/**
 * The id of BOS or EOS: by its text in `tokenizer_config.json` or `special_tokens_map.json`, else by its
 * number (the first of several) in `config.json`.
 */
function controlId(
  file: string,
  name: "bos" | "eos",
  idOf: (token: string) => number | undefined,
): number {
  const beside = (other: string) => join(dirname(file), other);
  for (const path of ["tokenizer_config.json", "special_tokens_map.json"].map(beside)) {
    const json = exists(path) ? readJson(path) : {};
    if (!isObject(json)) throw new UserError(`${path}: is ${brief(json)}, expected an object`);
    const value = json[`${name}_token`] ?? undefined;
    const token = isObject(value) ? value.content : value;
    if (token === undefined) continue;
    const id = typeof token === "string" ? idOf(token) : undefined;
    if (id !== undefined) return id;
    throw new UserError(`${path}: ${name}_token is ${brief(value)}, expected a token of ${file}`);
  }
  const path = beside("config.json");
  const json = exists(path) ? readJson(path) : undefined;
  const value = isObject(json) ? json[`${name}_token_id`] : undefined;
  const id = Array.isArray(value) ? value[0] : value;
  if (Number.isSafeInteger(id) && id >= 0) return id;
  throw new UserError(
    `tokenizer "${file}" does not say which token is ${name.toUpperCase()}; expected ${name}_token in ` +
      "tokenizer_config.json or special_tokens_map.json beside it",
  );
}

/**
 * The library's tokenizer without control tokens: they are no part of its vocabulary, and no merge makes
 * one, so that text never becomes one. `MARK` is its only added token that text can't hold.
 */
function startLibrary(
  file: TokenizerFile,
  special: ReadonlyMap<string, number>,
  markId: number,
): Library {
  const unknown = file.model.unk_token;
  const isSpecial = (token: string) => special.has(token) && token !== unknown;
  const made = (merge: string | string[]) =>
    typeof merge === "string" ? merge.replace(" ", "") : merge.join("");
  return new Library({
    normalizer: file.normalizer,
    pre_tokenizer: file.preTokenizer,
    post_processor: null,
    // Pieces are decoded by decodePieces: the library loses a U+FEFF made of byte tokens.
    decoder: file.decoding.kind === "bytes" ? { type: "ByteLevel" } : null,
    added_tokens: [
      ...file.added.filter(({ content }) => !special.has(content)),
      { id: markId, content: MARK, special: true, normalized: false },
    ],
    model: {
      ...file.model,
      type: "BPE",
      vocab: Object.fromEntries([...file.vocab].filter(([token]) => !isSpecial(token))),
      merges: file.merges.filter((merge) => !special.has(made(merge))),
    },
  }, {});
}

/** The tokens as pieces, by id. */
function pieceList(
  { vocab, added }: TokenizerFile,
  special: Iterable<number>,
  byteFallback: boolean,
): Piece[] {
  const pieces: Piece[] = [];
  for (const [token, id] of vocab) {
    pieces[id] = (byteFallback ? pieceByte(token) : undefined) ?? token;
  }
  for (const { id, content } of added) pieces[id] = content;
  for (const id of special) pieces[id] = null;
  return pieces;
}

/**
 * Loads a `tokenizer.json`; BOS and EOS are those that `tokenizer_config.json`, `special_tokens_map.json`
 * or `config.json` beside it name.
 *
 * Texts decode as they were made: the clean-up that some `tokenizer_config.json` ask for, which takes
 * the space out of " ." and the like, is not done.
 *
 * @throws {UserError} When a file is missing, broken, of another kind of model, or without BOS or EOS.
 */
export function loadTokenizerJson(file: string): Tokenizer {
  try {
    return build(file, readFile(file));
  } catch (error) {
    if (error instanceof UserError || !(error instanceof Error)) throw error;
    const says = error instanceof RangeError ? error.message : `can't be used: ${error.message}`;
    throw new UserError(`tokenizer "${file}" ${says}`);
  }
}

function build(file: string, parts: TokenizerFile): Tokenizer {
  const addedIds = new Map(parts.added.map(({ content, id }) => [content, id]));
  const idOf = (token: string) => addedIds.get(token) ?? parts.vocab.get(token);
  let vocab_size = 0;
  const tokenOf = new Map<number, string>();
  for (const [token, id] of [...parts.vocab, ...addedIds]) {
    tokenOf.set(id, token);
    vocab_size = Math.max(vocab_size, id + 1);
  }
  const unknown = parts.model.unk_token ?? undefined;
  if (unknown !== undefined && !parts.vocab.has(unknown as string)) {
    throw new RangeError(`has ${brief(unknown)} as model.unk_token, which model.vocab lacks`);
  }
  const bos_id = controlId(file, "bos", idOf), eos_id = controlId(file, "eos", idOf);
  const special_tokens = new Map<string, number>();
  for (const { content, id, special } of parts.added) if (special) special_tokens.set(content, id);
  for (const id of [bos_id, eos_id]) {
    const token = tokenOf.get(id);
    if (token === undefined) {
      throw new RangeError(`has no token ${id}, which config.json names for BOS or EOS`);
    }
    special_tokens.set(token, id);
  }
  const specialIds = new Set(special_tokens.values());
  const markId = vocab_size;
  const library = startLibrary(parts, special_tokens, markId);

  const encodeParts = (given: readonly (string | number)[]) => {
    const joined = joinText(given);
    const marked = joined.map((part) => typeof part === "number" ? MARK : part.toWellFormed());
    const { ids } = library.encode(marked.join(""), { add_special_tokens: false });
    const control = joined.filter((part) => typeof part === "number").values();
    return ids.map((id) => id === markId ? control.next().value! : id);
  };
  const decode = decoder(parts, specialIds, (ids) => {
    const known = ids.filter((id) => tokenOf.has(id) && !specialIds.has(id));
    // The library refuses an empty list.
    if (known.length === 0) return "";
    return library.decode(known, { clean_up_tokenization_spaces: false });
  });
  return {
    vocab_size,
    bos_id,
    eos_id,
    prefix_ids: [bos_id],
    suffix_ids: [],
    named_tokens: new Map([
      ["bos_token", tokenOf.get(bos_id)!],
      ["eos_token", tokenOf.get(eos_id)!],
    ]),
    special_tokens,
    encode: (text) => encodeParts([text]),
    encodeSpecial: (text, isPlain) => encodeParts(splitSpecial(text, special_tokens, isPlain)),
    encodeParts,
    decode,
  };
}

function decoder(
  parts: TokenizerFile,
  special: Iterable<number>,
  decodeBytes: (ids: readonly number[]) => string,
): (ids: readonly number[]) => string {
  const how = parts.decoding;
  if (how.kind === "bytes") return decodeBytes;
  const pieces = pieceList(parts, special, how.byteFallback);
  return (ids) => decodePieces(ids, pieces, how.firstSpace);
}
