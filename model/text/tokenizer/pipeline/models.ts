/**
 * The `model` of a tokenizer.json, read and written.
 *
 * @module
 */
import { brief, isObject } from "../../../files/json_file.ts";
import type { BaseVocabulary } from "./added_tokens.ts";
import { Bpe, type BpeSettings } from "./bpe.ts";
import type { SubwordModel } from "./subword_model.ts";
import { Unigram, type UnigramSettings } from "./unigram.ts";
import { Words, type WordSettings } from "./word_models.ts";

/** A model and its settings. */
export type ModelSettings =
  | { type: "BPE"; settings: BpeSettings }
  | { type: "Unigram"; settings: UnigramSettings }
  | { type: "WordLevel" | "WordPiece"; settings: WordSettings };

/** Largest id taken, beyond any vocabulary in use. */
const MAX_ID = 2 ** 24;

/** The ids of a `vocab` object. @throws {RangeError} where it is none. */
export function readVocab(vocab: unknown): Map<string, number> {
  if (!isObject(vocab)) throw new RangeError("has no model.vocab object");
  const ids = new Map<string, number>();
  for (const [token, id] of Object.entries(vocab)) {
    if (!Number.isSafeInteger(id) || (id as number) < 0 || (id as number) >= MAX_ID) {
      throw new RangeError(
        `has id ${brief(id)} for ${brief(token)}, expected a whole number below ${MAX_ID}`,
      );
    }
    ids.set(token, id as number);
  }
  if (ids.size === 0) throw new RangeError("has an empty model.vocab");
  return ids;
}

/** The pairs of a `merges` list: two tokens, or both in one text with a space between them. */
export function readMerges(merges: unknown): [string, string][] {
  if (!Array.isArray(merges)) throw new RangeError("has no model.merges list");
  const texts = typeof merges[0] === "string";
  return merges.map((merge, i): [string, string] => {
    const pair = typeof merge === "string" ? merge.split(" ") : merge;
    if (Array.isArray(pair) && pair.length === 2 && texts === (typeof merge === "string")) {
      const [left, right] = pair;
      if (typeof left === "string" && typeof right === "string") return [left, right];
    }
    throw new RangeError(`has ${brief(merge)} as model.merges[${i}], expected two tokens`);
  });
}

/** The pieces of a Unigram `vocab` list. */
export function readPieces(vocab: unknown): [string, number][] {
  if (!Array.isArray(vocab)) throw new RangeError("has no model.vocab list");
  if (vocab.length === 0) throw new RangeError("has an empty model.vocab");
  if (vocab.length >= MAX_ID) throw new RangeError(`has more than ${MAX_ID} tokens`);
  return vocab.map((entry, i): [string, number] => {
    if (Array.isArray(entry) && typeof entry[0] === "string" && Number.isFinite(entry[1])) {
      return [entry[0], entry[1]];
    }
    throw new RangeError(
      `has ${brief(entry)} as model.vocab[${i}], expected a piece and its logarithmic probability`,
    );
  });
}

/** Settings of a model that are true or false, texts or numbers. */
class Settings {
  constructor(readonly model: Record<string, unknown>) {}

  #fail(key: string, expected: string): never {
    throw new RangeError(`has ${brief(this.model[key])} as model.${key}, expected ${expected}`);
  }

  text(key: string): string | undefined {
    const value = this.model[key] ?? undefined;
    return value === undefined || typeof value === "string" ? value : this.#fail(key, "a text");
  }

  flag(key: string): boolean {
    const value = this.model[key] ?? false;
    return typeof value === "boolean" ? value : this.#fail(key, "true or false");
  }

  count(key: string): number | undefined {
    const value = this.model[key] ?? undefined;
    if (value === undefined || (Number.isSafeInteger(value) && (value as number) >= 0)) {
      return value as number | undefined;
    }
    this.#fail(key, "a whole number");
  }
}

/** The type, which files of older versions leave out. */
function modelType(model: Record<string, unknown>): unknown {
  if (model.type !== undefined) return model.type;
  if (Array.isArray(model.vocab)) return "Unigram";
  if (model.merges !== undefined) return "BPE";
  return model.max_input_chars_per_word === undefined ? "WordLevel" : "WordPiece";
}

/** @throws {RangeError} naming what is wrong or not supported. */
export function readModel(json: unknown): ModelSettings {
  if (!isObject(json)) throw new RangeError("has no model");
  const type = modelType(json), given = new Settings(json);
  switch (type) {
    case "BPE":
      if (json.dropout) {
        throw new RangeError(
          "has a model with dropout, which cuts the same text otherwise each time; expected null",
        );
      }
      return {
        type,
        settings: {
          vocab: readVocab(json.vocab),
          merges: readMerges(json.merges),
          unk_token: given.text("unk_token"),
          continuing_subword_prefix: given.text("continuing_subword_prefix") ?? "",
          end_of_word_suffix: given.text("end_of_word_suffix") ?? "",
          fuse_unk: given.flag("fuse_unk"),
          byte_fallback: given.flag("byte_fallback"),
          ignore_merges: given.flag("ignore_merges"),
        },
      };
    case "Unigram":
      return {
        type,
        settings: {
          vocab: readPieces(json.vocab),
          unk_id: given.count("unk_id"),
          byte_fallback: given.flag("byte_fallback"),
        },
      };
    case "WordLevel":
    case "WordPiece":
      return {
        type,
        settings: {
          vocab: readVocab(json.vocab),
          unk_token: given.text("unk_token") ?? "",
          pieces: type === "WordLevel" ? undefined : {
            continuing_subword_prefix: given.text("continuing_subword_prefix") ?? "##",
            max_input_chars_per_word: given.count("max_input_chars_per_word") ?? 100,
          },
        },
      };
    default:
      throw new RangeError(
        `has a model of type ${brief(type)}, expected BPE, Unigram, WordPiece or WordLevel`,
      );
  }
}

/** @throws {RangeError} naming what is wrong with the settings. */
export function buildModel({ type, settings }: ModelSettings): SubwordModel {
  switch (type) {
    case "BPE":
      return new Bpe(settings);
    case "Unigram":
      return new Unigram(settings);
    default:
      return new Words(settings);
  }
}

/** The tokens of a model with their ids; of a piece that stands there twice the last. */
export function tokenIds({ type, settings }: ModelSettings): ReadonlyMap<string, number> {
  if (type !== "Unigram") return settings.vocab;
  return new Map(settings.vocab.map(([piece], id) => [piece, id]));
}

/** A model's vocabulary as added tokens see it. */
export function baseVocabulary(model: ModelSettings): BaseVocabulary {
  const ids = tokenIds(model);
  const size = model.type === "Unigram" ? model.settings.vocab.length : ids.size;
  return { size, id: (token) => ids.get(token) };
}

/** The id of the model's unknown token. */
export function unknownId({ type, settings }: ModelSettings): number | undefined {
  if (type === "Unigram") return settings.unk_id;
  return settings.unk_token === undefined ? undefined : settings.vocab.get(settings.unk_token);
}

/** The model as tokenizer.json has it. */
export function modelJson({ type, settings }: ModelSettings): Record<string, unknown> {
  if (type === "Unigram") return { type, unk_id: null, ...settings };
  const vocab = Object.fromEntries([...settings.vocab].sort(([, a], [, b]) => a - b));
  if (type === "BPE") {
    return {
      type,
      dropout: null,
      unk_token: settings.unk_token ?? null,
      continuing_subword_prefix: settings.continuing_subword_prefix || null,
      end_of_word_suffix: settings.end_of_word_suffix || null,
      fuse_unk: settings.fuse_unk,
      byte_fallback: settings.byte_fallback,
      ignore_merges: settings.ignore_merges,
      vocab,
      merges: settings.merges,
    };
  }
  const { unk_token, pieces } = settings;
  return { type, unk_token, ...pieces, vocab };
}
