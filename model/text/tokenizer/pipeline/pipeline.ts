/**
 * What a tokenizer.json describes, computed: added tokens are found, the text between them is normalized,
 * cut into words, and each word into tokens; and back.
 *
 * @module
 */
import { type AddedToken, AddedVocabulary } from "./added_tokens.ts";
import { decoder } from "./decoders.ts";
import {
  baseVocabulary,
  buildModel,
  modelJson,
  type ModelSettings,
  tokenIds,
  unknownId,
} from "./models.ts";
import { type Normalizer, normalizer } from "./normalizers.ts";
import { type PreTokenizer, preTokenizer, type Word } from "./pre_tokenizers.ts";
import type { Patterns } from "./steps.ts";
import type { SubwordModel } from "./subword_model.ts";
import { pieceByte, pieceBytes } from "../pieces.ts";
import { controlSection, splitter } from "../token_places.ts";
import type { EncodedSection, IsPlain } from "../tokenizer.ts";
import { tokenBytes } from "./byte_level.ts";

/** The parts of a tokenizer.json; `post_processor` can be set later, when ids are known. */
export interface PipelineParts {
  model: ModelSettings;
  normalizer: unknown;
  pre_tokenizer: unknown;
  decoder: unknown;
  post_processor: unknown;
}

/** Where tokens that are found in a normalized section stand in the text itself. */
class OriginalPlaces {
  constructor(readonly text: string, readonly section: { start: number; end: number }) {}

  /**
   * The place of what was found at `at`: of as many occurrences on both sides the one of the same number, else
   * the whole section.
   */
  of(content: string, normalized: string, at: number): { start: number; end: number } {
    const { start, end } = this.section;
    const here = occurrences(this.text.slice(start, end), content);
    const there = occurrences(normalized, content);
    const place = here.length === there.length ? here[there.indexOf(at)] : undefined;
    if (place === undefined) return this.section;
    return { start: start + place, end: start + place + content.length };
  }
}

/** Where `part` stands in a text. */
function occurrences(text: string, part: string): number[] {
  const places: number[] = [];
  for (let at = text.indexOf(part); at >= 0; at = text.indexOf(part, at + 1)) places.push(at);
  return places;
}

/**
 * Which added tokens count where they are written out in a text: all; those that are no control tokens, so that
 * control tokens stay letters; or the same, except that the model's own vocabulary may hold a control token
 * (`split_special_tokens` of `transformers`).
 */
export type Parsed = "all" | "ordinary" | "split";

/** An executable tokenizer.json. */
export class Pipeline {
  readonly added: AddedVocabulary;
  readonly #normalize: Normalizer;
  readonly #preTokenize: PreTokenizer;
  readonly #decode: (tokens: readonly string[]) => string;
  readonly #model: SubwordModel;
  #plainModel: SubwordModel | undefined;
  #texts: Map<number, string> | undefined;

  /** @throws {RangeError} naming what is wrong or can't be computed. */
  constructor(readonly parts: PipelineParts, patterns: Patterns) {
    this.#normalize = normalizer(parts.normalizer, patterns);
    this.#preTokenize = preTokenizer(parts.pre_tokenizer, patterns);
    this.#decode = decoder(parts.decoder, patterns);
    this.#model = buildModel(parts.model);
    this.added = new AddedVocabulary(
      baseVocabulary(parts.model),
      (text) => this.#normalize(text).text,
    );
  }

  /** Texts of the tokens by id. */
  get texts(): ReadonlyMap<number, string> {
    if (this.#texts !== undefined) return this.#texts;
    const texts = new Map<number, string>();
    for (const [token, id] of tokenIds(this.parts.model)) texts.set(id, token);
    for (const [id, { content }] of this.added.tokens) texts.set(id, content);
    return this.#texts = texts;
  }

  /** The model that no control token comes out of, whatever the letters. */
  get #plain(): SubwordModel {
    if (this.#plainModel !== undefined) return this.#plainModel;
    const unknown = unknownId(this.parts.model);
    const never = [...this.added.tokens]
      .filter(([id, { content }]) => id !== unknown && this.added.isSpecial(content))
      .map(([id]) => id);
    return this.#plainModel = this.#model.without(new Set(never));
  }

  /**
   * Ids of a well-formed text.
   *
   * @param options `first`: whether it begins the whole text. `isPlain`: whether what stands between two
   *   UTF-16 offsets stays letters though it reads as a control token.
   */
  encode(
    text: string,
    parsed: Parsed,
    { first = true, isPlain }: { first?: boolean; isPlain?: IsPlain } = {},
  ): number[] {
    return this.sections(text, parsed, { first, isPlain }).flatMap(({ ids }) => ids);
  }

  /** The ids of {@linkcode encode} with the parts of the text that they are of. */
  sections(
    text: string,
    parsed: Parsed,
    { first = true, isPlain }: { first?: boolean; isPlain?: IsPlain } = {},
  ): EncodedSection[] {
    const letters = parsed === "ordinary" || (parsed === "all" && isPlain !== undefined);
    const model = letters ? this.#plain : this.#model;
    const counts = ({ content }: AddedToken, start: number, end: number) =>
      !this.added.isSpecial(content) || (parsed === "all" && !isPlain?.(start, end));
    const encode = (text: string, section: { start: number; end: number }): number[] => {
      const normal = this.#normalize(text.slice(section.start, section.end));
      const begins = first && section.start === 0 && !normal.shifted;
      const places = isPlain === undefined ? undefined : new OriginalPlaces(text, section);
      const takes = (token: AddedToken, start: number) => {
        const place = places?.of(token.content, normal.text, start) ?? section;
        return counts(token, place.start, place.end);
      };
      const ids: number[] = [];
      for (const { id, start, end } of this.added.normalizedSections(normal.text, takes)) {
        const part: Word = {
          text: normal.text.slice(start, end),
          first: begins && start === 0,
        };
        if (id !== undefined) ids.push(id);
        else this.#words(part, model, ids);
      }
      return ids;
    };
    return this.added.sections(text, counts).map(({ start, end, id }): EncodedSection => {
      if (id !== undefined) return controlSection(id, start, end);
      const ids = encode(text, { start, end });
      const split = splitter({
        text: text.slice(start, end),
        ids,
        bytesOf: (id) => this.#bytesOf(id),
        encodeUpTo: (at) => encode(text.slice(0, start + at), { start, end: start + at }),
      });
      return { start, end, ids, split: (at) => split(at - start) };
    });
  }

  /** How many bytes of a text a token stands for. */
  #bytesOf(id: number): number | undefined {
    const token = this.texts.get(id);
    if (token === undefined || this.added.isSpecial(token)) return undefined;
    if (this.#isByteLevel) return tokenBytes(token).length;
    return pieceByte(token) === undefined ? pieceBytes(token) : 1;
  }

  /** Whether tokens are written in the alphabet of bytes. */
  get #isByteLevel(): boolean {
    const { pre_tokenizer, normalizer } = this.parts;
    return JSON.stringify([pre_tokenizer, normalizer]).includes('"ByteLevel"');
  }

  #words(part: Word, model: SubwordModel, ids: number[]): void {
    if (part.text === "") return;
    for (const { text } of this.#preTokenize([part])) {
      for (const id of model.encode(text)) ids.push(id);
    }
  }

  /** The text of tokens; control tokens and ids that there are not add nothing. */
  decode(ids: readonly number[]): string {
    const tokens: string[] = [];
    for (const id of ids) {
      const token = this.texts.get(id);
      if (token !== undefined && !this.added.isSpecial(token)) tokens.push(token);
    }
    return this.#decode(tokens);
  }

  /** All of it as a tokenizer.json. */
  json(): Record<string, unknown> {
    const { normalizer, pre_tokenizer, post_processor, decoder, model } = this.parts;
    return {
      version: "1.0",
      truncation: null,
      padding: null,
      added_tokens: [...this.added.tokens].sort(([a], [b]) => a - b)
        .map(([id, token]) => ({ id, ...token })),
      normalizer: normalizer ?? null,
      pre_tokenizer: pre_tokenizer ?? null,
      post_processor: post_processor ?? null,
      decoder: decoder ?? null,
      model: modelJson(model),
    };
  }
}
