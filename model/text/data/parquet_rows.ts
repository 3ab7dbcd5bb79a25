/**
 * Rows of a Parquet file.
 *
 * @module
 */
import type { AsyncBuffer, ColumnMetaData, FileMetaData, SchemaTree } from "parquet";
import { UserError } from "../../../kernels/errors.ts";
import {
  checkMetadata,
  checkPages,
  Damage,
  type PageReaders,
  type ParquetBytes,
} from "./parquet_check.ts";
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

/** What is read of a Parquet file. */
interface ParquetOptions {
  /** What to call it in messages. */
  file: string;
  /** Which columns are read; of the others there are only names. */
  isField: (name: string) => boolean;
  /** Only the first so many rows. */
  limit: number;
}

/** What is wrong with a file, as one sentence. */
function refusal(error: unknown, file: string): unknown {
  if (error instanceof UserError) return error;
  const message = (error instanceof Error ? error.message : String(error)).replace(/\s+/g, " ");
  return new UserError(
    `data file "${file}" is truncated or damaged: it can't be read as Parquet (${message})`,
  );
}

/** Strings of a file, strictly UTF-8. */
function strictParsers() {
  const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const stringFromBytes = (bytes: Uint8Array | undefined) => {
    try {
      return bytes && strict.decode(bytes);
    } catch {
      return NOT_TEXT;
    }
  };
  return { stringFromBytes };
}

/** Rows of a Parquet file, compressed by any of its methods: a row group of it is held at a time. */
export class ParquetRows implements Rows {
  readonly notes: readonly string[] = [];
  readonly unread: ReadonlyMap<string, number>;
  readonly #parquet: Awaited<ReturnType<typeof load>>;
  readonly #bytes: ParquetBytes;
  readonly #options: ParquetOptions;
  readonly #metadata: FileMetaData;
  readonly #schema: SchemaTree;
  readonly #names: readonly string[];
  readonly #fractions: Set<string>;
  /** Row groups and rows that were read. */
  #groups = 0;
  #read = 0;

  private constructor(
    parquet: Awaited<ReturnType<typeof load>>,
    bytes: ParquetBytes,
    metadata: FileMetaData,
    options: ParquetOptions,
  ) {
    this.#parquet = parquet;
    this.#bytes = bytes;
    this.#options = options;
    this.#metadata = metadata;
    this.#schema = parquet.parquetSchema(metadata);
    checkMetadata(metadata, this.#schema, bytes.size);
    this.#names = this.#schema.children.map(({ element }) => element.name);
    this.#fractions = fractionColumns(metadata);
    const unread = this.#names.filter((name) => !options.isField(name));
    this.unread = new Map(unread.map((name) => [name, this.#rows]));
  }

  /** @throws {UserError} Where it is truncated or damaged. */
  static async open(bytes: ParquetBytes, options: ParquetOptions): Promise<ParquetRows> {
    const parquet = await load();
    try {
      const file = asyncBuffer(bytes);
      // Statistics may end in the middle of a character, so metadata is read without it.
      const metadata = await parquet.parquetMetadataAsync(file, { geoparquet: false });
      return new ParquetRows(parquet, bytes, metadata, options);
    } catch (error) {
      throw refusal(error, options.file);
    }
  }

  /** Rows that are read. */
  get #rows(): number {
    return Math.min(this.#options.limit, Number(this.#metadata.num_rows));
  }

  async next(): Promise<readonly Row[] | undefined> {
    try {
      for (;;) {
        if (this.#groups === this.#metadata.row_groups.length || this.#read >= this.#rows) return;
        const rows = await this.#readGroup();
        if (rows.length > 0) return rows;
      }
    } catch (error) {
      throw refusal(error, this.#options.file);
    }
  }

  /** The rows of the next row group, as far as they are asked for. */
  async #readGroup(): Promise<Row[]> {
    const { isField } = this.#options, { compressors } = this.#parquet, metadata = this.#metadata;
    const group = metadata.row_groups[this.#groups++];
    for (const { meta_data: meta } of group.columns) {
      if (meta !== undefined && isField(meta.path_in_schema[0])) this.#check(meta);
    }
    const rowStart = this.#read, rowEnd = Math.min(this.#rows, rowStart + Number(group.num_rows));
    const columns = this.#names.filter(isField), count = rowEnd - rowStart;
    const file = asyncBuffer(this.#bytes), parsers = strictParsers();
    const options = { file, metadata, columns, parsers, rowStart, rowEnd, compressors };
    const read = count === 0 || columns.length === 0
      ? Array.from({ length: count }, () => ({}))
      : await this.#parquet.parquetReadObjects(options);
    if (read.length !== count) throw new Damage(`it has ${read.length} rows of ${count}`);
    this.#read = rowEnd;
    return read.map((object: Record<string, unknown>, i) => this.#row(object, rowStart + i + 1));
  }

  /** Checks the pages of a column of a row group. */
  #check(meta: ColumnMetaData): void {
    const { getTreePath, getMaxDefinitionLevel, getMaxRepetitionLevel, readers } = this.#parquet;
    const path = getTreePath(this.#schema, meta.path_in_schema);
    const maxDefinition = getMaxDefinitionLevel(path), maxRepetition = getMaxRepetitionLevel(path);
    checkPages(this.#bytes, { meta, maxDefinition, maxRepetition }, readers);
  }

  #row(object: Record<string, unknown>, number: number): Row {
    const where = () => `data file "${this.#options.file}", row ${number}`;
    const entries = this.#names.map((name) => [name, this.#value(object, name, where)] as const);
    const size = entries.reduce((sum, [, value]) => sum + sizeOf(value), 0);
    return { where, value: Object.fromEntries(entries), size };
  }

  /** A row's value in a column; null for columns that aren't read. */
  #value(object: Record<string, unknown>, name: string, where: () => string): Value {
    if (!this.#options.isField(name)) return null;
    try {
      return toValue(object[name], this.#fractions.has(name));
    } catch (error) {
      if (!(error instanceof NotText)) throw error;
      throw new UserError(
        `${where()}: column ${JSON.stringify(name)} is not UTF-8 text; expected text in UTF-8`,
      );
    }
  }
}

/** A file as `hyparquet` asks for it. */
function asyncBuffer({ size, read }: ParquetBytes): AsyncBuffer {
  return {
    byteLength: size,
    slice(start, end = size) {
      const part = new Uint8Array(Math.max(0, Math.min(end, size) - start));
      read(start, part);
      return part.buffer;
    },
  };
}

/** Characters of a value's texts. */
function sizeOf(value: Value): number {
  if (value === null) return 0;
  if (typeof value === "string") return value.length;
  return Object.values(value).reduce((sum: number, inner) => sum + sizeOf(inner), 0);
}
