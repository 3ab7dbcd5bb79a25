/**
 * Tokenised samples that are kept in a few typed arrays.
 *
 * @module
 */
import type { PreferencePart, SampleGroup, TokenizedSample } from "../prompt.ts";
import type { Span } from "../targets.ts";
import { wholeNumbers } from "./numbers.ts";
import type { SampleList } from "./sample_list.ts";
import { Spool } from "./spool.ts";

/** Ids of a block at least. */
const BLOCK_IDS = 1 << 18;
/** Bytes of ids that stay in memory where there is a file for more. */
const MEMORY_BYTES = 128 << 20;

/** Parts by number; 0 is none. */
const PARTS: readonly (PreferencePart | undefined)[] = [undefined, "chosen", "rejected", "prompt"];

/** A block of ids: in memory, or from a byte of the temporary file on. */
type Block = Uint32Array<ArrayBuffer> | number;

/** Samples in groups, each of which is made anew from arrays when it is asked for. */
export class TokenStore implements SampleList, Disposable {
  /** Ids of samples, none of which is cut by the end of a block. */
  readonly #blocks: Block[] = [];
  /** The block that is being filled, and what is left of it. */
  #last = new Uint32Array();
  #room = 0;
  /** Bytes of the blocks that may still go to the temporary file, the first of them, and that file. */
  #bytes = 0;
  #firstInMemory = 0;
  #spool?: Spool;
  readonly #spills: boolean;
  readonly #memoryBytes: number;
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

  /**
   * @param spills Whether ids go to a temporary file where they are many.
   * @param memoryBytes So many bytes of ids stay in memory.
   */
  constructor({ spills = false, memoryBytes = MEMORY_BYTES } = {}) {
    this.#spills = spills;
    this.#memoryBytes = memoryBytes;
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

  [Symbol.dispose](): void {
    this.#spool?.[Symbol.dispose]();
  }

  /** Makes room for so many ids. */
  #newBlock(ids: number): void {
    this.#last = new Uint32Array(Math.max(BLOCK_IDS, ids));
    this.#room = this.#last.length;
    while (this.#spills && this.#bytes > this.#memoryBytes) this.#spill();
    this.#blocks.push(this.#last);
    this.#bytes += this.#last.byteLength;
  }

  /** Writes the first block that is in memory to the temporary file. */
  #spill(): void {
    const spool = this.#spool ??= new Spool(), block = this.#blocks[this.#firstInMemory];
    if (typeof block === "number") return;
    this.#blocks[this.#firstInMemory++] = spool.size;
    spool.append(new Uint8Array(block.buffer));
    this.#bytes -= block.byteLength;
  }

  /** Ids of a block. */
  #ids(block: number, place: number, count: number): Uint32Array {
    if (count === 0) return new Uint32Array();
    const found = this.#blocks[block];
    if (typeof found !== "number") return found.subarray(place, place + count);
    const ids = new Uint32Array(count);
    this.#spool?.read(found + 4 * place, new Uint8Array(ids.buffer));
    return ids;
  }

  #add({ ids, targets, truncated, part }: TokenizedSample): void {
    if (this.#room < ids.length) this.#newBlock(ids.length);
    const place = this.#last.length - this.#room;
    this.#last.set(ids, place);
    this.#room -= ids.length;
    this.#block.push(Math.max(0, this.#blocks.length - 1));
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
    const ids = this.#ids(this.#block.at(index), place, this.#count.at(index));
    const part = PARTS[kind >> 1], truncated = (kind & 1) === 1;
    return part === undefined ? { ids, targets, truncated } : { ids, targets, truncated, part };
  }
}
