/**
 * From a data file to its rows: which format it is in, its content decides.
 *
 * @module
 */
import { UserError } from "../../../kernels/errors.ts";
import { isTable, TableRows } from "./csv_rows.ts";
import { type DataFile, FORMATS, HEAD_BYTES, takeBytes } from "./file.ts";
import { JsonRows } from "./json_rows.ts";
import { ParquetRows } from "./parquet_rows.ts";
import type { Row, Rows } from "./row.ts";
import { type Utf8Text, utf8Text } from "./utf8.ts";

/** What is read of a data file. */
export interface RowOptions {
  /** Which fields of rows are known. */
  isField: (name: string) => boolean;
  /** Only the first so many rows are needed. */
  limit: number;
  /** The format where it is known; else the content tells. */
  format?: "json" | "table" | "parquet";
}

/**
 * The rows of a data file, which stays open.
 *
 * @throws {UserError} Where it can't be read; `next` throws it where rows are damaged.
 */
export async function openRows(file: DataFile, options: RowOptions): Promise<Rows> {
  const { path } = file, { isField, format } = options;
  if (format === "parquet" || (format === undefined && file.isParquet)) {
    return await openParquet(file, options);
  }
  const { pieces, begin } = utf8Text(file), head = await firstText(pieces, path);
  if (format === "table" || (format === undefined && isTable(head, isField))) {
    return new TextRows(await TableRows.open(head, { file: path, ...options }), head, pieces);
  }
  const first = new TextDecoder().decode(head.subarray(0, HEAD_BYTES)).trimStart()[0];
  if (first === "[" || first === "{") {
    const json = new JsonRows({ file: path, begin, ...options });
    return begin === undefined
      ? new TextRows(json, head, pieces)
      : new PlainJson(json, head, pieces);
  }
  throw new UserError(
    `data file "${path}" is neither JSON nor a table with a first line of names; expected ${FORMATS} ` +
      "with fields such as instruction, input and output",
  );
}

async function openParquet(file: DataFile, { isField, limit }: RowOptions): Promise<Rows> {
  const options = { file: file.path, isField, limit };
  if (!file.isPacked) {
    const { size } = file, read = (at: number, target: Uint8Array) => file.read(at, target);
    return await ParquetRows.open({ size, read }, options);
  }
  const bytes = await file.whole(), { length: size } = bytes;
  const read = (at: number, target: Uint8Array) =>
    target.set(bytes.subarray(at, at + target.length));
  return await ParquetRows.open({ size, read }, options);
}

/** The text's beginning. @throws {UserError} Where there is nothing but blanks. */
async function firstText(pieces: Utf8Text["pieces"], path: string): Promise<Uint8Array> {
  const head = await takeBytes(pieces, HEAD_BYTES);
  if (!head.every(isBlank)) return head;
  for (;;) {
    const { value, done } = await pieces.next();
    if (done) break;
    if (!value.every(isBlank)) return head;
  }
  throw new UserError(`data file "${path}" is empty; expected ${FORMATS}`);
}

function isBlank(byte: number): boolean {
  return byte === 0x20 || byte >= 0x09 && byte <= 0x0d;
}

/** Rows of text, which is read as they are asked for. */
class TextRows<R extends TableRows | JsonRows> implements Rows {
  constructor(
    protected readonly reader: R,
    head: Uint8Array,
    readonly pieces: Utf8Text["pieces"],
  ) {
    reader.push(head);
  }

  get notes(): readonly string[] {
    return this.reader.notes;
  }

  async next(): Promise<readonly Row[] | undefined> {
    let rows: readonly Row[] = [];
    const isThere = await this.until(() => {
      rows = this.reader.take();
      return rows.length > 0;
    });
    return isThere ? rows : undefined;
  }

  /** Gives the reader more text until it finds something. @returns Whether it did. */
  protected async until(finds: () => boolean): Promise<boolean> {
    for (;;) {
      if (finds()) return true;
      if (this.reader.isDone) return false;
      await this.#more();
    }
  }

  /** At least as much as is held, so that a long row is not looked at once for every piece. */
  async #more(): Promise<void> {
    const { reader } = this, wanted = Math.max(1, 2 * reader.heldBytes);
    do {
      const { value, done } = await this.pieces.next();
      if (done) return reader.finish();
      reader.push(value);
    } while (reader.heldBytes < wanted);
  }
}

/** Rows of JSON that lies in the file as it is, so that any of them can be read again. */
class PlainJson extends TextRows<JsonRows> {
  locate(tell: (begin: number, end: number) => void): Promise<boolean> {
    return this.until(() => this.reader.locate(tell) > 0);
  }
}
