/**
 * Rows of a Parquet file.
 *
 * @module
 */
import type { AsyncBuffer, FileMetaData, SchemaTree } from "parquet";
import { UserError } from "../../../kernels/errors.ts";
import type { Row, Rows, Value } from "./row.ts";

/** What is wrong with a file, before the sentence around it. */
class Damage extends Error {}

/**
 * A value as text or what holds text: whole numbers in all their digits, and whole ones of a type that has
 * fractions as `4.0`.
 */
function toValue(value: unknown, fraction: boolean): Value {
  if (value === null) return null;
  // Nulls are null: what is undefined was read from beyond a dictionary's or a column's end.
  if (value === undefined) throw new Damage("a column has fewer values than rows");
  if (typeof value === "number" && fraction && Number.isInteger(value)) return value.toFixed(1);
  if (typeof value !== "object") return String(value);
  if (Array.isArray(value)) return value.map((element) => toValue(element, fraction));
  // Dates and binary data are no text.
  if (ArrayBuffer.isView(value) || value instanceof Date) return {};
  const entries = Object.entries(value);
  return Object.fromEntries(entries.map(([name, inner]) => [name, toValue(inner, fraction)]));
}

/** Paths of a schema's leaves, in the order in which row groups have columns. */
function leafPaths({ children, path }: SchemaTree): string[] {
  return children.length === 0 ? [path.join("\0")] : children.flatMap(leafPaths);
}

/** More rows than this for each byte of a file are no data that was written. */
const MOST_ROWS_PER_BYTE = 1000;

/**
 * Refuses metadata that contradicts itself: `hyparquet` would take it at its word, and leave promises behind that
 * nobody hears.
 */
function checkMetadata(
  { row_groups, num_rows }: FileMetaData,
  root: SchemaTree,
  bytes: number,
): void {
  const names = root.children.map(({ element }) => element.name);
  if (new Set(names).size < names.length) throw new Damage("two columns have the same name");
  const leaves = leafPaths(root);
  let rows = 0n;
  for (const group of row_groups) {
    const paths = group.columns.map(({ meta_data }) => meta_data?.path_in_schema.join("\0"));
    if (paths.length !== leaves.length || paths.some((path, i) => path !== leaves[i])) {
      throw new Damage("a row group has other columns than the schema");
    }
    if (group.num_rows < 0n) throw new Damage("a row group has a negative number of rows");
    rows += BigInt(group.num_rows);
  }
  if (rows !== BigInt(num_rows)) throw new Damage("its row groups have another number of rows");
  if (rows > BigInt(MOST_ROWS_PER_BYTE * bytes)) throw new Damage(`it claims to have ${rows} rows`);
}

/** Columns that hold numbers with fractions. */
function fractionColumns({ schema }: FileMetaData): Set<string> {
  const fractions = schema.filter(({ type }) => type === "DOUBLE" || type === "FLOAT");
  return new Set(fractions.map(({ name }) => name));
}

/** Reads the rows, with null for the columns that aren't read. */
async function readObjects(
  bytes: Uint8Array<ArrayBuffer>,
  isField: (name: string) => boolean,
  limit: number,
): Promise<{ objects: Record<string, Value>[]; unread: string[] }> {
  const [{ parquetMetadata, parquetReadObjects, parquetSchema }, { compressors }] = await Promise
    .all([import("parquet"), import("parquet-compressors")]);
  const file: AsyncBuffer = {
    byteLength: bytes.length,
    slice: (start, end) => bytes.slice(start, end).buffer,
  };
  const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  // Without it, bytes that are no UTF-8 would become other text in silence.
  const parsers = { stringFromBytes: (bytes: Uint8Array) => bytes && strict.decode(bytes) };
  const metadata = parquetMetadata(bytes, { parsers }), schema = parquetSchema(metadata);
  checkMetadata(metadata, schema, bytes.length);
  const names = schema.children.map(({ element }) => element.name);
  const columns = names.filter(isField), rowEnd = Math.min(limit, Number(metadata.num_rows));
  const options = { file, metadata, columns, compressors, parsers, rowEnd };
  const read = columns.length === 0
    ? Array.from({ length: rowEnd }, () => ({}))
    : await parquetReadObjects(options);
  if (read.length !== rowEnd) throw new Damage(`it has ${read.length} rows of ${rowEnd}`);
  const fractions = fractionColumns(metadata);
  const objects = read.map((object: Record<string, unknown>) =>
    Object.fromEntries(
      names.map((
        name,
      ) => [name, isField(name) ? toValue(object[name], fractions.has(name)) : null]),
    )
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
  try {
    const { objects, unread } = await readObjects(bytes, isField, limit);
    return {
      rows: objects.map((value, i): Row => ({
        where: () => `data file "${file}", row ${i + 1}`,
        value,
      })),
      notes: [],
      unread: new Map(unread.map((name) => [name, objects.length])),
    };
  } catch (error) {
    const message = (error instanceof Error ? error.message : String(error)).replace(/\s+/g, " ");
    throw new UserError(
      `data file "${file}" is truncated or damaged: it can't be read as Parquet (${message})`,
    );
  }
}
