/**
 * The samples of a data file.
 *
 * @module
 */
import builtinJson from "../../../examples/builtin/instructions.json" with { type: "text" };
import { UserError } from "../../../kernels/errors.ts";
import type { Sample } from "../prompt.ts";
import { jsonRows } from "./json_rows.ts";
import type { Rows } from "./row.ts";
import { readRows } from "./rows.ts";
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

/** Rows as samples, without those whose output is blank. */
function toSamples(
  { rows, notes, unread = new Map() }: Rows,
  file: string,
  { limit = Infinity, outputs = true, data_format }: LoadOptions,
): LoadedSamples {
  const samples: Sample[] = [];
  const unused = new Map<string, number>(unread), empty = new Map<string, number>();
  const countOne = (counts: Map<string, number>, name: string) =>
    void counts.set(name, (counts.get(name) ?? 0) + 1);
  let number = 0;
  for (const row of rows) {
    if (++number > limit) break;
    const { sample, empty: name, used } = toSample(row, { outputs, data_format });
    for (const [name, value] of Object.entries(row.value ?? {})) {
      if (value !== null && !used.has(name)) countOne(unused, name);
    }
    if (name === undefined) samples.push(sample);
    else countOne(empty, name);
  }
  if (number === 0) {
    throw new UserError(`data file "${file}" holds no rows; expected at least one`);
  }
  const lines = [...notes, ...unusedNote(unused), ...emptyNotes(empty)];
  if (samples.length === 0) {
    throw new UserError(`data file "${file}": nothing is left to learn (${lines.at(-1)})`);
  }
  return { samples, notes: lines };
}

/**
 * The samples of JSON text.
 *
 * @param file What to call it in messages.
 */
export function parseSamples(json: string, file: string, options: LoadOptions = {}): LoadedSamples {
  return toSamples(jsonRows(new TextEncoder().encode(json), file, isField), file, options);
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
  return toSamples(await readRows(path, isField, options.limit ?? Infinity), path, options);
}
