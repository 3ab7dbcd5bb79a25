/**
 * Every GPU buffer belongs to a category, and live and peak bytes of each are always known.
 * A planning allocator counts the same way without a device, so a run's need is known before it starts.
 *
 * @module
 */
import { UserError } from "../errors.ts";
import { ALIGNMENT, type Dtype, roundUp, storedBytes, Tensor } from "./tensor.ts";

/** What memory is used for. */
export const CATEGORIES = [
  "parameter",
  "activation",
  "gradient",
  "optimizer",
  "workspace",
] as const;
/** One of {@linkcode CATEGORIES}. */
export type Category = typeof CATEGORIES[number];

/** Bytes by category. */
export type MemoryTable = Record<Category, number>;

/** A tensor to allocate. */
export interface TensorSpec {
  name: string;
  dtype: Dtype;
  shape: readonly number[];
}

const zeroTable = (): MemoryTable => ({
  parameter: 0,
  activation: 0,
  gradient: 0,
  optimizer: 0,
  workspace: 0,
});

const STORAGE = 0x80 | 0x08 | 0x04; // STORAGE | COPY_DST | COPY_SRC

/** What an adapter allows, in bytes. */
export interface MemoryLimits {
  maxBufferSize: number;
  /** Largest range that a kernel can bind. Default: no limit of its own. */
  maxBinding?: number;
}

/** Categories whose tensors are split where they exceed a binding; all other tensors are bound whole. */
const SPLIT: readonly Category[] = ["parameter", "gradient", "optimizer"];

/** A buffer or binding that the adapter refuses as too large, however much memory there is. */
export class BufferTooLarge extends UserError {}

/** Hands out tensors and keeps count. Without a device it only plans. */
export class Memory {
  readonly #live = zeroTable();
  readonly #peak = zeroTable();
  #peakTotal = 0;
  #scratchBytes = 0;
  #encodingBytes = 0;
  /** Bytes that could be allocated before anything was, where anybody knows. */
  available?: number;
  readonly #buffers = new Map<GPUBuffer, { category: Category; bytes: number }>();

  constructor(
    readonly device?: GPUDevice,
    readonly limits: MemoryLimits = { maxBufferSize: Infinity },
  ) {}

  /** Bytes in use now, by category. */
  get live(): MemoryTable {
    return { ...this.#live };
  }

  /** Most bytes each category has held. */
  get peak(): MemoryTable {
    return { ...this.#peak };
  }

  /** Most bytes held at one time over all categories. */
  get peakTotal(): number {
    return this.#peakTotal;
  }

  /** Most bytes of working memory that launches are known to ask for; see `Gpu.scratch`. */
  get scratchBytes(): number {
    return this.#scratchBytes;
  }

  /** Bytes that loading takes at one time beside what it uploads. */
  get encodingBytes(): number {
    return this.#encodingBytes;
  }

  /** Reserves so many bytes for loading, which are free afterwards. */
  needEncoding(bytes: number): void {
    this.#encodingBytes = Math.max(this.#encodingBytes, bytes);
  }

  /** Reserves so many bytes of working memory for launches; see `Gpu.scratch`. */
  needScratch(bytes: number): void {
    this.#scratchBytes = Math.max(this.#scratchBytes, bytes);
  }

  /** Allocates one tensor, filled with zeros. @throws as {@linkcode arena} does. */
  tensor(category: Category, name: string, dtype: Dtype, shape: readonly number[]): Tensor {
    return this.arena(category, name, [{ name, dtype, shape }])[0];
  }

  /**
   * Allocates several tensors side by side in as few buffers as the adapter's largest buffer allows:
   * drivers round every small buffer up, and large ones waste least.
   *
   * @throws {BufferTooLarge} where a tensor exceeds a buffer, or a binding though its category is not split.
   */
  arena(category: Category, label: string, specs: readonly TensorSpec[]): Tensor[] {
    const tensors: Tensor[] = [];
    let first = 0;
    while (first < specs.length) {
      const offsets: number[] = [];
      let bytes = 0, last = first;
      for (; last < specs.length; last++) {
        const size = roundUp(storedBytes(specs[last].dtype, specs[last].shape), ALIGNMENT);
        this.#checkBinding(category, specs[last]);
        if (bytes + size > this.limits.maxBufferSize && last > first) break;
        offsets.push(bytes);
        bytes += size;
      }
      const buffer = this.buffer(category, label, bytes);
      for (let i = first; i < last; i++) {
        const { name, dtype, shape } = specs[i];
        tensors.push(new Tensor(name, dtype, shape, buffer, offsets[i - first]));
      }
      first = last;
    }
    return tensors;
  }

  /** Allocates a raw buffer, storage and copies by default; `undefined` when only planning. */
  buffer(
    category: Category,
    label: string,
    bytes: number,
    usage: number = STORAGE,
  ): GPUBuffer | undefined {
    if (bytes > this.limits.maxBufferSize) {
      const [need, most] = [bytes, this.limits.maxBufferSize].map((b) => (b / 2 ** 20).toFixed(0));
      throw new BufferTooLarge(
        `"${label}" needs ${need} MB in one buffer; this adapter allows ${most} MB`,
      );
    }
    this.#live[category] += bytes;
    this.#peak[category] = Math.max(this.#peak[category], this.#live[category]);
    const total = Object.values(this.#live).reduce((a, b) => a + b, 0);
    this.#peakTotal = Math.max(this.#peakTotal, total);
    if (this.device === undefined) return undefined;
    const buffer = this.device.createBuffer({ label, size: bytes, usage });
    this.#buffers.set(buffer, { category, bytes });
    return buffer;
  }

  #checkBinding(category: Category, { name, dtype, shape }: TensorSpec): void {
    const need = storedBytes(dtype, shape), most = this.limits.maxBinding ?? Infinity;
    if (SPLIT.includes(category) || need <= most) return;
    const [needs, allows] = [need, most].map((bytes) => Number(megabytes(bytes).toPrecision(4)));
    throw new BufferTooLarge(
      `"${name}" [${shape}] needs ${needs} MB in one binding, and this adapter allows ${allows} MB; ` +
        "expected fewer tokens in one pass (a smaller micro-batch, shorter samples or prompts)",
    );
  }

  /** What a buffer is used for; undefined where it is not of this memory. */
  categoryOf(buffer: GPUBuffer): Category | undefined {
    return this.#buffers.get(buffer)?.category;
  }

  /** Destroys a buffer and forgets its bytes. */
  free(buffer: GPUBuffer): void {
    const entry = this.#buffers.get(buffer);
    if (entry === undefined) return;
    this.#live[entry.category] -= entry.bytes;
    this.#buffers.delete(buffer);
    buffer.destroy();
  }

  /** Destroys all buffers. */
  freeAll(): void {
    for (const buffer of this.#buffers.keys()) this.free(buffer);
  }
}

/** Megabytes (2^20 bytes) of a byte count. */
export function megabytes(bytes: number): number {
  return bytes / 2 ** 20;
}

/** A table of bytes by category in MB, one line each and a total; a second column for `have`. */
export function memoryLines(table: MemoryTable, total: number): string[] {
  const line = (name: string, bytes: number) =>
    `  ${name.padEnd(12)}${megabytes(bytes).toFixed(1).padStart(12)} MB`;
  return [...CATEGORIES.map((c) => line(c, table[c])), line("total", total)];
}

/**
 * A tensor at the start of another one's memory, while that one is not in use. A launch can't read one and write the
 * other.
 *
 * @returns undefined where it does not fit.
 */
export function overlay(host: Tensor, { name, dtype, shape }: TensorSpec): Tensor | undefined {
  const tensor = new Tensor(name, dtype, shape, host.buffer, host.offset);
  return tensor.bytes <= host.bytes ? tensor : undefined;
}
