/**
 * Tensors in a `.pth` file as `torch.save` writes it since PyTorch 1.6: a zip archive with one pickle,
 * `<root>/data.pkl`, that describes a dictionary of tensors, and their numbers in `<root>/data/<key>`.
 *
 * Layout: https://docs.pytorch.org/docs/stable/notes/serialization.html.
 *
 * @module
 */

import { UserError } from "../../kernels/errors.ts";
import { FileReader } from "./file_reader.ts";
import { unpickle } from "./pickle.ts";
import { PickledDictionary, PickledTensor, type PickledValue } from "./pickle_values.ts";
import { brief, bytesPerElement, type FileDtype } from "./weights.ts";
import { ZipArchive } from "./zip.ts";

/** The descriptions of a 405B model's tensors take some 200 KB. */
const MAX_PICKLE = 64 * 2 ** 20;

/** How files of the format before PyTorch 1.6 begin: a pickle of the number 0x1950a86a20f9469cfc6c. */
const OLD_MAGIC = [0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/** Where a tensor's numbers are: row-major and little-endian, in one piece. */
export interface PthTensor {
  dtype: FileDtype;
  shape: number[];
  /** Of its first byte in the file. */
  position: number;
  bytes: number;
}

/** An open `.pth` file of a dictionary of tensors. */
export class PthFile {
  readonly file: FileReader;
  readonly #zip: ZipArchive;
  readonly #root: string;
  readonly #values: ReadonlyMap<string | number, PickledValue>;

  /**
   * Opens a file and reads the descriptions of its tensors. Nothing in it is executed. The checksum of
   * the descriptions is verified, those of the numbers are not.
   *
   * @throws UserError that names the file and what is wrong with it.
   */
  constructor(path: string) {
    this.file = new FileReader(path);
    try {
      this.#refuseOldFormat();
      this.#zip = new ZipArchive(this.file);
      this.#root = this.#findRoot();
      this.#checkByteOrder();
      const pickle = this.#zip.entries.get(`${this.#root}/data.pkl`)!;
      const content = this.#zip.content(pickle, MAX_PICKLE);
      const value = unpickle(content, `${path}: ${pickle.name}`, this.file.size);
      if (!(value instanceof PickledDictionary)) {
        this.#fail(`${pickle.name} holds no dictionary, expected one of tensors by name`);
      }
      this.#values = value;
    } catch (error) {
      this.file.close();
      throw error;
    }
  }

  #fail(problem: string): never {
    throw new UserError(`${this.file.path}: ${problem}`);
  }

  #refuseOldFormat(): void {
    const start = new Uint8Array(Math.min(OLD_MAGIC.length, this.file.size));
    this.file.readSync(0, start);
    if (OLD_MAGIC.every((byte, i) => start[i] === byte)) {
      this.#fail(
        "is in the old format of torch.save, expected the zip format: torch.load and torch.save it " +
          "with PyTorch 1.6 or newer",
      );
    }
  }

  /** The folder in the archive that everything is in. */
  #findRoot(): string {
    const names = [...this.#zip.entries.keys()];
    const pickles = names.filter((name) => /^[^/]+\/data\.pkl$/.test(name));
    if (pickles.length !== 1) {
      this.#fail(
        `has ${pickles.length} entries <name>/data.pkl, expected one as torch.save writes`,
      );
    }
    return pickles[0].slice(0, -"/data.pkl".length);
  }

  /** Written since PyTorch 2.1; earlier files have the byte order of their machine, which is little. */
  #checkByteOrder(): void {
    const entry = this.#zip.entries.get(`${this.#root}/byteorder`);
    if (entry === undefined) return;
    const order = new TextDecoder().decode(this.#zip.content(entry, 100));
    if (order !== "little") {
      this.#fail(`entry ${brief(entry.name)} is ${brief(order)}, expected "little"`);
    }
  }

  /** The dictionary's keys. */
  names(): string[] {
    return [...this.#values.keys()].map(String);
  }

  /**
   * Finds a tensor's numbers.
   *
   * @throws UserError that names the tensor where it is missing, no tensor, not row-major, or longer than
   *   the numbers that the file has for it.
   */
  locate(name: string): PthTensor {
    const fail = (problem: string) => this.#fail(`tensor ${brief(name)} ${problem}`);
    const value = this.#values.get(name);
    if (value === undefined) return fail("is missing");
    if (!(value instanceof PickledTensor)) return fail("is no tensor");
    const { storage, offset, shape, stride } = value;
    if (!isRowMajor(shape, stride)) {
      fail(
        `has shape ${brief(shape)} with strides ${brief(stride)}, expected a contiguous tensor: ` +
          "save it with .contiguous()",
      );
    }
    // Factors are at least 1, so a product too large to be exact can't come back to a file's size.
    const count = shape.includes(0) ? 0 : shape.reduce((a, b) => a * b, 1);
    if (offset + count > storage.count) {
      fail(`ends at number ${offset + count} of its storage, which has ${storage.count}`);
    }
    const entry = this.#zip.entries.get(`${this.#root}/data/${storage.key}`);
    if (entry === undefined) {
      return fail(`has its numbers in data/${storage.key}, which is missing`);
    }
    const unit = bytesPerElement(storage.dtype);
    if (entry.size !== storage.count * unit) {
      fail(
        `has its numbers in data/${storage.key} of ${entry.size} bytes, but ${storage.count} ` +
          `numbers of ${storage.dtype} need ${storage.count * unit}`,
      );
    }
    return {
      dtype: storage.dtype,
      shape: [...shape],
      position: this.#zip.position(entry) + offset * unit,
      bytes: count * unit,
    };
  }

  close(): void {
    this.file.close();
  }
}

/** Whether the elements lie one after the other; the stride of a size of 1 is never used. */
function isRowMajor(shape: readonly number[], stride: readonly number[]): boolean {
  let expected = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    if (shape[axis] !== 1 && stride[axis] !== expected) return shape.includes(0);
    expected *= shape[axis];
  }
  return true;
}
