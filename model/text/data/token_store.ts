/**
 * Tokenised samples that are kept in a few typed arrays.
 *
 * @module
 */
import type { PreferencePart, SampleGroup, TokenizedSample } from "../prompt.ts";
import type { Span } from "../targets.ts";
import { wholeNumbers } from "./numbers.ts";
import type { SampleList } from "./sample_list.ts";

/** Ids of a block at least. */
const BLOCK_IDS = 1 << 18;

/** Parts by number; 0 is none. */
const PARTS: readonly (PreferencePart | undefined)[] = [undefined, "chosen", "rejected", "prompt"];

/** Samples in groups, each of which is made anew from arrays when it is asked for. */
export class TokenStore implements SampleList {
  /** Ids of samples, none of which is cut by the end of a block. */
  readonly #blocks: Uint32Array[] = [];
  #room = 0;
  /** Where the samples of a group begin, and where the last one's end. */
  readonly #groups = wholeNumbers();
  /** Of a sample: its block and place there, its ids, where its targets begin, and its part and whether it is cut. */
  readonly #block = wholeNumbers();
  readonly #place = wholeNumbers();
  readonly #count = wholeNumbers();
  readonly #firstTarget = wholeNumbers();
  readonly #kind = wholeNumbers();
  /** Begin and end of every target. */
  readonly #targets = wholeNumbers();

  constructor() {
    this.#groups.push(0);
    this.#firstTarget.push(0);
  }

  /** Groups. */
  get length(): number {
    return this.#groups.length - 1;
  }

  add(group: SampleGroup): void {
    for (const sample of group) this.#add(sample);
    this.#groups.push(this.#block.length);
  }

  at(index: number): SampleGroup | undefined {
    if (index < 0 || index >= this.length) return undefined;
    const first = this.#groups.at(index), end = this.#groups.at(index + 1);
    return Array.from({ length: end - first }, (_, i) => this.#sample(first + i));
  }

  *[Symbol.iterator](): Generator<SampleGroup, void> {
    for (let i = 0; i < this.length; i++) yield this.at(i) ?? [];
  }

  #add({ ids, targets, truncated, part }: TokenizedSample): void {
    if (this.#room < ids.length) {
      this.#room = Math.max(BLOCK_IDS, ids.length);
      this.#blocks.push(new Uint32Array(this.#room));
    }
    const last = this.#blocks.length - 1, block = this.#blocks[last];
    const place = block.length - this.#room;
    block.set(ids, place);
    this.#room -= ids.length;
    this.#block.push(last);
    this.#place.push(place);
    this.#count.push(ids.length);
    for (const bound of targets.flat()) this.#targets.push(bound);
    this.#firstTarget.push(this.#targets.length);
    this.#kind.push(2 * PARTS.indexOf(part) + (truncated ? 1 : 0));
  }

  #sample(index: number): TokenizedSample {
    const place = this.#place.at(index), kind = this.#kind.at(index), targets: Span[] = [];
    const end = this.#firstTarget.at(index + 1);
    for (let at = this.#firstTarget.at(index); at < end; at += 2) {
      targets.push([this.#targets.at(at), this.#targets.at(at + 1)]);
    }
    const ids = this.#blocks[this.#block.at(index)].subarray(place, place + this.#count.at(index));
    const part = PARTS[kind >> 1], truncated = (kind & 1) === 1;
    return part === undefined ? { ids, targets, truncated } : { ids, targets, truncated, part };
  }
}
