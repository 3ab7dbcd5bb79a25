/**
 * Rows of a Parquet file.
 *
 * @module
 */
import type { AsyncBuffer, FileMetaData } from "parquet";
import { UserError } from "../../../kernels/errors.ts";
import { checkMetadata, checkPages, Damage, type PageReaders } from "./parquet_check.ts";
import { Literal, type Row, type Rows, type Value } from "./row.ts";

/** What stands for bytes that are no UTF-8, which decoded would become other text in silence. */
const NOT_TEXT = Symbol("not UTF-8");

/** Thrown where {@linkcode NOT_TEXT} is in a row. */
class NotText extends Error {}

/**
 * A value: whole numbers in all their digits, and whole ones of a type that has fractions as `4.0`.
 */
function toValue(value: unknown, fraction: boolean): Value {
  if (value === null) return null;
  if (value === NOT_TEXT) throw new NotText();
  // Nulls are null: what is undefined was read from beyond a dictionary's or a column's end.
  if (value === undefined) throw new Damage("a column has fewer values than rows");
  if (typeof value === "number" && fraction && Number.isInteger(value)) {
    return new Literal(value.toFixed(1));
  }
  if (typeof value === "string") return value;
  if (typeof value !== "object") return new Literal(String(value));
  if (Array.isArray(value)) return value.map((element) => toValue(element, fraction));
  // Dates and binary data are no text.
  if (ArrayBuffer.isView(value) || value instanceof Date) return {};
  const entries = Object.entries(value);
  return Object.fromEntries(entries.map(([name, inner]) => [name, toValue(inner, fraction)]));
}

/** Columns that hold numbers with fractions. */
function fractionColumns({ schema }: FileMetaData): Set<string> {
  const fractions = schema.filter(({ type }) => type === "DOUBLE" || type === "FLOAT");
  return new Set(fractions.map(({ name }) => name));
}

/** `hyparquet`, loaded where a Parquet file is read. */
async function load() {
  const [main, column, datapage, schema, thrift, { compressors }] = await Promise.all([
    import("parquet"),
    import("parquet/src/column.js"),
    import("parquet/src/datapage.js"),
    import("parquet/src/schema.js"),
    import("parquet/src/thrift.js"),
    import("parquet-compressors"),
  ]);
  const readers: PageReaders = {
    readHeader: column.parquetHeader,
    readVarInt: thrift.readVarInt,
    unpack: (packed, size, codec) => datapage.decompressPage(packed, size, codec, compressors),
  };
  return { ...main, ...schema, readers, compressors };
}

/** Reads the rows, with null for the columns that aren't read. */
async function readObjects(
  bytes: Uint8Array<ArrayBuffer>,
  { isField, limit, where }: {
    isField: (name: string) => boolean;
    limit: number;
    where: (row: number) => string;
  },
): Promise<{ objects: Record<string, Value>[]; unread: string[] }> {
  const { compressors, readers, ...parquet } = await load();
  const file: AsyncBuffer = {
    byteLength: bytes.length,
    slice: (start, end) => bytes.slice(start, end).buffer,
  };
  const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const stringFromBytes = (bytes: Uint8Array | undefined) => {
    try {
      return bytes && strict.decode(bytes);
    } catch {
      return NOT_TEXT;
    }
  };
  const parsers = { stringFromBytes };
  // Statistics may end in the middle of a character, so metadata is read without it.
  const metadata = parquet.parquetMetadata(bytes, { geoparquet: false });
  const schema = parquet.parquetSchema(metadata);
  checkMetadata(metadata, schema, bytes.length);
  let before = 0;
  for (const { columns, num_rows } of metadata.row_groups) {
    if (before >= limit) break;
    before += Number(num_rows);
    for (const { meta_data: meta } of columns) {
      if (meta === undefined || !isField(meta.path_in_schema[0])) continue;
      const path = parquet.getTreePath(schema, meta.path_in_schema);
      const maxDefinition = parquet.getMaxDefinitionLevel(path);
      const maxRepetition = parquet.getMaxRepetitionLevel(path);
      checkPages(bytes, { meta, maxDefinition, maxRepetition }, readers);
    }
  }
  const names = schema.children.map(({ element }) => element.name);
  const columns = names.filter(isField), rowEnd = Math.min(limit, Number(metadata.num_rows));
  const options = { file, metadata, columns, parsers, rowEnd, compressors };
  const read = columns.length === 0
    ? Array.from({ length: rowEnd }, () => ({}))
    : await parquet.parquetReadObjects(options);
  if (read.length !== rowEnd) throw new Damage(`it has ${read.length} rows of ${rowEnd}`);
  const fractions = fractionColumns(metadata);
  const valueOf = (object: Record<string, unknown>, name: string, row: number): Value => {
    if (!isField(name)) return null;
    try {
      return toValue(object[name], fractions.has(name));
    } catch (error) {
      if (!(error instanceof NotText)) throw error;
      throw new UserError(
        `${where(row)}: column ${JSON.stringify(name)} is not UTF-8 text; expected text in UTF-8`,
      );
    }
  };
  const objects = read.map((object: Record<string, unknown>, i) =>
    Object.fromEntries(names.map((name) => [name, valueOf(object, name, i + 1)]))
  );
  return { objects, unread: names.filter((name) => !isField(name)) };
}

/**
 * Reads a Parquet file's rows, compressed by any of its methods.
 *
 * @param file What to call it in messages.
 * @param isField Which columns are read; of the others there are only names.
 * @param limit Only the first so many rows.
 */
export async function parquetRows(
  bytes: Uint8Array<ArrayBuffer>,
  file: string,
  isField: (name: string) => boolean,
  limit: number,
): Promise<Rows> {
  const where = (row: number) => `data file "${file}", row ${row}`;
  try {
    const { objects, unread } = await readObjects(bytes, { isField, limit, where });
    return {
      rows: objects.map((value, i): Row => ({ where: () => where(i + 1), value })),
      notes: [],
      unread: new Map(unread.map((name) => [name, objects.length])),
    };
  } catch (error) {
    if (error instanceof UserError) throw error;
    const message = (error instanceof Error ? error.message : String(error)).replace(/\s+/g, " ");
    throw new UserError(
      `data file "${file}" is truncated or damaged: it can't be read as Parquet (${message})`,
    );
  }
}
