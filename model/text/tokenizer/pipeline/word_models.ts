/**
 * Models that look whole words up: WordLevel, and WordPiece, which takes the longest token that a word
 * begins with and goes on behind it (as BERT's does).
 *
 * @module
 */
import type { SubwordModel } from "./subword_model.ts";

/** The settings of `model` in tokenizer.json. */
export interface WordSettings {
  vocab: ReadonlyMap<string, number>;
  unk_token: string;
  /** Of WordPiece alone; WordLevel has no parts of words. */
  pieces?: { continuing_subword_prefix: string; max_input_chars_per_word: number };
}

/** A WordLevel or WordPiece model. */
export class Words implements SubwordModel {
  constructor(
    readonly settings: WordSettings,
    readonly never: ReadonlySet<number> = new Set(),
  ) {}

  without(ids: ReadonlySet<number>): Words {
    return new Words(this.settings, ids);
  }

  #id(token: string): number | undefined {
    const id = this.settings.vocab.get(token);
    return id !== undefined && this.never.has(id) ? undefined : id;
  }

  encode(word: string): readonly number[] {
    const { vocab, unk_token, pieces } = this.settings;
    if (word === "") return [];
    const found = pieces === undefined ? this.#whole(word) : this.#parts(word, pieces);
    if (found !== undefined) return found;
    const unknown = vocab.get(unk_token);
    if (unknown !== undefined) return [unknown];
    // WordLevel passes over what it has no token for.
    if (pieces === undefined) return [];
    throw new RangeError(`has no token for ${JSON.stringify(word)} and no unknown token`);
  }

  #whole(word: string): number[] | undefined {
    const id = this.#id(word);
    return id === undefined ? undefined : [id];
  }

  #parts(
    word: string,
    { continuing_subword_prefix: prefix, max_input_chars_per_word }: NonNullable<
      WordSettings["pieces"]
    >,
  ): number[] | undefined {
    const characters = [...word];
    if (characters.length > max_input_chars_per_word) return undefined;
    const ids: number[] = [];
    for (let start = 0; start < characters.length;) {
      let end = characters.length;
      let id: number | undefined;
      for (; end > start; end--) {
        const part = characters.slice(start, end).join("");
        id = this.#id(start > 0 ? prefix + part : part);
        if (id !== undefined) break;
      }
      if (id === undefined) return undefined;
      ids.push(id);
      start = end;
    }
    return ids;
  }
}
