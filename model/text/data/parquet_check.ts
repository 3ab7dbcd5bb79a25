/**
 * Whether a Parquet file is what it says of itself. `hyparquet` takes it at its word: sizes that are none let it
 * read without end, and names that don't match leave promises behind that nobody hears.
 *
 * @module
 */
import type {
  ColumnMetaData,
  CompressionCodec,
  FileMetaData,
  PageHeader,
  SchemaTree,
} from "parquet";

/** Where a Parquet file's bytes are read from. */
export interface ParquetBytes {
  size: number;
  /** Fills `target` from byte `position` on. */
  read(position: number, target: Uint8Array): void;
}

/** What is wrong with a file, before the sentence around it. */
export class Damage extends Error {}

/** Paths of a schema's leaves, in the order in which row groups have columns. */
function leafPaths({ children, path }: SchemaTree): string[] {
  return children.length === 0 ? [path.join("\0")] : children.flatMap(leafPaths);
}

/** More rows than this for each byte of a file are no data that was written. */
const MOST_ROWS_PER_BYTE = 1000;

/**
 * Refuses metadata that contradicts itself.
 *
 * @param bytes Of the whole file.
 * @throws {Damage}
 */
export function checkMetadata(
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

/** Whether a value is a size: a whole number, not negative. */
function isSize(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

/** What of `hyparquet` is not in its main file, and what unpacks pages. */
export interface PageReaders {
  readHeader(reader: { view: DataView; offset: number }): PageHeader;
  /** A number of 7 bits a byte. */
  readVarInt(reader: { view: DataView; offset: number }): number;
  /** A page's values, unpacked. */
  unpack(packed: Uint8Array, size: number, codec: CompressionCodec): Uint8Array;
}

/** A column's chunk in a row group, and its place in the schema. */
export interface Chunk {
  meta: ColumnMetaData;
  /** Largest levels; their numbers are stored in as many bits as these need. */
  maxDefinition: number;
  maxRepetition: number;
}

/** Bits of numbers up to this one. */
const bitsOf = (most: number) => 32 - Math.clz32(most);

/**
 * Walks through runs of numbers (Parquet's RLE / bit-packing hybrid): a run that is longer than all of them
 * together would be written out in full.
 */
function checkRuns(
  bytes: Uint8Array,
  { width, count }: { width: number; count: number },
  readVarInt: PageReaders["readVarInt"],
): void {
  if (width > 32) throw new Damage(`a page has numbers of ${width} bits`);
  const reader = { view: new DataView(bytes.buffer, bytes.byteOffset, bytes.length), offset: 0 };
  for (let seen = 0; seen < count && reader.offset < bytes.length;) {
    const header = readVarInt(reader), packed = (header & 1) === 1, length = header >>> 1;
    const values = packed ? 8 * length : length;
    if (values > 2 * count + 1024) throw new Damage("a page has a run longer than itself");
    seen += values;
    reader.offset += packed ? length * width : Math.ceil(width / 8);
  }
}

/** Bytes after their number, which four bytes tell. */
function sized(bytes: Uint8Array): [part: Uint8Array, rest: Uint8Array] {
  if (bytes.length < 4) throw new Damage("a page is smaller than its levels");
  const size = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  if (size > bytes.length - 4) throw new Damage("a page is smaller than its levels");
  return [bytes.subarray(4, 4 + size), bytes.subarray(4 + size)];
}

/** Checks a page of data, and tells how many values it has. */
function checkDataPage(
  packed: Uint8Array,
  header: PageHeader,
  { meta: { codec, type }, maxDefinition, maxRepetition }: Chunk,
  { readVarInt, unpack }: PageReaders,
): number {
  const { data_page_header: first, data_page_header_v2: second } = header;
  const page = first ?? second;
  if (page === undefined) return 0;
  const { num_values: count, encoding } = page;
  if (!isSize(count)) throw new Damage("a page has no number of values");
  const runs = (bytes: Uint8Array, width: number) => checkRuns(bytes, { width, count }, readVarInt);
  let values: Uint8Array;
  if (second !== undefined) {
    const { repetition_levels_byte_length: a, definition_levels_byte_length: b } = second;
    if (
      !isSize(a) || !isSize(b) || a + b > Math.min(packed.length, header.uncompressed_page_size)
    ) {
      throw new Damage("a page is smaller than its levels");
    }
    runs(packed.subarray(0, a), bitsOf(maxRepetition));
    runs(packed.subarray(a, a + b), bitsOf(maxDefinition));
    const size = header.uncompressed_page_size - a - b, rest = packed.subarray(a + b);
    values = second.is_compressed !== false && size > 0 ? unpack(rest, size, codec) : rest;
  } else {
    values = unpack(packed, header.uncompressed_page_size, codec);
    for (const most of [maxRepetition, maxDefinition]) {
      if (most === 0) continue;
      const [levels, rest] = sized(values);
      runs(levels, bitsOf(most));
      values = rest;
    }
  }
  if (encoding === "RLE" && type === "BOOLEAN") runs(sized(values)[0], 1);
  else if (encoding.endsWith("_DICTIONARY") && values.length > 0) {
    runs(values.subarray(1), values[0]);
  }
  return count;
}

/**
 * Goes from page to page of a column's chunk.
 *
 * @throws {Damage} Where pages have no sizes, leave the chunk, or hold other numbers of values than they say.
 */
export function checkPages(
  bytes: ParquetBytes,
  chunk: Chunk,
  readers: PageReaders,
): void {
  const { dictionary_page_offset, data_page_offset, total_compressed_size, num_values } =
    chunk.meta;
  const begin = Number(dictionary_page_offset || data_page_offset);
  const size = Number(total_compressed_size);
  if (!isSize(begin) || !isSize(size) || begin + size > bytes.size) {
    throw new Damage("a column lies outside of the file");
  }
  const column = new Uint8Array(size);
  bytes.read(begin, column);
  const reader = { view: new DataView(column.buffer, column.byteOffset, size), offset: 0 };
  let values = 0;
  while (reader.offset < size) {
    const header = readers.readHeader(reader);
    const { compressed_page_size: packed, uncompressed_page_size: unpacked } = header;
    if (!isSize(packed) || !isSize(unpacked) || reader.offset + packed > size) {
      throw new Damage("a page is larger than its column");
    }
    const known = header.dictionary_page_header?.num_values ?? 0;
    // An entry of a dictionary takes a bit at least.
    if (!isSize(known) || known > 8 * unpacked) throw new Damage("a page has no number of values");
    const page = column.subarray(reader.offset, reader.offset + packed);
    values += checkDataPage(page, header, chunk, readers);
    reader.offset += packed;
  }
  if (values !== Number(num_values)) throw new Damage("a column has another number of values");
}
