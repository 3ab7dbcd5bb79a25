/**
 * Files of JSON lines that grow while a run goes on: metrics.jsonl and the like. Each line tells of a step.
 *
 * @module
 */
import { isObject } from "../../model/files/json_file.ts";
import { exists, fileError } from "../../model/files/whole_file.ts";
import { regularFileSize } from "../../kernels/regular_file.ts";
import { AppendFile } from "./append_file.ts";

/** A line, with the step that it tells of. */
export type StepLine = { step: number } & Record<string, unknown>;

/** A line's value, where it is whole and of a step. */
function parseLine(text: string): StepLine | undefined {
  try {
    const value = JSON.parse(text);
    if (isObject(value) && Number.isSafeInteger(value.step)) return value as StepLine;
  } catch {
    // What a killed program wrote last may have no end.
  }
}

const NEWLINE = 10;

/** How many lines there are, and the first one's step. */
function linesFrom(bytes: Uint8Array): { lines: number; first?: number } {
  let lines = 0;
  for (let at = bytes.indexOf(NEWLINE); at >= 0; at = bytes.indexOf(NEWLINE, at + 1)) lines++;
  const first = parseLine(new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(NEWLINE))));
  return { lines, first: first?.step };
}

/** Where the last line of a step up to `step` ends, in bytes, and what it says. */
function lastLine(bytes: Uint8Array, step: number): { end: number; line?: StepLine } {
  let end = bytes.lastIndexOf(NEWLINE) + 1;
  while (end > 0) {
    // `lastIndexOf` counts from the end where it is told a negative index.
    const start = end === 1 ? 0 : bytes.lastIndexOf(NEWLINE, end - 2) + 1;
    const line = parseLine(new TextDecoder().decode(bytes.subarray(start, end - 1)));
    if (line !== undefined && line.step <= step) return { end, line };
    end = start;
  }
  return { end: 0 };
}

/** A file of lines that is open to get more, each written at once. */
export class LineFile implements Disposable {
  /** The last line that the file began with, where it had any. */
  readonly last?: StepLine;
  /** Whether some step between its first and its last line has none. For files of a line a step. */
  readonly hasGap: boolean;
  readonly #file: AppendFile;

  /**
   * Opens a file, or makes it.
   *
   * @param step The step that a run goes on from: lines of later ones are cut off, and one that has no end. The others stay.
   * @throws {UserError} where it can't be read or written.
   */
  constructor(readonly path: string, step: number) {
    try {
      if (exists(path)) regularFileSize(path);
      const bytes = exists(path) ? Deno.readFileSync(path) : new Uint8Array();
      const { end, line } = lastLine(bytes, step);
      const { lines, first = 1 } = linesFrom(bytes.subarray(0, end));
      this.last = line;
      this.hasGap = line !== undefined && lines < line.step - first + 1;
      this.#file = new AppendFile(path, { create: true }, end);
    } catch (error) {
      throw fileError(path, "write", error);
    }
  }

  /**
   * Adds a line; where that fails, the file has none of it.
   *
   * @throws {UserError} where it can't be written.
   */
  write(line: StepLine): void {
    this.#file.append(new TextEncoder().encode(JSON.stringify(line) + "\n"));
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}
