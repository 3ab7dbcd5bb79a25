/**
 * Rows of a table in text: values separated by commas, tabs or semicolons, the first line their names.
 *
 * @module
 */
import type { CsvError, Info } from "csv/sync";
import { UserError } from "../../../kernels/errors.ts";
import { joined, MOST_ROW_BYTES } from "./file.ts";
import type { Row } from "./row.ts";

const DELIMITERS = [",", "\t", ";"];

/** Names in the first line of a table, if its values are separated so. */
function headerNames(line: string, delimiter: string): string[] {
  return line.split(delimiter).map((name) => name.trim().replace(/^"(.*)"$/, "$1").trim());
}

/** What separates the values of a table with this first line; undefined where it names no field. */
function delimiterOf(line: string, isField: (name: string) => boolean): string | undefined {
  const known = DELIMITERS.map((delimiter) => headerNames(line, delimiter).filter(isField).length);
  const most = Math.max(...known);
  return most > 0 ? DELIMITERS[known.indexOf(most)] : undefined;
}

/** The first line, of which names are all that matters: so many bytes are enough. */
function firstLine(bytes: Uint8Array): string {
  const head = new TextDecoder().decode(bytes.subarray(0, 4096));
  return head.trimStart().split(/[\r\n]/, 1)[0];
}

/** Whether bytes are a table whose first line names a field of rows. */
export function isTable(bytes: Uint8Array, isField: (name: string) => boolean): boolean {
  return delimiterOf(firstLine(bytes), isField) !== undefined;
}

/**
 * Whether a name begins with blanks, as where a header is written `instruction, output`: then the blanks after a
 * delimiter are no part of any value.
 */
function isSpaced([, ...names]: readonly string[]): boolean {
  return names.some((name) => /^\s+\S/.test(name));
}

/** A record with where it ends. */
interface Record {
  record: string[];
  info: Info;
}

/** What `csv-parse` found wrong, in words. */
function fault({ code, message }: CsvError): string {
  switch (code) {
    case "CSV_QUOTE_NOT_CLOSED":
      return "is truncated: a value in quotes does not end";
    case "CSV_MAX_RECORD_SIZE":
      return `has more than ${MOST_ROW_BYTES} bytes; expected smaller rows`;
    case "INVALID_OPENING_QUOTE":
    case "CSV_INVALID_CLOSING_QUOTE":
      return "has a quote inside a value; expected such values in quotes, and each quote in them twice";
    default:
      return `can't be read (${message.replaceAll(/\s+/g, " ")})`;
  }
}

const [NEWLINE, RETURN, QUOTE] = [0x0a, 0x0d, 0x22];

/** Line breaks, of which `\r\n` is one. */
function lineBreaks(bytes: Uint8Array): number {
  let breaks = 0;
  for (let i = 0; i < bytes.length; i++) {
    if (bytes[i] === NEWLINE || (bytes[i] === RETURN && bytes[i + 1] !== NEWLINE)) breaks++;
  }
  return breaks;
}

/** What reads a table's text, loaded where there is one. */
async function load() {
  const [{ parse }, { isUtf8, Buffer }] = await Promise.all([
    import("csv/sync"),
    import("node:buffer"),
  ]);
  return { parse, isUtf8, Buffer };
}

/** What a table is read by. */
interface TableOptions {
  /** What to call it in messages. */
  file: string;
  isField: (name: string) => boolean;
  /** Only the first so many rows; the others aren't even checked. */
  limit: number;
}

/** Reads rows out of a table that is handed to it in pieces: {@linkcode push} until {@linkcode finish}. */
export class TableRows {
  readonly notes: readonly string[] = [];
  readonly #options: TableOptions;
  readonly #delimiter: string | undefined;
  readonly #loaded: Awaited<ReturnType<typeof load>>;
  #isWhole = false;
  #held: Uint8Array<ArrayBufferLike> = new Uint8Array();
  /** How much of it was looked at, where its last whole record ends, and whether what follows is inside quotes. */
  #seen = 0;
  #end = 0;
  #isQuoted = false;
  /** Lines and rows before what is held. */
  #lines = 0;
  #number = 0;
  #names?: readonly string[];
  #isSpaced = false;
  /** What is wrong after the rows that were taken last. */
  #fault?: unknown;

  private constructor(
    options: TableOptions,
    delimiter: string | undefined,
    loaded: Awaited<ReturnType<typeof load>>,
  ) {
    this.#options = options;
    this.#delimiter = delimiter;
    this.#loaded = loaded;
  }

  /** @param head The text's beginning, for which {@linkcode isTable} holds. */
  static async open(head: Uint8Array, options: TableOptions): Promise<TableRows> {
    return new TableRows(options, delimiterOf(firstLine(head), options.isField), await load());
  }

  /** Bytes that are held. */
  get heldBytes(): number {
    return this.#held.length;
  }

  /** Whether no more text is needed: there is none, or all rows are read that were asked for. */
  get isDone(): boolean {
    return this.#isWhole || this.#number >= this.#options.limit;
  }

  /** More text in UTF-8. */
  push(piece: Uint8Array): void {
    this.#held = joined([this.#held, piece]);
  }

  /** There is no more text. */
  finish(): void {
    this.#isWhole = true;
  }

  /**
   * The rows of all records that are whole; none where more text is needed, or there are no more.
   *
   * @throws {UserError} Where they can't be read.
   */
  take(): Row[] {
    this.#look();
    // A quote that does not end leaves all that follows without an end of a record.
    const isAll = this.#isWhole || (this.#end === 0 && this.#held.length > MOST_ROW_BYTES);
    const end = isAll ? this.#held.length : this.#end;
    const most = this.#options.limit - this.#number;
    if (this.#fault !== undefined) throw this.#fault;
    if (end === 0 || most <= 0) return [];
    const part = this.#held.subarray(0, end), rows: Row[] = [];
    try {
      for (const record of this.#records(part, most)) rows.push(this.#row(record));
    } catch (error) {
      if (rows.length === 0) throw error;
      // Rows before a fault come before it.
      this.#fault = error;
    }
    this.#held = this.#held.subarray(end);
    this.#seen = Math.max(0, this.#seen - end);
    this.#end = 0;
    this.#lines += lineBreaks(part);
    return rows;
  }

  /** Looks for the end of the last whole record: quotes come in pairs before it. */
  #look(): void {
    const held = this.#held;
    // Whether a line ends after the last byte, the next one tells.
    for (; this.#seen < held.length - 1; this.#seen++) {
      const byte = held[this.#seen];
      if (byte === QUOTE) this.#isQuoted = !this.#isQuoted;
      else if (this.#isQuoted) continue;
      else if (byte === NEWLINE || (byte === RETURN && held[this.#seen + 1] !== NEWLINE)) {
        this.#end = this.#seen + 1;
      }
    }
  }

  /** The records of a part, without the names that the first one has. */
  #records(part: Uint8Array, most: number): Record[] {
    const { file } = this.#options, { parse, isUtf8, Buffer } = this.#loaded;
    if (!isUtf8(part)) {
      throw new UserError(`data file "${file}" is not UTF-8 text; expected a table in UTF-8`);
    }
    const text = Buffer.from(part.buffer, part.byteOffset, part.length);
    const common = {
      delimiter: this.#delimiter,
      record_delimiter: ["\r\n", "\n", "\r"],
      relax_column_count: true,
      max_record_size: MOST_ROW_BYTES,
      skip_empty_lines: true,
    };
    const isFirst = this.#names === undefined, to = most + (isFirst ? 1 : 0);
    try {
      if (isFirst) {
        // A quote after blanks is no fault of this reading, which is only to see the blanks.
        const [names = []] = parse(text, { ...common, relax_quotes: true, to: 1 });
        this.#isSpaced = isSpaced(names);
      }
      const records = parse(text, {
        ...common,
        ltrim: this.#isSpaced,
        info: true,
        ...(Number.isFinite(to) ? { to } : {}),
      }) as unknown as Record[];
      if (isFirst) this.#names = this.#columns(records.shift()?.record ?? []);
      return records;
    } catch (error) {
      if (error instanceof UserError) throw error;
      const { lines = 0 } = error as CsvError & { lines?: number };
      throw new UserError(
        `data file "${file}", line ${this.#lines + lines}, ${fault(error as CsvError)}`,
      );
    }
  }

  /** Names of the first record, of which none is there twice. */
  #columns(header: readonly string[]): string[] {
    const names = header.map((name) => name.trim());
    const twice = names.find((name, i) => name !== "" && names.indexOf(name) < i);
    if (twice === undefined) return names;
    throw new UserError(
      `data file "${this.#options.file}" has two columns named ${twice}; expected one`,
    );
  }

  /** A record as a row; one that has too few or many values is refused where it is asked for. */
  #row({ record, info: { lines } }: Record): Row {
    const names = this.#names ?? [], number = ++this.#number, before = this.#lines;
    const where = () => {
      const breaks = record.join("").split("\n").length - 1;
      return `data file "${this.#options.file}", row ${number} (line ${before + lines - breaks})`;
    };
    if (record.length !== names.length) {
      throw new UserError(
        `${where()} has ${record.length} values; expected ${names.length}, as many as the first ` +
          "line has names",
      );
    }
    // An empty cell is how tables write that there is no value.
    const entries = names.map((name, i) => [name, record[i] === "" ? null : record[i]] as const);
    const size = record.reduce((sum, { length }) => sum + length, 0);
    return { where, value: Object.fromEntries(entries), size };
  }
}
