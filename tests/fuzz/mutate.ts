/**
 * Damaged files: what fuzz tests change in a file, and what they demand of a program that reads it.
 *
 * @module
 */
import assert from "node:assert/strict";
import { UserError } from "../../kernels/errors.ts";
import { concat } from "../model/formats/pth_writer.ts";
import { type Files, MemoryFolder } from "./memory_folder.ts";

/** A whole number from 0 to below `below`. */
export type Picker = (below: number) => number;

/** Numbers that are the same on every run (mulberry32). */
export function randomPicker(seed: number): Picker {
  return (below) => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), seed | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

/** Bounds of number formats and their neighbours, and sizes too large for memory. */
const HOSTILE_WORDS = [0n, 1n, 0xffn, 0x7fff_ffffn, 0x8000_0000n, 0xffff_ffffn, 1n << 40n]
  .concat([(1n << 53n) - 1n, 1n << 53n, 1n << 63n, (1n << 64n) - 1n]);

/** A little-endian number that breaks sums and products. */
export function hostileNumber(width: number, pick: Picker): Uint8Array {
  const word = new BigUint64Array([HOSTILE_WORDS[pick(HOSTILE_WORDS.length)]]);
  return new Uint8Array(word.buffer, 0, width);
}

/** The bytes with `size` of them from `at` on replaced, as `splice` does it in arrays. */
export function spliced(
  bytes: Uint8Array,
  at: number,
  size: number,
  by: ArrayLike<number> = [],
): Uint8Array<ArrayBuffer> {
  return concat(bytes.subarray(0, at), by, bytes.subarray(at + size));
}

/** One to four random edits of a file's bytes. */
export function mutateBytes(original: Uint8Array, pick: Picker): Uint8Array<ArrayBuffer> {
  let bytes = original.slice() as Uint8Array<ArrayBuffer>;
  for (let edits = 1 + pick(4); edits > 0; edits--) {
    const at = pick(bytes.length + 1), size = 1 + pick(pick(4) === 0 ? 200 : 12);
    const stretch = bytes.slice(at, at + size);
    switch (pick(9)) {
      case 0: // a bit
        if (at < bytes.length) bytes[at] ^= 1 << pick(8);
        break;
      case 1: // a byte
        if (at < bytes.length) bytes[at] = pick(256);
        break;
      case 2: // an end too early
        bytes = bytes.slice(0, at);
        break;
      case 3: // more after the end
        bytes = concat(bytes, Array.from({ length: size }, () => pick(256)));
        break;
      case 4: // a stretch less
        bytes = spliced(bytes, at, size);
        break;
      case 5: // a stretch twice
        bytes = spliced(bytes, at, 0, stretch);
        break;
      case 6: // a stretch somewhere else instead of what was there
        bytes = spliced(bytes, pick(bytes.length + 1), pick(2) * size, stretch);
        break;
      case 7: { // two stretches swapped
        const other = pick(bytes.length + 1);
        if (Math.abs(other - at) < size) break;
        const [low, high] = at < other ? [at, other] : [other, at];
        const moved = bytes.slice(low, low + size);
        bytes = spliced(bytes, low, size, bytes.slice(high, high + size));
        bytes = spliced(bytes, high, size, moved);
        break;
      }
      case 8: { // a length or an offset
        const number = hostileNumber([2, 4, 8][pick(3)], pick), place = pick(3) === 0 ? 0 : at;
        bytes.set(number.subarray(0, bytes.length - place), place);
        break;
      }
    }
  }
  return bytes;
}

/** What stands in for a number or another value of JSON. */
const HOSTILE_VALUES =
  '-1 0 1 2 3 1.5 -0 1e308 1e999 -1e308 4294967296 9007199254740992 18446744073709551616 1e-300 "1" "" ' +
  'null true false [] {} [0] [[0]] {"a":0} NaN Infinity 0x10 01 "F16" "\\u0000" "__proto__" "all-linear"';

/** One to four random edits of JSON text, which mostly leave it JSON. */
export function mutateJson(original: string, pick: Picker): string {
  let text = original;
  const hostile = HOSTILE_VALUES.split(" ");
  const one = <T>(list: readonly T[]): T | undefined => list[pick(Math.max(1, list.length))];
  for (let edits = 1 + pick(4); edits > 0; edits--) {
    const at = pick(text.length + 1), size = 1 + pick(12);
    const replace = (match: RegExpExecArray | undefined, by: string) => {
      if (match === undefined) return;
      text = text.slice(0, match.index) + by + text.slice(match.index + match[0].length);
    };
    switch (pick(9)) {
      case 0: { // a number
        const match = one([...text.matchAll(/-?\d+(?:\.\d+)?/g)]);
        replace(match, pick(4) === 0 ? `-${match?.[0]}` : hostile[pick(hostile.length)]);
        break;
      }
      case 1: // any plain value
        replace(
          one([...text.matchAll(/(?<=[:[,] ?)(?:"[^"]*"|[\w.-]+)(?=\s*[,\]}])/g)]),
          hostile[pick(hostile.length)],
        );
        break;
      case 2: // a digit
        replace(one([...text.matchAll(/\d/g)]), String(pick(10)));
        break;
      case 3: { // a key and its value once more
        const match = one([...text.matchAll(/"[^"]*":(?:[^,{}[\]]+|\[[^[\]]*\]|\{[^{}]*\}),?/g)]);
        replace(match, `${match?.[0].replace(/,$/, "")},${match?.[0]}`);
        break;
      }
      case 4: // a name instead of another
        replace(
          one([...text.matchAll(/"[^"]*"/g)]),
          one([...text.matchAll(/"[^"]*"/g)])?.[0] ?? '""',
        );
        break;
      case 5: { // deep nesting
        const [open, close] = pick(2) === 0 ? ["[", "]"] : ['{"a":', "}"];
        const depth = pick(8) === 0 ? 20_000 : 1 + pick(30);
        const closed = pick(2) === 0 ? `0${close.repeat(depth)}` : "";
        replace(one([...text.matchAll(/\d+/g)]), open.repeat(depth) + closed);
        break;
      }
      case 6: // a stretch less, or twice
        text = text.slice(0, at) + (pick(2) === 0 ? text.slice(at, at + size).repeat(2) : "") +
          text.slice(at + size);
        break;
      case 7: // a character of the syntax
        text = text.slice(0, at) + '{}[]",:\\e-. \u00e9\ud800'[pick(14)] + text.slice(at + pick(2));
        break;
      case 8: // an end too early, or more after the end
        text = pick(2) === 0 ? text.slice(0, at) : text + text.slice(0, size);
        break;
    }
  }
  return text;
}

const ARRAYS = [
  ...["ArrayBuffer", "Int8Array", "Uint8Array", "Uint8ClampedArray", "Int16Array", "Uint16Array"],
  ...["Int32Array", "Uint32Array", "Float32Array", "Float64Array", "BigInt64Array"],
  ...["BigUint64Array"],
];

/**
 * Counts what typed-array constructors, their `slice`, text decoders and Deno's whole-file reads hand out,
 * from when it is made until it is closed. Objects that `JSON.parse` makes are not counted.
 */
export class AllocationCounter {
  /** Bytes of the largest since the last reset, and of all. */
  largest = 0;
  total = 0;
  readonly #undo: (() => void)[] = [];

  constructor() {
    const Buffer = ArrayBuffer;
    const sizeOf = (made: { byteLength: number }) => made.byteLength;
    const lengthOf = (text: string) => text.length;
    for (const name of ARRAYS) {
      const add = (bytes: number) => this.#add(bytes);
      this.#patch(globalThis, name, (original) => {
        // A function takes less time than a proxy.
        const counted = function (...args: unknown[]) {
          const target = new.target === counted ? original : new.target;
          const made: ArrayBuffer = Reflect.construct(original, args, target);
          if (!(args[0] instanceof Buffer)) add(made.byteLength); // else it is a view
          return made;
        };
        counted.prototype = original.prototype;
        return Object.setPrototypeOf(counted, original);
      });
    }
    this.#count(Object.getPrototypeOf(Uint8Array.prototype), "slice", sizeOf);
    this.#count(Buffer.prototype, "slice", sizeOf);
    this.#count(TextDecoder.prototype, "decode", lengthOf);
    this.#count(Deno, "readTextFileSync", lengthOf);
    this.#count(Deno, "readFileSync", sizeOf);
  }

  reset(): void {
    this.largest = this.total = 0;
  }

  close(): void {
    this.#undo.reverse().forEach((undo) => undo());
  }

  #add(bytes: number): void {
    this.largest = Math.max(this.largest, bytes);
    this.total += bytes;
  }

  // deno-lint-ignore no-explicit-any -- any built-in object and what it has under a name
  #patch(owner: any, name: string, change: (original: any) => unknown): void {
    const original = owner[name];
    owner[name] = change(original);
    this.#undo.push(() => owner[name] = original);
  }

  #count<T>(owner: object, method: string, size: (result: T) => number): void {
    const add = (bytes: number) => this.#add(bytes);
    this.#patch(owner, method, (original) =>
      function (this: unknown, ...args: unknown[]) {
        const result = original.apply(this, args);
        add(size(result));
        return result;
      });
  }
}

/** Room for what does not depend on a file's size: prefixes, tables, messages. */
const SMALL = 4096;
/** A file of a few hundred bytes takes well under a millisecond; this is for a machine that is busy. */
const MOST_SECONDS = 2;

/** What came of a fuzz test. */
export interface Outcome {
  loaded: number;
  /** Refusals by what they say, with names and numbers left out. */
  problems: Set<string>;
}

/** A fuzz test of one format. */
export interface FuzzTest {
  seed: number;
  rounds: number;
  /** The files of a round by their names. */
  damage: (pick: Picker) => Files;
  /** Reads everything in them; returns or throws. */
  load: (folder: string) => unknown;
  /** Bytes allocated in all, as a multiple of the files' size. Default: 2, as for any one allocation. */
  total?: number;
}

/**
 * Reads damaged files, each of which has to load whole or to be refused in a sentence that begins with
 * a path in its folder: in time, and with no more memory than the files' size explains.
 */
export async function fuzz({ seed, rounds, damage, load, total = 2 }: FuzzTest): Promise<Outcome> {
  const pick = randomPicker(seed), outcome: Outcome = { loaded: 0, problems: new Set() };
  using folder = new MemoryFolder();
  const counter = new AllocationCounter();
  try {
    for (let round = 0; round < rounds; round++) {
      const where = `seed ${seed}, round ${round}`;
      folder.files = damage(pick);
      const size = Object.values(folder.files).reduce((sum, { length }) => sum + length, 0);
      let error: unknown, failed = false;
      counter.reset();
      const start = performance.now();
      try {
        await load(folder.path);
      } catch (thrown) {
        [error, failed] = [thrown, true];
      }
      const seconds = (performance.now() - start) / 1000, { largest, total: all } = counter;
      assert.ok(seconds < MOST_SECONDS, `${where}: took ${seconds.toFixed(1)} s`);
      assert.ok(largest <= 2 * size + SMALL, `${where}: ${largest} bytes at once for ${size}`);
      assert.ok(all <= total * size + SMALL, `${where}: ${all} bytes in all for ${size}`);
      assert.ok(folder.open === 0, `${where}: leaves ${folder.open} file open`);
      const problem = refusal(error, folder.path);
      if (!failed) outcome.loaded++;
      else if (problem !== undefined) outcome.problems.add(problem);
      else assert.fail(`${where}: ${error instanceof Error ? error.stack : error}`);
    }
  } finally {
    counter.close();
  }
  return outcome;
}

/** What a good refusal says, without names and numbers; undefined for any other error. */
function refusal(error: unknown, folder: string): string | undefined {
  if (!(error instanceof UserError)) return undefined;
  const [before, after] = error.message.split(folder, 2);
  const clear = after !== undefined && /^(cannot read |data file ")?$/.test(before) &&
    after.length < 500 &&
    !after.includes("\n");
  return clear ? after.replace(/".*"|\[.*\]|\d+|(?<= names )\S+/g, "_") : undefined;
}
