/**
 * The safetensors format: 8 bytes with the header's length (little-endian), a JSON header that gives
 * every tensor's dtype, shape and place, then the tensors' bytes without gaps. It is read here, and written by
 * model/formats/write_safetensors.ts.
 * https://github.com/huggingface/safetensors#format
 *
 * A header is believed only after everything in it has been checked against the file.
 *
 * @module
 */

import { UserError } from "../../kernels/errors.ts";
import { FileReader } from "../files/file_reader.ts";
import { dtypeBytes, type TensorEntry, type TensorFile } from "./tensor_file.ts";
import { brief, isObject, nestedDeeper, stringEnd } from "../files/json_file.ts";
import { kindOf, UTF8 } from "../files/whole_file.ts";

/** The format's own limit: a longer header is an attack or another kind of file. */
const MAX_HEADER_BYTES = 100_000_000;

/** What a file says about itself. */
export interface SafetensorsHeader {
  tensors: Map<string, TensorEntry>;
  metadata: Record<string, string>;
}

/** Header, tensor and shape are three levels; room for fields that a later version may add. */
const MAX_DEPTH = 16;

/**
 * A key that an object of a header has twice, which `JSON.parse` would not notice: it keeps the last.
 * Escapes are understood, so "a" and "\u0061" are the same. Safe on any text; what is not JSON is left
 * to `JSON.parse`.
 */
function repeatedKey(text: string): string | undefined {
  const open: Set<string>[] = []; // the keys so far of every object (or array) that is open
  for (let at = 0; at < text.length; at++) {
    const character = text[at];
    if (character === "{" || character === "[") open.push(new Set());
    else if (character === "}" || character === "]") open.pop();
    else if (character === '"') {
      const start = at;
      at = stringEnd(text, start);
      let next = at + 1;
      while (" \t\n\r".includes(text[next] ?? "end")) next++;
      if (text[next] !== ":" || open.length === 0) continue;
      let key: string;
      try {
        key = JSON.parse(text.slice(start, at + 1));
      } catch {
        return undefined;
      }
      const keys = open[open.length - 1];
      if (keys.has(key)) return key;
      keys.add(key);
    }
  }
}

/** Checks one tensor on its own; where it lies among the others is checked by `checkLayout`. */
function parseEntry(name: string, value: unknown, file: string): TensorEntry {
  const fail = (problem: string): never => {
    throw new UserError(`${file}: tensor ${brief(name)} ${problem}`);
  };
  if (!isObject(value)) return fail("is not described by a JSON object");
  const { dtype, shape, data_offsets: offsets } = value;
  const unit = typeof dtype === "string" ? dtypeBytes(dtype) : undefined;
  if (typeof dtype !== "string" || unit === undefined) {
    return fail(`has dtype ${brief(dtype)}, which is not known`);
  }
  const isSize = (n: unknown): n is number => Number.isSafeInteger(n) && (n as number) >= 0;
  if (!Array.isArray(shape) || !shape.every(isSize)) {
    return fail("has a shape that is not a list of whole numbers");
  }
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize)) {
    return fail("has data_offsets that are not two whole numbers");
  }
  const [begin, end] = offsets;
  if (begin > end) return fail(`ends at byte ${end}, before it begins at byte ${begin}`);
  // Factors are at least 1 here, so a product too large to be exact can't come back to a file's size.
  const bytes = shape.includes(0) ? 0 : shape.reduce((a, b) => a * b, unit);
  if (bytes !== end - begin) {
    return fail(
      `has ${end - begin} bytes, but shape ${brief(shape)} of ${dtype} needs ${bytes}`,
    );
  }
  return { dtype, shape, begin, end };
}

/** Tensors must cover the data exactly: no byte twice, none left over. */
function checkLayout(tensors: Map<string, TensorEntry>, dataBytes: number, file: string): void {
  const ordered = [...tensors].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  let end = 0, before = "";
  for (const [name, entry] of ordered) {
    const quoted = brief(name);
    if (entry.begin < end) throw new UserError(`${file}: tensor ${quoted} overlaps ${before}`);
    if (entry.begin > end) {
      const gap = `bytes ${end} to ${entry.begin} of the data, before tensor ${quoted},`;
      throw new UserError(`${file}: ${gap} belong to no tensor`);
    }
    [end, before] = [entry.end, quoted];
  }
  if (end > dataBytes) {
    throw new UserError(
      `${file}: is truncated: its tensors have ${end} bytes, of which ${dataBytes} are there; ` +
        "expected the whole file",
    );
  }
  if (end !== dataBytes) {
    throw new UserError(
      `${file}: ${dataBytes - end} bytes after the last tensor belong to no tensor`,
    );
  }
}

/**
 * Reads and checks a header.
 *
 * @param header The JSON, without the length before it.
 * @param dataBytes How many bytes follow it in the file.
 * @param file The file's name, for messages.
 * @throws UserError that names the file, and the tensor where there is one.
 */
export function parseSafetensorsHeader(
  header: Uint8Array,
  dataBytes: number,
  file: string,
): SafetensorsHeader {
  const fail = (problem: string): never => {
    throw new UserError(`${file}: the safetensors header ${problem}`);
  };
  let text = "", json: unknown;
  try {
    text = UTF8.decode(header);
  } catch {
    fail("is not valid UTF-8");
  }
  if (nestedDeeper(text, MAX_DEPTH)) fail(`is nested more than ${MAX_DEPTH} levels deep`);
  const repeated = repeatedKey(text);
  if (repeated !== undefined) fail(`has the name ${brief(repeated)} twice`);
  try {
    json = JSON.parse(text);
  } catch {
    fail("is not valid JSON");
  }
  if (!isObject(json) || !text.startsWith("{")) return fail("is not a JSON object");
  const tensors = new Map<string, TensorEntry>();
  const metadata: Record<string, string> = {};
  for (const [name, value] of Object.entries(json)) {
    if (name !== "__metadata__") {
      tensors.set(name, parseEntry(name, value, file));
    } else if (isObject(value) && Object.values(value).every((v) => typeof v === "string")) {
      Object.assign(metadata, value);
    } else {
      throw new UserError(`${file}: __metadata__ is not a JSON object of strings`);
    }
  }
  checkLayout(tensors, dataBytes, file);
  return { tensors, metadata };
}

/** An open safetensors file. */
export class SafetensorsFile implements SafetensorsHeader, TensorFile {
  readonly path: string;
  readonly tensors: Map<string, TensorEntry>;
  readonly metadata: Record<string, string>;
  /** The bytes before the data: the header and its length. */
  readonly head: Uint8Array;
  readonly #file: FileReader;
  readonly #dataStart: number;

  /** Use `openSafetensors`. Takes over `file`. */
  constructor(file: FileReader) {
    const { path, size } = file;
    this.path = path;
    this.#file = file;
    const kind = kindOf(file.head);
    const not = kind === undefined || kind === "a safetensors file" ? "" : `: it is ${kind}`;
    if (size < 8) {
      throw new UserError(`${path}: is ${size} bytes, too short for a safetensors file${not}`);
    }
    const { buffer, byteOffset } = file.head;
    const length = new DataView(buffer, byteOffset).getBigUint64(0, true);
    if (length > BigInt(MAX_HEADER_BYTES)) {
      throw new UserError(
        not === ""
          ? `${path}: says that its header has ${length} bytes, more than the limit of 100 MB`
          : `${path}: is no safetensors file${not}`,
      );
    }
    this.#dataStart = 8 + Number(length);
    if (this.#dataStart > size) {
      throw new UserError(
        `${path}: is truncated: says that its header has ${length} bytes, ` +
          `but the file ends after ${size - 8}`,
      );
    }
    this.head = new Uint8Array(this.#dataStart);
    file.readSync(0, this.head);
    const parsed = parseSafetensorsHeader(this.head.subarray(8), size - this.#dataStart, path);
    this.tensors = parsed.tensors;
    this.metadata = parsed.metadata;
  }

  /**
   * Fills `target` with a tensor's bytes from its byte `begin` on, as `WeightSource.read` does.
   *
   * @throws UserError where the file can't be read, RangeError for bytes that the tensor doesn't have.
   */
  async read(name: string, begin: number, target: Uint8Array): Promise<void> {
    await this.#file.read(this.#position(name, begin, target.length), target);
  }

  /** The same without a promise. */
  readSync(name: string, begin: number, target: Uint8Array): void {
    this.#file.readSync(this.#position(name, begin, target.length), target);
  }

  #position(name: string, begin: number, bytes: number): number {
    const entry = this.tensors.get(name);
    if (entry === undefined) throw new RangeError(`${this.path} has no tensor "${name}"`);
    const size = entry.end - entry.begin;
    if (!(begin >= 0 && begin + bytes <= size)) {
      throw new RangeError(`"${name}" has ${size} bytes, not ${bytes} from byte ${begin} on`);
    }
    return this.#dataStart + entry.begin + begin;
  }

  close(): void {
    this.#file.close();
  }
}

/**
 * Opens a safetensors file and checks its header.
 *
 * @throws UserError that names the file and what is wrong with it.
 */
export function openSafetensors(path: string): SafetensorsFile {
  const file = new FileReader(path);
  try {
    return new SafetensorsFile(file);
  } catch (error) {
    file.close();
    throw error;
  }
}
