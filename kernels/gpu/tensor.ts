/**
 * A tensor is a named range of a GPU buffer, row-major, with a dtype and a shape.
 *
 * @module
 */

/** Element types of GPU storage. f16 is stored as packed halves, so no adapter feature is needed. */
export type Dtype = "f32" | "f16" | "u32";

/** Bytes of one element. */
export function bytesOf(dtype: Dtype): number {
  return dtype === "f16" ? 2 : 4;
}

/** Offsets of storage bindings are aligned to this many bytes on every adapter. */
export const ALIGNMENT = 256;

/** `n` rounded up to a multiple of `unit`. */
export function roundUp(n: number, unit: number): number {
  return Math.ceil(n / unit) * unit;
}

/** The largest whole number that divides both. */
export function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}

let nextId = 0;

/** A range of a GPU buffer seen as a row-major array. */
export class Tensor {
  /** Identity for the bind-group cache. */
  readonly id = nextId++;
  readonly #views = new Map<string, Tensor>();
  readonly #retyped = new Map<Dtype, Tensor>();

  /**
   * @param buffer The buffer that holds it; `undefined` while sizes are only being planned.
   * @param offset First byte in the buffer, a multiple of {@linkcode ALIGNMENT}.
   */
  constructor(
    readonly name: string,
    readonly dtype: Dtype,
    readonly shape: readonly number[],
    readonly buffer: GPUBuffer | undefined,
    readonly offset = 0,
  ) {}

  /** Number of elements. */
  get size(): number {
    return this.shape.reduce((a, b) => a * b, 1);
  }

  /** Bytes it occupies, padded to the 16 bytes that kernels load at a time. */
  get bytes(): number {
    return storedBytes(this.dtype, this.shape);
  }

  /** Elements of one row: everything but the first dimension. */
  get rowSize(): number {
    return this.size / this.shape[0];
  }

  /**
   * The memory from element `first` on seen with another shape. The same arguments give the same
   * object, as bind groups are cached by tensor.
   */
  view(shape: readonly number[], first = 0): Tensor {
    return this.#view(shape, first, `element ${first}`);
  }

  /** The same memory for elements of a dtype that is no larger; the same object each time. */
  as(dtype: Dtype): Tensor {
    if (dtype === this.dtype) return this;
    if (bytesOf(dtype) > bytesOf(this.dtype)) {
      throw new Error(`${this.name} is too small for ${dtype}`);
    }
    const { name, shape, buffer, offset } = this;
    let tensor = this.#retyped.get(dtype);
    if (tensor === undefined) {
      this.#retyped.set(dtype, tensor = new Tensor(name, dtype, shape, buffer, offset));
    }
    return tensor;
  }

  /** Rows `start` to `start + count`, as {@linkcode view} gives them. */
  rows(start: number, count: number): Tensor {
    return this.#view([count, ...this.shape.slice(1)], start * this.rowSize, `row ${start}`);
  }

  #view(shape: readonly number[], first: number, place: string): Tensor {
    const key = `${first}:${shape}`;
    let view = this.#views.get(key);
    if (view === undefined) {
      const offset = this.offset + first * bytesOf(this.dtype);
      if (offset % ALIGNMENT !== 0) {
        throw new Error(`${this.name}: ${place} does not start at a multiple of ${ALIGNMENT}`);
      }
      view = new Tensor(this.name, this.dtype, shape, this.buffer, offset);
      this.#views.set(key, view);
    }
    return view;
  }
}

/** A buffer that is there. @throws {Error} where sizes are only being planned. */
export function allocated(buffer: GPUBuffer | undefined, name: string): GPUBuffer {
  if (buffer === undefined) throw new Error(`${name} is only planned`);
  return buffer;
}

/** Bytes that a tensor of this dtype and shape occupies in a buffer. */
export function storedBytes(dtype: Dtype, shape: readonly number[]): number {
  return roundUp(shape.reduce((a, b) => a * b, 1) * bytesOf(dtype), 16);
}

/**
 * What is bound to write `count` elements of a tensor: all of it or, where that exceeds a binding of `limit` bytes, the
 * part around them; and where they begin in it.
 */
export function boundPart(
  tensor: Tensor,
  { first, count }: { first: number; count: number },
  limit: number,
): { tensor: Tensor; first: number } {
  if (tensor.bytes <= limit) return { tensor, first };
  const within = first % (ALIGNMENT / bytesOf(tensor.dtype));
  return { tensor: tensor.view([within + count], first - within), first: within };
}

/** One piece of a tensor too large to bind at once. */
export interface RowRange {
  start: number;
  count: number;
}

/** A row of a tensor that is split by rows. */
export interface RowBytes {
  /** May be a fraction, where several rows share an element. */
  bytes: number;
  /** Values of the row; ranges end at multiples of `whole` values. Default: anywhere. */
  size?: number;
  whole?: number;
}

/**
 * Splits `rows` rows of `rowBytes` bytes into ranges of at most `limit` bytes, each but the last
 * ending at a multiple of {@linkcode ALIGNMENT} bytes and of four rows (a row may be a column of another
 * operand, read four at a time). One range where all of it fits.
 *
 * @param rowBytes One for each tensor, where several are split alike.
 */
export function splitRows(
  rows: number,
  rowBytes: number | readonly RowBytes[],
  limit: number,
): RowRange[] {
  const sizes = typeof rowBytes === "number" ? [{ bytes: rowBytes }] : rowBytes;
  const largest = Math.max(...sizes.map(({ bytes }) => bytes));
  if (rows * largest <= limit) return [{ start: 0, count: rows }];
  const fits = (unit: number) =>
    sizes.every(({ bytes, size = 1, whole = 1 }) =>
      (unit * bytes) % ALIGNMENT === 0 && (unit * size) % whole === 0
    );
  let unit = 4;
  while (!fits(unit)) unit *= 2;
  const most = Math.floor(limit / (largest * unit)) * unit;
  if (most === 0) throw new Error(`a row of ${largest} bytes does not fit a binding of ${limit}`);
  const ranges: RowRange[] = [];
  for (let start = 0; start < rows; start += most) {
    ranges.push({ start, count: Math.min(most, rows - start) });
  }
  return ranges;
}
