/**
 * The samples of a data file.
 *
 * @module
 */
import builtinJson from "../../../examples/builtin/instructions.json" with { type: "text" };
import { UserError } from "../../../kernels/errors.ts";
import type { Sample } from "../prompt.ts";
import { DataFile } from "./file.ts";
import { JsonRows } from "./json_rows.ts";
import type { Row, Rows } from "./row.ts";
import { openRows } from "./rows.ts";
import { isField, toSample } from "./sample.ts";

/** The name that stands for the samples of examples/builtin, which are part of the program. */
const BUILTIN_DATA = "builtin";

/** What is read of a data file. */
export interface LoadOptions {
  /** Only the first so many rows; the others aren't even checked. Default: all. */
  limit?: number;
  /** Whether samples need outputs. Questions to be answered don't. Default: they do. */
  outputs?: boolean;
  /** The name of the rows' format. Default: their fields tell it. */
  data_format?: string;
}

/** Samples, with what a user is to be told about the file. */
export interface LoadedSamples {
  samples: Sample[];
  notes: string[];
}

/** More names than this in a line are no help. */
const MOST_NAMES = 10;

/** A line on fields that no sample has a use for. */
function unusedNote(unused: ReadonlyMap<string, number>): string[] {
  if (unused.size === 0) return [];
  const names = [...unused].slice(0, MOST_NAMES)
    .map(([name, rows]) => `${name || '""'} (${rows} ${rows === 1 ? "row" : "rows"})`);
  if (unused.size > MOST_NAMES) names.push(`and ${unused.size - MOST_NAMES} more`);
  return [`Fields not used: ${names.join(", ")}`];
}

/** A line on rows that were left out. */
function emptyNotes(empty: ReadonlyMap<string, number>): string[] {
  return [...empty].map(([name, rows]) =>
    rows === 1
      ? `1 sample left out: its ${name} is empty`
      : `${rows} samples left out: their ${name} is empty`
  );
}

/** Makes samples of rows, and counts what there is to be told of them. */
export class SampleReader {
  readonly #file: string;
  readonly #options: LoadOptions;
  #rows = 0;
  #samples = 0;
  readonly #unused = new Map<string, number>();
  readonly #empty = new Map<string, number>();

  /** @param file What to call it in messages. */
  constructor(file: string, options: LoadOptions) {
    this.#file = file;
    this.#options = options;
  }

  /**
   * A row's sample; undefined where it holds nothing to learn.
   *
   * @throws {UserError} Where the row is none of the samples that are known.
   */
  read(row: Row): Sample | undefined {
    this.#rows++;
    const { outputs = true, data_format } = this.#options;
    const { sample, empty, used } = toSample(row, { outputs, data_format });
    for (const [name, value] of Object.entries(row.value ?? {})) {
      if (value !== null && !used.has(name)) countOne(this.#unused, name);
    }
    if (empty !== undefined) {
      countOne(this.#empty, empty);
      return undefined;
    }
    this.#samples++;
    return sample;
  }

  /**
   * Lines on what was read so far.
   *
   * @throws {UserError} Where there are no rows, or no samples among them.
   */
  notes({ notes, unread = new Map() }: Pick<Rows, "notes" | "unread">): string[] {
    if (this.#rows === 0) {
      throw new UserError(`data file "${this.#file}" holds no rows; expected at least one`);
    }
    const unused = new Map([...unread, ...this.#unused]);
    const lines = [...notes, ...unusedNote(unused), ...emptyNotes(this.#empty)];
    if (this.#samples > 0) return lines;
    throw new UserError(
      `data file "${this.#file}": nothing is left to learn (${lines.at(-1)})`,
    );
  }
}

function countOne(counts: Map<string, number>, name: string): void {
  counts.set(name, (counts.get(name) ?? 0) + 1);
}

/**
 * The samples of JSON text.
 *
 * @param file What to call it in messages.
 */
export function parseSamples(json: string, file: string, options: LoadOptions = {}): LoadedSamples {
  const { limit = Infinity } = options, reader = new SampleReader(file, options);
  const rows = new JsonRows({ file, isField, limit }), samples: Sample[] = [];
  rows.push(new TextEncoder().encode(json));
  rows.finish();
  for (let some = rows.take(); some.length > 0; some = rows.take()) {
    for (const row of some) {
      const sample = reader.read(row);
      if (sample !== undefined) samples.push(sample);
    }
  }
  return { samples, notes: reader.notes(rows) };
}

/**
 * Reads the samples of a data file.
 *
 * @param path A file of any format that is read, or `builtin`.
 * @throws {UserError} When the file is missing, unreadable, empty, cut short or something else, or
 * when a row is none of the samples that are known; names the file and the row.
 */
export async function loadSamples(
  path: string,
  options: LoadOptions = {},
): Promise<LoadedSamples> {
  if (path === BUILTIN_DATA) return parseSamples(builtinJson, BUILTIN_DATA, options);
  using file = await DataFile.open(path);
  const rows = await openRows(file, { isField, limit: options.limit ?? Infinity });
  const reader = new SampleReader(path, options), samples: Sample[] = [];
  for (let some = await rows.next(); some !== undefined; some = await rows.next()) {
    for (const row of some) {
      const sample = reader.read(row);
      if (sample !== undefined) samples.push(sample);
    }
  }
  return { samples, notes: reader.notes(rows) };
}
