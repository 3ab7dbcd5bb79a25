/**
 * GGUF files, versions 2 and 3: magic, version, metadata, descriptions of tensors, and the tensors' bytes, each of
 * them aligned. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 *
 * A file is believed only after everything in it has been checked against its size.
 *
 * @module
 */

import { UserError } from "../../../kernels/errors.ts";
import { FileReader } from "../../files/file_reader.ts";
import { brief } from "../../files/json_file.ts";
import { kindOf } from "../../files/whole_file.ts";
import { Cursor } from "./cursor.ts";
import { Metadata } from "./metadata.ts";
import { type TensorType, tensorType, unreadType } from "./tensor_types.ts";

/** A tensor of a file. */
export interface TensorInfo {
  readonly file: FileReader;
  readonly type: TensorType;
  /** Row-major: `[out, in]` of a matrix. */
  readonly shape: readonly number[];
  /** Where its bytes begin in the file, and how many they are. */
  readonly position: number;
  readonly bytes: number;
}

/** A file, its metadata and its tensors. */
export interface GgufFile {
  readonly file: FileReader;
  readonly metadata: Metadata;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
}

const MAGIC = "GGUF";
const DEFAULT_ALIGNMENT = 32, MOST_ALIGNMENT = 2 ** 20, MAX_DIMENSIONS = 4;
/** Bytes of the shortest description: a name's length, dimensions, a type and a place. */
const LEAST_TENSOR = 24;

/** The characters that a file begins with. */
function magicOf(head: Uint8Array): string {
  return String.fromCharCode(...head.subarray(0, 4));
}

/** Whether a path names a GGUF file, by its name or its first bytes. */
export function isGguf(path: string): boolean {
  try {
    if (!Deno.statSync(path).isFile) return false;
  } catch {
    return false; // whoever opens it says why
  }
  if (path.endsWith(".gguf")) return true;
  try {
    using file = Deno.openSync(path);
    const head = new Uint8Array(4);
    return file.readSync(head) === 4 && magicOf(head) === MAGIC;
  } catch {
    return false;
  }
}

/** Refuses another format and other versions. */
function checkVersion(file: FileReader, cursor: Cursor): void {
  if (magicOf(file.head) !== MAGIC) {
    const kind = kindOf(file.head);
    const older = /^(?:lmgg|fmgg|tjgg)/.test(magicOf(file.head));
    const not = older
      ? ": it is of a format before it"
      : kind === undefined
      ? ""
      : `: it is ${kind}`;
    cursor.fail(`is no GGUF file${not}`);
  }
  cursor.skip(4, "the magic number");
  const version = cursor.u32("the version");
  if (version === 2 || version === 3) return;
  if (version !== 0 && (version & 0xffff) === 0) {
    cursor.fail("is a big-endian GGUF file, which is not read; expected a little-endian one");
  }
  cursor.fail(`is a GGUF file of version ${version}, which is not read; expected version 2 or 3`);
}

/** A tensor's description; where it lies is `offset` from the beginning of the data. */
interface TensorHeader {
  type: TensorType;
  shape: number[];
  bytes: number;
  offset: bigint;
}

function readTensorInfo(cursor: Cursor, tensor: string): TensorHeader {
  const fail = (problem: string): never => cursor.fail(`${tensor} ${problem}`);
  const dimensions = cursor.u32(`the number of dimensions of ${tensor}`);
  if (dimensions < 1 || dimensions > MAX_DIMENSIONS) {
    fail(`has ${dimensions} dimensions, expected 1 to ${MAX_DIMENSIONS}`);
  }
  const shape: number[] = [];
  let elements = 1n;
  for (let i = 0; i < dimensions; i++) {
    const size = cursor.u64(`the shape of ${tensor}`);
    elements *= size;
    if (size === 0n || elements > BigInt(Number.MAX_SAFE_INTEGER)) {
      fail(`has a dimension of ${size} numbers, expected none that is empty or too large`);
    }
    shape.unshift(Number(size));
  }
  const number = cursor.u32(`the type of ${tensor}`);
  const type = tensorType(number) ?? fail(`has ${unreadType(number)}`);
  const columns = shape[shape.length - 1];
  if (columns % type.elements !== 0) {
    fail(`has rows of ${columns} numbers, expected a multiple of ${type.elements} in ${type.name}`);
  }
  const bytes = Number(elements) / type.elements * type.bytes;
  return { type, shape, bytes, offset: cursor.u64(`the place of ${tensor}`) };
}

/** Tensors begin at multiples of `alignment`, lie in the file, and no byte is of two of them. */
function locateTensors(
  file: FileReader,
  described: ReadonlyMap<string, TensorHeader>,
  { alignment, start }: { alignment: number; start: number },
): Map<string, TensorInfo> {
  const fail = (name: string, problem: string): never => {
    throw new UserError(`${file.path}: tensor ${brief(name)} ${problem}`);
  };
  const room = Math.max(0, file.size - start);
  const tensors = new Map<string, TensorInfo>();
  for (const [name, { type, shape, bytes, offset }] of described) {
    if (offset % BigInt(alignment) !== 0n) {
      fail(name, `begins at byte ${offset} of the data, expected a multiple of ${alignment}`);
    }
    if (offset > BigInt(room) || Number(offset) + bytes > room) {
      fail(
        name,
        `needs ${bytes} bytes from byte ${offset} of the data on, of which ${room} are there: the file is ` +
          "truncated, expected the whole file",
      );
    }
    tensors.set(name, { file, type, shape, bytes, position: start + Number(offset) });
  }
  let end = 0, before = "";
  for (const [name, place] of [...tensors].sort(([, a], [, b]) => a.position - b.position)) {
    if (place.position < end) fail(name, `overlaps tensor ${brief(before)}`);
    [end, before] = [place.position + place.bytes, name];
  }
  return tensors;
}

/** Reads and checks everything but the tensors' bytes. @throws UserError that names the file. */
function readHeader(file: FileReader): GgufFile {
  const cursor = new Cursor(file), metadata = new Metadata(file);
  checkVersion(file, cursor);
  const tensorCount = cursor.count(LEAST_TENSOR, "tensors");
  metadata.read(cursor, cursor.count(Metadata.leastEntry, "metadata entries"));
  const alignment = metadata.count("general.alignment", MOST_ALIGNMENT) ?? DEFAULT_ALIGNMENT;
  if (alignment % 8 !== 0) metadata.fail("general.alignment", "a multiple of 8");
  const described = new Map<string, TensorHeader>();
  for (let i = 0; i < tensorCount; i++) {
    const name = cursor.text(`the name of tensor ${i + 1}`), tensor = `tensor ${brief(name)}`;
    if (described.has(name)) cursor.fail(`has ${tensor} twice`);
    described.set(name, readTensorInfo(cursor, tensor));
  }
  const start = Math.ceil(cursor.position / alignment) * alignment;
  return { file, metadata, tensors: locateTensors(file, described, { alignment, start }) };
}

/** Opens one file. @throws UserError that names it and what is wrong with it. */
export function openGgufFile(path: string): GgufFile {
  const file = new FileReader(path);
  try {
    return readHeader(file);
  } catch (error) {
    file.close();
    throw error;
  }
}
