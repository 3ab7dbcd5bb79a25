/**
 * Whether a GPU computes what it should: a copy and products of small whole numbers, whose results are exact in every
 * precision and order of sums.
 *
 * @module
 */
import type { Gpu } from "../kernels/gpu/gpu.ts";
import type { Dtype, Tensor } from "../kernels/gpu/tensor.ts";
import { copy } from "../kernels/ops/elements/bytes.ts";
import { matmul } from "../kernels/ops/matmul/matmul.ts";

/** Rows of A and of B, and their common length: several tiles each, and no multiple of one. */
const ROWS = 133, COLUMNS = 72, LENGTH = 136;

/** Whole numbers from -3 to 3 in no simple order. */
function numbers(count: number, factor: number): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => (i * i * factor + 5 * i) % 7 - 3);
}

/** A·Bᵀ. */
function product(a: Float32Array, b: Float32Array): Float32Array {
  const c = new Float32Array(ROWS * COLUMNS);
  for (let row = 0; row < ROWS; row++) {
    for (let column = 0; column < COLUMNS; column++) {
      let sum = 0;
      for (let k = 0; k < LENGTH; k++) sum += a[row * LENGTH + k] * b[column * LENGTH + k];
      c[row * COLUMNS + column] = sum;
    }
  }
  return c;
}

function differs(got: Float32Array, expected: Float32Array): boolean {
  return expected.some((value, i) => !Object.is(got[i] + 0, value + 0));
}

function write(gpu: Gpu, tensor: Tensor, values: Float32Array): void {
  gpu.write(
    tensor,
    tensor.dtype === "f32" ? values : new Uint16Array(Float16Array.from(values).buffer),
  );
}

async function productIsWrong(gpu: Gpu, dtype: Dtype): Promise<boolean> {
  const tensor = (name: string, dtype: Dtype, shape: number[]) =>
    gpu.memory.tensor("workspace", `known ${name}`, dtype, shape);
  const a = tensor("a", dtype, [ROWS, LENGTH]), b = tensor("b", dtype, [COLUMNS, LENGTH]);
  const c = tensor("c", "f32", [ROWS, COLUMNS]);
  const left = numbers(a.size, 3), right = numbers(b.size, 2);
  write(gpu, a, left);
  write(gpu, b, right);
  write(gpu, c, new Float32Array(c.size).fill(NaN));
  const operands = dtype === "f16" ? "f16" : "f32";
  matmul(gpu, { orientation: "nt", a, b, c, rows: ROWS, operands });
  const got = await gpu.readF32(c);
  for (const tensor of [a, b, c]) gpu.free(tensor);
  return differs(got, product(left, right));
}

async function copyIsWrong(gpu: Gpu): Promise<boolean> {
  const values = numbers(1 << 16, 1);
  const [from, to] = ["from", "to"].map((name) =>
    gpu.memory.tensor("workspace", `known ${name}`, "f32", [values.length])
  );
  gpu.write(from, values);
  copy(gpu, from, to);
  const got = await gpu.readF32(to);
  for (const tensor of [from, to]) gpu.free(tensor);
  return differs(got, values);
}

/** What comes out wrong; undefined where everything is right. */
export async function wrongResult(gpu: Gpu): Promise<string | undefined> {
  if (await copyIsWrong(gpu)) return "a copy";
  if (await productIsWrong(gpu, "f32")) return "a product of f32 matrices";
  if (await productIsWrong(gpu, "f16")) return "a product of f16 matrices";
  return undefined;
}
