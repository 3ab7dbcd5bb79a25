/**
 * SentencePiece's Unigram model as the Rust library `tokenizers` computes it: the cut into pieces with
 * the greatest sum of log-probabilities (Kudo 2018, https://arxiv.org/abs/1804.10959), by Viterbi.
 *
 * @module
 */
import { bytePiece } from "../pieces.ts";
import type { SubwordModel } from "./subword_model.ts";
import { WordCache } from "./word_cache.ts";

/** The settings of `model` in tokenizer.json. */
export interface UnigramSettings {
  /** Pieces and their log-probabilities, by id. */
  vocab: readonly (readonly [string, number])[];
  unk_id?: number;
  byte_fallback: boolean;
}

/** What an unknown character costs below the least likely piece. */
const UNKNOWN_PENALTY = 10;

/** Above any code point. */
const CODE_POINTS = 0x110000;

/** The pieces by their characters. Node 0 is the root. */
class Trie {
  readonly #next = new Map<number, number>();
  readonly #ids: (number | undefined)[] = [undefined];

  insert(piece: string, id: number): void {
    let node = 0;
    for (const character of piece) {
      const key = node * CODE_POINTS + (character.codePointAt(0) as number);
      let next = this.#next.get(key);
      if (next === undefined) {
        next = this.#ids.length;
        this.#ids.push(undefined);
        this.#next.set(key, next);
      }
      node = next;
    }
    this.#ids[node] = id;
  }

  step(node: number, codePoint: number): number | undefined {
    return this.#next.get(node * CODE_POINTS + codePoint);
  }

  id(node: number): number | undefined {
    return this.#ids[node];
  }
}

/** A Unigram model. */
export class Unigram implements SubwordModel {
  readonly #trie = new Trie();
  readonly #ids = new Map<string, number>();
  readonly #least: number;
  readonly #cache = new WordCache();

  /**
   * @param never Ids that no text becomes.
   * @throws {RangeError} naming what is wrong with the settings.
   */
  constructor(readonly settings: UnigramSettings, never: ReadonlySet<number> = new Set()) {
    const { vocab, unk_id } = settings;
    if (unk_id !== undefined && unk_id >= vocab.length) {
      throw new RangeError(`has ${unk_id} as model.unk_id, but a model.vocab of ${vocab.length}`);
    }
    let least = Infinity;
    vocab.forEach(([piece, score], id) => {
      if (score < least) least = score;
      if (never.has(id)) return;
      this.#ids.set(piece, id);
      if (piece !== "") this.#trie.insert(piece, id);
    });
    this.#least = least;
  }

  without(ids: ReadonlySet<number>): Unigram {
    return new Unigram(this.settings, ids);
  }

  encode(word: string): readonly number[] {
    const known = this.#cache.get(word);
    if (known !== undefined) return known;
    const ids = this.#pieces(word).flatMap((piece) => this.#pieceIds(piece));
    this.#cache.set(word, ids);
    return ids;
  }

  #pieceIds(piece: string): number[] {
    const id = this.#ids.get(piece);
    if (id !== undefined) return [id];
    if (this.settings.byte_fallback) {
      const bytes = Array.from(
        new TextEncoder().encode(piece),
        (byte) => this.#ids.get(bytePiece(byte)),
      );
      if (!bytes.includes(undefined)) return bytes as number[];
    }
    return [this.#unknown(piece)];
  }

  #unknown(piece: string): number {
    const { unk_id } = this.settings;
    if (unk_id !== undefined) return unk_id;
    throw new RangeError(`has no piece for ${JSON.stringify(piece)} and no unknown token`);
  }

  /** The likeliest cut; unknown characters that follow each other are one piece. */
  #pieces(word: string): string[] {
    const { vocab, unk_id } = this.settings;
    const size = word.length;
    // Of the best cut that ends at each place: its score, and where its last piece begins and what it is.
    const scores = new Float64Array(size + 1);
    const starts = new Int32Array(size + 1).fill(-1);
    const ids = new Int32Array(size + 1);
    const offer = (start: number, end: number, id: number, score: number) => {
      const sum = score + scores[start];
      if (starts[end] >= 0 && sum <= scores[end]) return;
      scores[end] = sum;
      starts[end] = start;
      ids[end] = id;
    };
    for (let start = 0; start < size;) {
      const length = (word.codePointAt(start) as number) > 0xffff ? 2 : 1;
      let single = false;
      let node: number | undefined = 0;
      for (let end = start; end < size;) {
        const code = word.codePointAt(end) as number;
        node = this.#trie.step(node, code);
        if (node === undefined) break;
        end += code > 0xffff ? 2 : 1;
        const id = this.#trie.id(node);
        if (id === undefined) continue;
        offer(start, end, id, vocab[id][1]);
        single ||= end - start === length;
      }
      if (!single) {
        const unknown = this.#unknown(word.slice(start, start + length));
        offer(start, start + length, unknown, this.#least - UNKNOWN_PENALTY);
      }
      start += length;
    }
    const pieces: string[] = [];
    let fused = "";
    for (let end = size; end > 0; end = starts[end]) {
      const piece = word.slice(starts[end], end);
      if (ids[end] === unk_id) fused = piece + fused;
      else {
        if (fused !== "") pieces.push(fused);
        fused = "";
        pieces.push(piece);
      }
    }
    if (fused !== "") pieces.push(fused);
    return pieces.reverse();
  }
}
