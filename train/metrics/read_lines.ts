/**
 * Reading files of JSON lines that each tell of a step. Files are read in pieces: they can be long, of a run that writes
 * meanwhile, or broken.
 *
 * @module
 */
import { isObject } from "../../model/files/json_file.ts";
import { regularFileSize } from "../../kernels/regular_file.ts";

/** Bytes read at a time, and bytes of a line at most. */
const CHUNK_BYTES = 1 << 20, MOST_LINE_BYTES = 1 << 26;
const NEWLINE = 10;

/** A line that is not what its place is for; names the line and what is wrong. */
export class BrokenLine extends Error {}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array {
  const all = new Uint8Array(a.length + b.length);
  all.set(a);
  all.set(b, a.length);
  return all;
}

/** The whole lines of a file as bytes. What follows the last newline is still being written, or was cut short. */
function* lines(path: string): Generator<Uint8Array> {
  regularFileSize(path);
  using file = Deno.openSync(path);
  const chunk = new Uint8Array(CHUNK_BYTES);
  let rest: Uint8Array = new Uint8Array(), number = 1;
  for (let read = file.readSync(chunk); read !== null; read = file.readSync(chunk)) {
    const piece = chunk.subarray(0, read);
    let begin = 0;
    for (let end = piece.indexOf(NEWLINE); end >= 0; end = piece.indexOf(NEWLINE, begin)) {
      const line = piece.subarray(begin, end);
      yield rest.length === 0 ? line : joined(rest, line);
      rest = rest.subarray(0, 0);
      begin = end + 1;
      number++;
    }
    rest = joined(rest, piece.subarray(begin));
    if (rest.length > MOST_LINE_BYTES) throw new BrokenLine(`line ${number} does not end`);
  }
}

/** A line of a step; what its other fields are is not known. */
export type ReadLine = { readonly step: number } & Readonly<Record<string, unknown>>;

/**
 * The lines of a file, in order.
 *
 * @throws {BrokenLine} where a line is no object, or of no step after the one before it.
 */
export function* readLines(path: string): Generator<ReadLine> {
  let number = 0, before = -1;
  for (const bytes of lines(path)) {
    number++;
    let value: unknown;
    try {
      value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    } catch {
      throw new BrokenLine(`line ${number} is no JSON`);
    }
    if (!isObject(value) || !Number.isSafeInteger(value.step)) {
      throw new BrokenLine(`line ${number} is of no step`);
    }
    const line = value as ReadLine;
    if (line.step <= before) {
      throw new BrokenLine(`line ${number} is of step ${line.step}, after ${before}`);
    }
    before = line.step;
    yield line;
  }
}
