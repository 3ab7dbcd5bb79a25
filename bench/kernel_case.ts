/**
 * A kernel at one size, with what is needed to check its result and to time it.
 *
 * @module
 */
import type { Gpu } from "../kernels/gpu/gpu.ts";
import type { Roofs } from "../kernels/gpu/roofline.ts";
import { pcg4d } from "../kernels/wgsl/hash.ts";
import { fillNormal } from "../kernels/ops/elements/random.ts";
import type { Dtype, Tensor } from "../kernels/gpu/tensor.ts";
import type { ModelConfig } from "../model/families/config.ts";

/** A kernel to be checked and then timed. */
export interface KernelCase {
  /** The operation and its sizes. */
  name: string;
  /** Rows of tokens. */
  tokens: number;
  /** Arithmetic and memory traffic that the operation needs at least. */
  flops: number;
  bytes: number;
  /** Records one call. Calls may differ in which of several equal operands they read. */
  run(): void;
  /** Compares sampled results of a call with float64: the root of Σ (difference²) / Σ (expected²). */
  check(): Promise<number>;
}

/** What cases are made of. */
export interface BenchContext {
  gpu: Gpu;
  config: ModelConfig;
  /** Of weights and, in training, of activations. */
  dtype: Dtype;
}

/** Largest error of a case: sums in f16 over short ranges, or rounding of results to f16; and f32 throughout. */
export const MOST_ERROR: Readonly<Record<Dtype, number>> = { f16: 2e-3, f32: 2e-5, u32: 0 };

/** What a case compares: results of a kernel beside what they should be. */
export class Samples {
  #difference = 0;
  #expected = 0;

  /** Takes note of one result. */
  add(actual: number, expected: number): void {
    this.#difference += (actual - expected) ** 2;
    this.#expected += expected ** 2;
  }

  /** Relative error in the root mean square; NaN where a result is. */
  get error(): number {
    return Math.sqrt(this.#difference / this.#expected);
  }
}

/** `count` numbers below `limit` by a fixed subsequence: the first and the last one, then random ones. */
export function pick(count: number, limit: number, subsequence: number): number[] {
  return Array.from(
    { length: count },
    (_, i) => i === 0 ? 0 : i === 1 ? limit - 1 : pcg4d(i, limit, subsequence, 5)[0] % limit,
  );
}

/** A tensor's numbers on the host. */
export async function valuesOf(gpu: Gpu, tensor: Tensor): Promise<ArrayLike<number>> {
  const bytes = await gpu.read(tensor);
  if (tensor.dtype === "f16") return new Float16Array(bytes, 0, tensor.size);
  return new (tensor.dtype === "f32" ? Float32Array : Uint32Array)(bytes, 0, tensor.size);
}

/** Tensors of one group of cases, freed together. */
export class Tensors {
  readonly #tensors: Tensor[] = [];

  constructor(readonly gpu: Gpu) {}

  /** A tensor of zeros. */
  zeros(dtype: Dtype, shape: readonly number[]): Tensor {
    const tensor = this.gpu.memory.tensor("workspace", "bench", dtype, shape);
    this.#tensors.push(tensor);
    return tensor;
  }

  /** A tensor of normal random numbers. */
  normal(dtype: Dtype, shape: readonly number[], subsequence: number, std = 1): Tensor {
    const y = this.zeros(dtype, shape);
    fillNormal(this.gpu, { y, mean: 0, std, seed: 1, subsequence });
    return y;
  }

  /** A tensor of u32 or f32 values. */
  of(values: Uint32Array | Float32Array): Tensor {
    const tensor = this.zeros(values instanceof Uint32Array ? "u32" : "f32", [values.length]);
    this.gpu.write(tensor, values);
    return tensor;
  }

  [Symbol.dispose](): void {
    for (const tensor of this.#tensors) this.gpu.free(tensor);
  }
}

/** One line of the result. */
export interface KernelRow {
  name: string;
  dtype: Dtype;
  tokens: number;
  milliseconds: number;
  flops: number;
  bytes: number;
  tflops_per_second: number;
  gigabytes_per_second: number;
  /** The roof that is in the way, and how much of it is reached. */
  roof: keyof Roofs;
  of_roof: number;
  /** Against float64, relative, in the root mean square. */
  error: number;
}
