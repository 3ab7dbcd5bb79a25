/**
 * The samples of a data file.
 *
 * @module
 */
import builtinJson from "../../../examples/builtin/instructions.json" with { type: "text" };
import { UserError } from "../../../kernels/errors.ts";
import type { PreferencePart } from "../prompt.ts";
import type { Sample } from "../sample.ts";
import { DataFile } from "./file.ts";
import { judgedRows, type Judgement, PREFERENCE_FIELDS } from "./formats/preference.ts";
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
function emptyNotes(empty: ReadonlyMap<string, number>, word: string): string[] {
  return [...empty].map(([name, rows]) =>
    rows === 1
      ? `1 ${word} left out: its ${name} is empty`
      : `${rows} ${word}s left out: their ${name} is empty`
  );
}

/** A sample, with its part where it is one of a preference. */
export interface PartSample {
  sample: Sample;
  part?: PreferencePart;
}

/** Samples that stay together. */
export type PartGroup = readonly PartSample[];

/** What is read of a data file of samples or of preferences. */
export interface GroupOptions extends LoadOptions {
  /** What is made of rows of preferences. Default: rows are no preferences. */
  judgement?: Judgement;
}

/** A group, or what of the row holds nothing to learn in it; and which fields were asked for. */
interface ReadGroup {
  group: PartGroup;
  empty?: string;
  used: ReadonlySet<string>;
}

/** Says in messages what the answer of a row is called in the file. */
function naming<T>(name: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof UserError) || !error.message.includes(": completion")) throw error;
    throw new UserError(error.message.replace(": completion", `: ${name}`));
  }
}

/** The groups of a row. @throws {UserError} Where the row is none that is known. */
function readGroups(
  row: Row,
  { outputs = true, data_format, judgement }: GroupOptions,
): ReadGroup[] {
  if (judgement === undefined) {
    const { sample, empty, used } = toSample(row, { outputs, data_format });
    return [{ group: [{ sample }], empty, used }];
  }
  return judgedRows(row, judgement).map((answers) => {
    const used = new Set(PREFERENCE_FIELDS), group: PartSample[] = [];
    let missing: string | undefined;
    for (const { part, row, name, asked } of answers) {
      if (asked !== undefined) used.add(asked);
      const read = { outputs, data_format };
      const { sample, empty, used: own } = naming(name, () => toSample(row, read));
      own.forEach((field) => used.add(field));
      group.push({ sample, part });
      if (empty !== undefined) missing ??= name;
    }
    return { group, empty: missing, used };
  });
}

/** What a group is called. */
export function groupWord(judgement: Judgement | undefined): "pair" | "sample" {
  return judgement === "pairs" ? "pair" : "sample";
}

/** Which names fields of rows may have. */
function fieldsOf({ judgement }: GroupOptions): (name: string) => boolean {
  return judgement === undefined
    ? isField
    : (name) => isField(name) || PREFERENCE_FIELDS.includes(name);
}

/** Makes groups of samples of rows, and counts what there is to be told of them. */
export class GroupReader {
  readonly #file: string;
  readonly #options: GroupOptions;
  #rows = 0;
  #groups = 0;
  readonly #unused = new Map<string, number>();
  readonly #empty = new Map<string, number>();

  /** @param file What to call it in messages. */
  constructor(file: string, options: GroupOptions) {
    this.#file = file;
    this.#options = options;
  }

  /**
   * A row's groups of samples, without those that hold nothing to learn.
   *
   * @throws {UserError} Where the row is none that is known.
   */
  read(row: Row): PartGroup[] {
    this.#rows++;
    const read = readGroups(row, this.#options), groups: PartGroup[] = [];
    for (const [name, value] of Object.entries(row.value ?? {})) {
      if (value !== null && !read.some(({ used }) => used.has(name))) countOne(this.#unused, name);
    }
    for (const { group, empty } of read) {
      if (empty === undefined) groups.push(group);
      else countOne(this.#empty, empty);
    }
    this.#groups += groups.length;
    return groups;
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
    const word = groupWord(this.#options.judgement);
    const lines = [...notes, ...unusedNote(unused), ...emptyNotes(this.#empty, word)];
    if (this.#groups > 0) return lines;
    throw new UserError(
      `data file "${this.#file}": nothing is left to learn (${lines.at(-1)})`,
    );
  }
}

function countOne(counts: Map<string, number>, name: string): void {
  counts.set(name, (counts.get(name) ?? 0) + 1);
}

/** Rows of JSON text that is there as a whole. */
class TextRows implements Rows {
  readonly #rows: JsonRows;

  constructor(json: string, file: string, limit = Infinity) {
    this.#rows = new JsonRows({ file, isField, limit });
    this.#rows.push(new TextEncoder().encode(json));
    this.#rows.finish();
  }

  get notes(): readonly string[] {
    return this.#rows.notes;
  }

  next(): Promise<readonly Row[] | undefined> {
    return Promise.resolve(this.take());
  }

  take(): readonly Row[] | undefined {
    const rows = this.#rows.take();
    return rows.length > 0 ? rows : undefined;
  }
}

/** The samples of groups. */
function samplesOf(groups: readonly PartGroup[]): Sample[] {
  return groups.flat().map(({ sample }) => sample);
}

/**
 * The samples of JSON text.
 *
 * @param file What to call it in messages.
 */
export function parseSamples(json: string, file: string, options: LoadOptions = {}): LoadedSamples {
  const reader = new GroupReader(file, options), groups: PartGroup[] = [];
  const rows = new TextRows(json, file, options.limit);
  for (let some = rows.take(); some !== undefined; some = rows.take()) {
    for (const row of some) groups.push(...reader.read(row));
  }
  return { samples: samplesOf(groups), notes: reader.notes(rows) };
}

/** Rows of a data file, or of the built-in samples. */
export interface OpenData extends Disposable {
  rows: Rows;
  /** The file; the built-in samples have none. */
  file?: DataFile;
}

/**
 * Opens a data file.
 *
 * @param path A file of any format that is read, or `builtin`.
 * @throws {UserError} Where it is missing, unreadable, empty or something else.
 */
export async function openData(path: string, options: GroupOptions): Promise<OpenData> {
  const { limit = Infinity } = options;
  if (path === BUILTIN_DATA) {
    if (options.judgement !== undefined) {
      throw new UserError(
        `data "${path}" are answers without others to compare them with; expected a file of preferences`,
      );
    }
    return { rows: new TextRows(builtinJson, BUILTIN_DATA, limit), [Symbol.dispose]() {} };
  }
  const file = await DataFile.open(path), close = () => file[Symbol.dispose]();
  try {
    const rows = await openRows(file, { isField: fieldsOf(options), limit });
    return { rows, file, [Symbol.dispose]: close };
  } catch (error) {
    close();
    throw error;
  }
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
  const { groups, notes } = await loadGroups(path, options);
  return { samples: samplesOf(groups), notes };
}

/** Reads a data file as {@linkcode loadSamples} does, the samples in groups, also those of preferences. */
export async function loadGroups(
  path: string,
  options: GroupOptions = {},
): Promise<{ groups: PartGroup[]; notes: string[] }> {
  using opened = await openData(path, options);
  const { rows } = opened, reader = new GroupReader(path, options), groups: PartGroup[] = [];
  for (let some = await rows.next(); some !== undefined; some = await rows.next()) {
    for (const row of some) groups.push(...reader.read(row));
  }
  return { groups, notes: reader.notes(rows) };
}
