/**
 * What kernel tests share: one device, uploads, poisoned outputs, comparison with a tolerance.
 *
 * @module
 */
import assert from "node:assert/strict";
import { UserError } from "../../kernels/errors.ts";
import { type Gpu, openGpu } from "../../kernels/gpu/gpu.ts";
import { bytesOf, type Dtype, roundUp, Tensor } from "../../kernels/gpu/tensor.ts";

/** Sizes that are no multiple of a tile. */
export const AWKWARD = [1, 7, 31, 33, 127, 129, 257];
/** The same for dimensions that kernels read four elements at a time. */
export const AWKWARD4 = [4, 28, 36, 124, 132, 260];

/** The adapter's device, opened once; undefined (tests are ignored) where there is no adapter. */
export const gpu: Gpu | undefined = await openGpu().catch((error) => {
  if (error instanceof UserError && /no GPU adapter/.test(error.message)) return undefined;
  throw error;
});
globalThis.addEventListener("unload", () => gpu?.close());

/** Tensors of the running test, and whose they are. */
const allocated: { gpu: Gpu; tensor: Tensor }[] = [];

/** Registers a test that needs an adapter; ignored, with the reason in its name, where there is none. */
export function gpuTest(name: string, body: (gpu: Gpu) => Promise<void>): void {
  Deno.test({
    name: gpu ? name : `${name} (ignored: no GPU adapter)`,
    ignore: !gpu,
    sanitizeOps: false,
    sanitizeResources: false,
    fn: async () => {
      try {
        await body(gpu!);
        await gpu!.check();
      } finally {
        for (const { gpu, tensor } of allocated.splice(0)) gpu.free(tensor);
      }
    },
  });
}

/** A repeatable stream of numbers in (−1, 1). */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 31 - 1;
  };
}

/** `count` random numbers times `scale`. */
export function randomArray(count: number, seed: number, scale = 1): Float64Array {
  const next = random(seed), values = new Float64Array(count);
  for (let i = 0; i < count; i++) values[i] = next() * scale;
  return values;
}

/** Arrays of these dtypes; the engine's halves are compared with arithmetic in half_reference_test.ts. */
const ARRAYS = { u32: Uint32Array, f32: Float32Array, f16: Float16Array };

/** The values as the dtype can hold them, so that references see what the kernel sees. */
export function quantize(values: ArrayLike<number>, dtype: Dtype): Float64Array {
  return new Float64Array(new ARRAYS[dtype](values));
}

/** A tensor with these values, freed after the test. */
export function upload(
  gpu: Gpu,
  values: ArrayLike<number>,
  dtype: Dtype,
  shape: readonly number[],
): Tensor {
  const tensor = gpu.memory.tensor("parameter", "input", dtype, shape);
  allocated.push({ gpu, tensor });
  assert.equal(values.length, tensor.size);
  gpu.write(tensor, new Uint8Array(new ARRAYS[dtype](values).buffer));
  return tensor;
}

/** An output tensor filled with NaN, so that every element a kernel forgets shows. */
export function poisoned(gpu: Gpu, dtype: Dtype, shape: readonly number[]): Tensor {
  const tensor = gpu.memory.tensor("parameter", "output", dtype, shape);
  allocated.push({ gpu, tensor });
  gpu.write(tensor, new Uint8Array(roundUp(tensor.size * bytesOf(dtype), 4)).fill(0xff));
  return tensor;
}

/** A tensor's values as numbers. */
export async function download(gpu: Gpu, tensor: Tensor): Promise<Float64Array> {
  const bytes = await gpu.read(tensor);
  return new Float64Array(new ARRAYS[tensor.dtype](bytes, 0, tensor.size));
}

/** Every element within atol + rtol·|expected|; NaN and infinity must agree exactly. */
export function assertClose(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  { atol, rtol, what = "value" }: { atol: number; rtol: number; what?: string },
): void {
  assert.equal(actual.length, expected.length, `${what}: length`);
  for (let i = 0; i < expected.length; i++) {
    const a = actual[i], e = expected[i];
    const same = Object.is(a, e) || Math.abs(a - e) <= atol + rtol * Math.abs(e);
    if (!same) assert.fail(`${what}[${i}]: got ${a}, expected ${e} (atol ${atol}, rtol ${rtol})`);
  }
}

/** The root mean square of a difference, relative to what is expected. */
export function relative(actual: Float64Array, expected: Float64Array): number {
  const square = (x: Float64Array) => x.reduce((sum, value) => sum + value * value, 0);
  return Math.sqrt(square(actual.map((value, i) => value - expected[i])) / square(expected));
}

/** Tolerances for results computed in f32 and stored in this dtype. */
export function tolerance(dtype: Dtype): { atol: number; rtol: number } {
  return dtype === "f16" ? { atol: 2e-3, rtol: 2e-3 } : { atol: 2e-5, rtol: 2e-5 };
}
