/**
 * Tensors in the files of `torch.save` (`.pth`, `.pt`, `.bin`): a pickle that describes a dictionary of tensors, and
 * their numbers. Since PyTorch 1.6 the file is a zip archive with the pickle in `<root>/data.pkl` and the numbers in
 * `<root>/data/<key>`; the format before that is read by model/formats/pth_legacy.ts.
 *
 * Layout: https://docs.pytorch.org/docs/stable/notes/serialization.html.
 *
 * @module
 */

import { UserError } from "../../kernels/errors.ts";
import { FileReader } from "../files/file_reader.ts";
import { unpickle } from "./pickle.ts";
import { PickledDictionary, PickledTensor, type PthContents } from "./pickle_values.ts";
import { isLegacy, readLegacy } from "./pth_legacy.ts";
import { isRowMajor, placeRun, spanOf, stridedRuns } from "./strided.ts";
import { dtypeBytes, type TensorEntry, type TensorFile } from "./tensor_file.ts";
import { brief } from "../files/json_file.ts";
import { type FileDtype, isFileDtype } from "./weights.ts";
import { ZipArchive } from "./zip.ts";

/** The descriptions of a 405B model's tensors take some 200 KB. */
const MAX_PICKLE = 64 * 2 ** 20;

/** How a tensor's numbers lie in the file. */
interface Place {
  unit: number;
  /** Of its first number in the file, in bytes. */
  position: number;
  /** In elements; undefined where the numbers are row-major and in one piece. */
  stride?: readonly number[];
}

/** The folder in the archive that everything is in. */
function findRoot(zip: ZipArchive, path: string): string {
  const pickles = [...zip.entries.keys()].filter((name) => /^[^/]+\/data\.pkl$/.test(name));
  if (pickles.length === 1) return pickles[0].slice(0, -"/data.pkl".length);
  throw new UserError(
    `${path}: has ${pickles.length} entries <name>/data.pkl, expected one as torch.save writes`,
  );
}

/** Reads what a zip archive of torch.save holds. */
function readArchive(file: FileReader): PthContents {
  const zip = new ZipArchive(file), root = findRoot(zip, file.path);
  // Written since PyTorch 2.1; earlier files have the byte order of their machine, which is little.
  const byteOrder = zip.entries.get(`${root}/byteorder`);
  if (byteOrder !== undefined) {
    const order = new TextDecoder().decode(zip.content(byteOrder, 100));
    if (order !== "little") {
      const name = brief(byteOrder.name);
      throw new UserError(`${file.path}: entry ${name} is ${brief(order)}, expected "little"`);
    }
  }
  const pickle = `${root}/data.pkl`, entry = zip.entries.get(pickle);
  if (entry === undefined) throw new RangeError(`${file.path} has no ${pickle}`);
  const content = zip.content(entry, MAX_PICKLE);
  return {
    value: unpickle(content, `${file.path}: ${pickle}`, file.size),
    pickle,
    name: ({ key }) => `data/${key}`,
    place({ key }) {
      const numbers = zip.entries.get(`${root}/data/${key}`);
      return numbers && { position: zip.position(numbers), bytes: numbers.size };
    },
  };
}

/** An open file of `torch.save` that holds a dictionary of tensors. */
export class PthFile implements TensorFile {
  readonly path: string;
  /** All of the dictionary's values that are tensors. */
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  readonly #file: FileReader;
  readonly #names: string[];
  readonly #places = new Map<string, Place>();

  /** Use `openTorchFile`. Takes over `file`. */
  constructor(file: FileReader) {
    this.path = file.path;
    this.#file = file;
    const contents = isLegacy(file) ? readLegacy(file) : readArchive(file);
    const { value: dictionary, pickle } = contents;
    if (!(dictionary instanceof PickledDictionary)) {
      this.#fail(`${pickle} holds no dictionary, expected one of tensors by name`);
    }
    this.#names = [...dictionary.keys()].map(String);
    const tensors = new Map<string, TensorEntry>();
    for (const [name, value] of dictionary) {
      if (typeof name !== "string" || !(value instanceof PickledTensor)) continue;
      tensors.set(name, this.#locate(name, value, contents));
    }
    this.tensors = tensors;
  }

  #fail(problem: string): never {
    throw new UserError(`${this.path}: ${problem}`);
  }

  /** Checks that a tensor's numbers are in the file. */
  #locate(name: string, tensor: PickledTensor, contents: PthContents): TensorEntry {
    const fail = (problem: string) => this.#fail(`tensor ${brief(name)} ${problem}`);
    const { storage, offset, shape, stride } = tensor, { dtype } = storage;
    const unit = dtypeBytes(dtype);
    if (unit === undefined) throw new RangeError(`${dtype} is no dtype`);
    const rowMajor = isRowMajor(shape, stride);
    // Factors are at least 1, so a product too large to be exact can't come back to a file's size.
    const count = shape.includes(0) ? 0 : shape.reduce((a, b) => a * b, 1);
    if (count === 0) {
      // A slice without numbers may begin beyond its storage.
      this.#places.set(name, { unit, position: 0 });
      return { dtype, shape: [...shape], begin: 0, end: 0 };
    }
    if (!rowMajor && shape.some((size, axis) => size > 1 && stride[axis] === 0)) {
      fail(
        `has shape ${brief(shape)} with strides ${
          brief(stride)
        }, expected numbers of its own for ` +
          "every element: save it with .contiguous()",
      );
    }
    const span = rowMajor ? count : spanOf(tensor);
    if (offset + span > storage.count || count > storage.count) {
      const end = offset + Math.max(span, count);
      fail(`ends at number ${end} of its storage, which has ${storage.count}`);
    }
    const place = contents.place(storage);
    if (place === undefined) {
      return fail(`has its numbers in ${contents.name(storage)}, which is missing`);
    }
    if (place.bytes !== storage.count * unit) {
      const numbers = `${contents.name(storage)} of ${place.bytes} bytes`;
      const needed = `${storage.count} numbers of ${dtype} need ${storage.count * unit}`;
      fail(`has its numbers in ${numbers}, but ${needed}`);
    }
    const position = place.position + offset * unit;
    this.#places.set(name, { unit, position, stride: rowMajor ? undefined : stride });
    return { dtype, shape: [...shape], begin: position, end: position + count * unit };
  }

  /** The dictionary's keys, also those whose values are no tensors. */
  names(): string[] {
    return this.#names;
  }

  /**
   * A tensor that a model can be made of.
   *
   * @throws UserError that names the tensor where it is missing, no tensor, or of another dtype.
   */
  weight(name: string): { dtype: FileDtype; shape: number[]; bytes: number } {
    const entry = this.tensors.get(name), quoted = brief(name);
    if (entry === undefined) {
      this.#fail(`tensor ${quoted} is ${this.#names.includes(name) ? "no tensor" : "missing"}`);
    }
    const { dtype, shape, begin, end } = entry;
    if (!isFileDtype(dtype)) {
      this.#fail(`tensor ${quoted} has dtype ${dtype}, expected F32, F16 or BF16`);
    }
    return { dtype, shape, bytes: end - begin };
  }

  async read(name: string, begin: number, target: Uint8Array): Promise<void> {
    for (const { position, bytes, placed } of this.#reads(name, begin, target)) {
      await this.#file.read(position, bytes);
      placed?.();
    }
  }

  readSync(name: string, begin: number, target: Uint8Array): void {
    for (const { position, bytes, placed } of this.#reads(name, begin, target)) {
      this.#file.readSync(position, bytes);
      placed?.();
    }
  }

  /** What to read into which memory, and what to do once it is there. */
  *#reads(
    name: string,
    begin: number,
    target: Uint8Array,
  ): Generator<{ position: number; bytes: Uint8Array; placed?: () => void }> {
    const entry = this.tensors.get(name), place = this.#places.get(name);
    if (entry === undefined || place === undefined) {
      throw new RangeError(`${this.path} has no tensor "${name}"`);
    }
    const size = entry.end - entry.begin, { unit, position, stride } = place;
    if (!(begin >= 0 && begin + target.length <= size)) {
      throw new RangeError(
        `"${name}" has ${size} bytes, not ${target.length} from byte ${begin} on`,
      );
    }
    if (stride === undefined) {
      yield { position: position + begin, bytes: target };
      return;
    }
    // Elements are placed whole; where a part of one is asked for, all of it is read.
    const first = Math.floor(begin / unit), last = Math.ceil((begin + target.length) / unit);
    const whole = begin % unit === 0 && target.length % unit === 0;
    const elements = whole ? target : new Uint8Array((last - first) * unit);
    let memory = new Uint8Array(0);
    for (const run of stridedRuns({ shape: entry.shape, stride }, first, last)) {
      if (memory.length < run.span * unit) memory = new Uint8Array(run.span * unit);
      const bytes = memory.subarray(0, run.span * unit);
      const placed = () => placeRun(run, bytes, { unit, first, target: elements });
      yield { position: position + run.from * unit, bytes, placed };
    }
    if (!whole) {
      target.set(elements.subarray(begin - first * unit, begin - first * unit + target.length));
    }
  }

  close(): void {
    this.#file.close();
  }
}

/**
 * Opens a file that `torch.save` wrote of a dictionary of tensors, and reads their descriptions. Nothing in it is
 * executed. Tensors may share storages, be slices or transposed. The checksum of the descriptions is verified, those
 * of the numbers are not.
 *
 * @throws UserError that names the file and what is wrong with it, and the tensor where there is one.
 */
export function openTorchFile(path: string): PthFile {
  const file = new FileReader(path);
  try {
    return new PthFile(file);
  } catch (error) {
    file.close();
    throw error;
  }
}
