/**
 * Rows of JSON: a list, JSON Lines, objects one after another with or without commas, or an object with
 * lists of rows.
 *
 * @module
 */
import { UserError } from "../../../kernels/errors.ts";
import { FORMATS, MOST_ROW_BYTES, MOST_WHOLE_BYTES } from "./file.ts";
import { chooseList, listsOfRows } from "./json_lists.ts";
import { JsonText } from "./json_text.ts";
import { JsonFault, type JsonValues } from "./json_values.ts";
import type { Extent, Row } from "./row.ts";

/** What comes next in a text of rows: what begins it, a row or an end, what follows a row, nothing more. */
type Place = "start" | "row" | "separator" | "end";

/** Lines that are no row alone before lines are no longer taken for rows. */
const MOST_BROKEN_LINES = 8;

const NEWLINE = 0x0a, OPEN_OBJECT = 0x7b, CLOSE_OBJECT = 0x7d;

/** Whether a byte may stand behind a row on its line. */
const isBlank = (byte: number) => byte === 0x20 || byte === 0x0d || byte === 0x09;

/** How JSON is read. */
export interface JsonOptions {
  /** What to call the file in messages. */
  file: string;
  /** Whether a name is a field of rows; an object that has none is looked into for lists. */
  isField: (name: string) => boolean;
  /** Only the first so many rows; the others aren't even checked. */
  limit: number;
  /** Where the text begins in the file, for the extents of its rows; undefined where it lies there otherwise. */
  begin?: number;
}

/** Reads rows out of JSON text that is handed to it in pieces: {@linkcode push} until {@linkcode finish}. */
export class JsonRows {
  readonly #text: JsonText;
  readonly #options: JsonOptions;
  #place: Place = "start";
  /** Whether rows are elements of a list, and where it begins, and what is said of it before a row's number. */
  #list?: { line: number; called: string };
  #number = 1;
  #brokenLines = 0;
  #notes: string[] = [];
  /** What is wrong after the rows that were taken last. */
  #fault?: unknown;

  constructor(options: JsonOptions) {
    this.#text = new JsonText(options.file, options.begin);
    this.#options = options;
  }

  /** Lines on what else the file holds; complete once a row was read. */
  get notes(): readonly string[] {
    return this.#notes;
  }

  /** Whether no more text is needed: there is none, or all rows are read that were asked for. */
  get isDone(): boolean {
    return this.#text.isWhole || this.#number > this.#options.limit;
  }

  /** Bytes that are held. */
  get heldBytes(): number {
    return this.#text.bytes.length - this.#text.at;
  }

  /** More text in UTF-8. @throws {UserError} Where a row has more bytes than a row may have. */
  push(piece: Uint8Array): void {
    const text = this.#text, isStart = this.#place === "start";
    if (this.heldBytes > MOST_ROW_BYTES && !isStart) {
      throw new UserError(
        `data file "${text.file}", row ${this.#number} (line ${
          text.line(text.at)
        }) has more than ` +
          `${MOST_ROW_BYTES} bytes; expected smaller rows`,
      );
    }
    if (this.heldBytes + piece.length > MOST_WHOLE_BYTES) {
      throw new UserError(
        `data file "${text.file}" is an object of more than 2 GiB; expected JSON Lines, or a list`,
      );
    }
    text.push(piece);
  }

  /** There is no more text. */
  finish(): void {
    this.#text.isWhole = true;
  }

  /**
   * The rows that the text has so far; none where more text is needed, or there are no more.
   *
   * @throws {UserError} Where it is no JSON, or a row is none.
   */
  take(): Row[] {
    const rows: Row[] = [];
    this.#take(() => {
      const row = this.#lineRow() ?? this.#nextRow();
      if (row !== undefined) rows.push(row);
      return row !== undefined;
    });
    return rows;
  }

  /** As {@linkcode take}, but only tells where they are in the file. @returns How many there were. */
  locate(tell: (begin: number, end: number) => void): number {
    return this.#take(() => this.#locateLine(tell) || this.#locateNext(tell));
  }

  /** Takes rows one by one. @returns How many. */
  #take(next: () => boolean): number {
    let taken = 0;
    if (this.#fault !== undefined) throw this.#fault;
    try {
      while (this.#number <= this.#options.limit) {
        if (this.#place === "start" && !this.#start()) break;
        if (!next()) break;
        taken++;
        this.#number++;
      }
    } catch (error) {
      const fault = error instanceof JsonFault ? this.#text.refusal(error, this.#number) : error;
      if (taken === 0) throw fault;
      // Rows before a fault come before it.
      this.#fault = fault;
    }
    return taken;
  }

  /** Whether it is known where the rows are. */
  #start(): boolean {
    const text = this.#text, values = text.values(), first = values.next();
    text.at = values.at;
    if (first === undefined) {
      if (text.isWhole) {
        throw new UserError(`data file "${text.file}" is empty; expected ${FORMATS}`);
      }
      return false;
    }
    if (first === "[") {
      this.#list = { line: text.line(text.at), called: "" };
      text.at++;
    } else if (!this.#startOfObjects(values)) return false;
    this.#place = "row";
    return true;
  }

  /** The same where an object comes first, which may be a row, or hold lists of rows if it is the only one. */
  #startOfObjects(values: JsonValues): boolean {
    const text = this.#text;
    try {
      values.value();
    } catch (error) {
      // Reading it as a row says what is wrong.
      if (error instanceof JsonFault) return text.isWhole || !error.ended;
      throw error;
    }
    if (values.next() !== undefined) return true;
    if (!text.isWhole) return false;
    const lists = listsOfRows(text, this.#options.isField);
    if (lists.length === 0) return true;
    const { begin, called, notes } = chooseList(text, lists);
    this.#notes = notes;
    this.#list = { line: text.line(begin), called };
    text.at = begin + 1;
    return true;
  }

  /** A row that is a line of its own, as nearly all are: to parse it tells where it ends. */
  #lineRow(): Row | undefined {
    const end = this.#lineEnd();
    if (end === undefined) return undefined;
    const text = this.#text, row = text.plainRow({ begin: text.at, end }, this.#number);
    if (row === "broken") this.#brokenLines++;
    if (row === undefined || row === "broken") return undefined;
    this.#passLine(end);
    return row;
  }

  /**
   * The place of such a row. Between two values JSON has a comma or a bracket, so that `}` at the end of a line and `{`
   * at the beginning of the next are never those of one value.
   */
  #locateLine(tell: (begin: number, end: number) => void): boolean {
    const end = this.#lineEnd(), { at, bytes } = this.#text;
    if (end === undefined || bytes[end + 1] !== OPEN_OBJECT) return false;
    let last = end - 1;
    while (last > at && isBlank(bytes[last])) last--;
    if (bytes[last] !== CLOSE_OBJECT) return false;
    tell(this.#text.placeOf(at), this.#text.placeOf(last + 1));
    this.#passLine(end);
    return true;
  }

  /** Where the line ends that an object begins here; undefined where lines are no rows, or the end is not there yet. */
  #lineEnd(): number | undefined {
    if (this.#list !== undefined || this.#brokenLines > MOST_BROKEN_LINES) return undefined;
    const text = this.#text, { bytes } = text;
    // Blank lines and what separates rows otherwise are left to the general way.
    if (this.#place === "separator" && bytes[text.at] === NEWLINE) text.at++;
    if (bytes[text.at] !== OPEN_OBJECT) return undefined;
    const end = text.lineEnd(text.at);
    return end < 0 ? undefined : end;
  }

  #passLine(end: number): void {
    this.#text.passLine(end);
    this.#place = "separator";
  }

  #nextRow(): Row | undefined {
    const extent = this.#next();
    return extent && this.#text.row(extent, this.#number, this.#list?.called);
  }

  #locateNext(tell: (begin: number, end: number) => void): boolean {
    const extent = this.#next();
    if (extent !== undefined) {
      tell(this.#text.placeOf(extent.begin), this.#text.placeOf(extent.end));
    }
    return extent !== undefined;
  }

  /** The next row wherever it lies; undefined where more text is needed, or there are no more. */
  #next(): Extent | undefined {
    const text = this.#text;
    if (this.#place === "end") {
      this.#checkEnd();
      return undefined;
    }
    const values = text.values();
    if (this.#place === "separator" && !this.#separator(values)) return undefined;
    if (!this.#comes(values)) return undefined;
    if (this.#list !== undefined && values.next() === "]") {
      if (this.#number > 1) throw new JsonFault('"," before the end of the list', values.at);
      return this.#closeList(values);
    }
    let extent: Extent;
    try {
      extent = values.value();
    } catch (error) {
      if (error instanceof JsonFault && error.ended && !text.isWhole) return undefined;
      throw error;
    }
    // A word, such as a number, may go on.
    if (extent.end === text.bytes.length && !text.isWhole) return undefined;
    text.at = extent.end;
    this.#place = "separator";
    return extent;
  }

  /** Goes past what lies between rows. @returns Whether it is there, and a row follows. */
  #separator(values: JsonValues): boolean {
    if (!this.#comes(values)) return false;
    if (this.#list === undefined) values.take(",");
    else if (values.next() === "]") {
      this.#closeList(values);
      return false;
    } else if (!values.take(",")) throw new JsonFault('expected "," or "]" after a row', values.at);
    this.#place = "row";
    this.#text.at = values.at;
    return true;
  }

  #closeList(values: JsonValues): undefined {
    values.take("]");
    this.#text.at = values.at;
    this.#place = "end";
    this.#checkEnd();
  }

  /** After a list comes nothing; in an object with lists, what was looked at already. */
  #checkEnd(): void {
    if (this.#list === undefined || this.#list.called !== "") return;
    const values = this.#text.values(), more = values.next();
    this.#text.at = values.at;
    if (more !== undefined) throw new JsonFault("more follows after the list", values.at);
  }

  /** Whether anything comes that is no blank. @throws {JsonFault} Where a list does not end. */
  #comes(values: JsonValues): boolean {
    const text = this.#text, first = values.next();
    text.at = values.at;
    // A byte order mark may be cut.
    if (first !== undefined) return text.isWhole || text.bytes.length - values.at >= 3;
    if (!text.isWhole) return false;
    if (this.#list === undefined) {
      this.#place = "end";
      return false;
    }
    const { line } = this.#list;
    throw new JsonFault("the list does not end", values.at, { ended: true, line });
  }
}
