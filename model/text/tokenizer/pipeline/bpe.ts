/**
 * Byte-pair encoding as the Rust library `tokenizers` computes it: characters first, then always the pair
 * whose merge was learnt first, the leftmost of several.
 *
 * @module
 */
import { bytePiece, SPACE_SYMBOL } from "../pieces.ts";
import { PairTable } from "./pair_table.ts";
import type { SubwordModel } from "./subword_model.ts";
import { WordCache } from "./word_cache.ts";

/** The settings of `model` in tokenizer.json. */
export interface BpeSettings {
  vocab: ReadonlyMap<string, number>;
  merges: readonly (readonly [string, string])[];
  unk_token?: string;
  continuing_subword_prefix: string;
  end_of_word_suffix: string;
  fuse_unk: boolean;
  byte_fallback: boolean;
  ignore_merges: boolean;
}

/** Longer words are merged with a queue, shorter ones by looking through them. */
const SHORT = 32;

/** A space behind something else. */
const SPACE_INSIDE = /[^\u2581]\u2581/;

/** The learnt merges: the rank of each pair, and the token that each rank makes. */
interface Merges {
  ranks: PairTable;
  merged: Uint32Array;
}

/** @throws {RangeError} naming a merge of tokens that the vocabulary lacks. */
function readMerges({ vocab, merges, continuing_subword_prefix: prefix }: BpeSettings): Merges {
  const ranks = new PairTable(merges.length);
  const merged = new Uint32Array(merges.length);
  const tokens: string[] = [];
  for (const [token, id] of vocab) tokens[id] = token;
  // Most files number tokens in the order of their merges: to look is faster than to join two texts.
  let likely = -1;
  const isLikely = (left: string, right: string) => {
    const token = tokens[likely];
    return token?.length === left.length + right.length && token.startsWith(left) &&
      token.endsWith(right);
  };
  for (let rank = 0; rank < merges.length; rank++) {
    const [left, right] = merges[rank];
    const a = vocab.get(left), b = vocab.get(right), rest = right.slice(prefix.length);
    const whole = isLikely(left, rest) ? likely : vocab.get(left + rest);
    if (a === undefined || b === undefined || whole === undefined) {
      const merge = JSON.stringify([left, right]);
      throw new RangeError(
        `has the merge ${merge}, of which model.vocab lacks a part or the whole`,
      );
    }
    ranks.set(a, b, rank);
    merged[rank] = whole;
    likely = whole + 1;
  }
  return { ranks, merged };
}

/** A queue of numbers, the smallest first. */
class Queue {
  readonly #heap: number[] = [];

  push(value: number): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(value);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (heap[parent] <= value) break;
      heap[at] = heap[parent];
      at = parent;
    }
    heap[at] = value;
  }

  pop(): number | undefined {
    const heap = this.#heap;
    const first = heap[0], last = heap.pop();
    if (last === undefined || heap.length === 0) return last;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && heap[child + 1] < heap[child]) child++;
      if (heap[child] >= last) break;
      heap[at] = heap[child];
      at = child;
    }
    heap[at] = last;
    return first;
  }
}

/** A BPE model. */
export class Bpe implements SubwordModel {
  readonly #merges: Merges;
  readonly #unknown: number | undefined;
  /** Whether a text may be cut before each run of U+2581: no merge reaches over such a place. */
  readonly #cuts: boolean;
  readonly #bytes: readonly (number | undefined)[];
  readonly #cache = new WordCache();

  /**
   * @param never Ids that no text becomes.
   * @throws {RangeError} naming what is wrong with the settings.
   */
  constructor(
    readonly settings: BpeSettings,
    readonly never: ReadonlySet<number> = new Set(),
    merges: Merges = readMerges(settings),
  ) {
    const { vocab, unk_token, byte_fallback } = settings;
    this.#merges = merges;
    this.#unknown = unk_token === undefined ? undefined : vocab.get(unk_token);
    this.#bytes = byte_fallback
      ? Array.from({ length: 256 }, (_, byte) => vocab.get(bytePiece(byte)))
      : [];
    this.#cuts = settings.continuing_subword_prefix === "" &&
      settings.end_of_word_suffix === "" &&
      this.#id(SPACE_SYMBOL) !== undefined &&
      !settings.merges.some(([left, right]) =>
        right.startsWith(SPACE_SYMBOL) && !left.endsWith(SPACE_SYMBOL) ||
        SPACE_INSIDE.test(left) || SPACE_INSIDE.test(right)
      );
  }

  without(ids: ReadonlySet<number>): Bpe {
    return new Bpe(this.settings, ids, this.#merges);
  }

  #id(token: string): number | undefined {
    const id = this.settings.vocab.get(token);
    return id !== undefined && this.never.has(id) ? undefined : id;
  }

  encode(text: string): readonly number[] {
    if (text === "") return [];
    if (this.settings.ignore_merges) {
      const id = this.#id(text);
      if (id !== undefined) return [id];
    }
    if (!this.#cuts) return this.#word(text);
    const ids: number[] = [];
    let start = 0;
    for (let at = text.indexOf(SPACE_SYMBOL, 1); at > 0; at = text.indexOf(SPACE_SYMBOL, at + 1)) {
      if (text[at - 1] === SPACE_SYMBOL) continue;
      for (const id of this.#word(text.slice(start, at))) ids.push(id);
      start = at;
    }
    if (start === 0) return this.#word(text);
    for (const id of this.#word(text.slice(start))) ids.push(id);
    return ids;
  }

  #word(word: string): readonly number[] {
    const known = this.#cache.get(word);
    if (known !== undefined) return known;
    const ids = this.#characters(word);
    const merged = ids.length <= SHORT ? this.#mergeShort(ids) : this.#mergeLong(ids);
    this.#cache.set(word, merged);
    return merged;
  }

  /** The tokens of the single characters. */
  #characters(word: string): number[] {
    const { continuing_subword_prefix, end_of_word_suffix, unk_token, fuse_unk, byte_fallback } =
      this.settings;
    const ids: number[] = [];
    let unknown = false, at = 0;
    for (const character of word) {
      let token = character;
      if (at > 0) token = continuing_subword_prefix + token;
      at += character.length;
      if (at === word.length) token += end_of_word_suffix;
      const id = this.#id(token);
      if (id !== undefined) {
        if (unknown) ids.push(this.#unknownId(word));
        unknown = false;
        ids.push(id);
        continue;
      }
      if (byte_fallback) {
        const bytes = Array.from(new TextEncoder().encode(token), (byte) => this.#bytes[byte]);
        if (!bytes.includes(undefined)) {
          // An unknown character before is written after the bytes, as the library does.
          for (const byte of bytes) ids.push(byte as number);
          continue;
        }
      }
      if (unk_token === undefined) continue;
      if (unknown && !fuse_unk) ids.push(this.#unknownId(character));
      unknown = true;
    }
    if (unknown) ids.push(this.#unknownId(word));
    return ids;
  }

  /** @throws {RangeError} where the vocabulary lacks the unknown token. */
  #unknownId(text: string): number {
    if (this.#unknown !== undefined) return this.#unknown;
    const unknown = JSON.stringify(this.settings.unk_token);
    throw new RangeError(
      `has no token for ${
        JSON.stringify(text)
      }, and model.vocab lacks ${unknown}, its model.unk_token`,
    );
  }

  /** The rank of a pair, Infinity where it makes no token. */
  #rank(left: number, right: number): number {
    const rank = this.#merges.ranks.get(left, right);
    if (rank < 0 || this.never.has(this.#merges.merged[rank])) return Infinity;
    return rank;
  }

  #mergeShort(ids: number[]): number[] {
    const ranks = ids.slice(1).map((right, i) => this.#rank(ids[i], right));
    for (;;) {
      let best = Infinity, at = -1;
      for (let i = 0; i < ranks.length; i++) {
        if (ranks[i] < best) [best, at] = [ranks[i], i];
      }
      if (at < 0) return ids;
      ids[at] = this.#merges.merged[best];
      ids.splice(at + 1, 1);
      ranks.splice(at, 1);
      if (at > 0) ranks[at - 1] = this.#rank(ids[at - 1], ids[at]);
      if (at < ranks.length) ranks[at] = this.#rank(ids[at], ids[at + 1]);
    }
  }

  #mergeLong(ids: number[]): number[] {
    const count = ids.length;
    const next = Int32Array.from(ids, (_, i) => i + 1),
      before = Int32Array.from(ids, (_, i) => i - 1);
    const queue = new Queue();
    // The rank is above the position, so that the smallest number is the leftmost of the first merge.
    const add = (at: number) => {
      const rank = this.#rank(ids[at], ids[next[at]]);
      if (rank < Infinity) queue.push(rank * count + at);
    };
    for (let i = 0; i + 1 < count; i++) add(i);
    for (let top = queue.pop(); top !== undefined; top = queue.pop()) {
      const rank = Math.floor(top / count), at = top - rank * count, right = next[at];
      // One of the two may have become part of another token since.
      if (ids[at] < 0 || right >= count || this.#rank(ids[at], ids[right]) !== rank) continue;
      ids[at] = this.#merges.merged[rank];
      ids[right] = -1;
      next[at] = next[right];
      if (next[at] < count) before[next[at]] = at;
      if (before[at] >= 0) add(before[at]);
      if (next[at] < count) add(at);
    }
    return ids.filter((id) => id >= 0);
  }
}
