/**
 * Kernels alone: copy bandwidth, then matrix products in the three orientations of training.
 *
 * @module
 */
import { cast } from "../kernels/cast.ts";
import { UserError } from "../kernels/errors.ts";
import { type Gpu, openGpu } from "../kernels/gpu.ts";
import { matmul, type Orientation } from "../kernels/matmul.ts";
import { fillNormal } from "../kernels/random.ts";
import { bytesOf, type Dtype, type Tensor } from "../kernels/tensor.ts";
import { median } from "./median.ts";

/** One line of the result. */
interface Row {
  name: string;
  milliseconds: number;
  tflops?: number;
  gigabytesPerSecond: number;
  /** Share of the bandwidth that copying reaches. */
  ofCopy: number;
  /** Largest error relative to the largest result, against float64. */
  error?: number;
}

const REPEATS = 7;

/** Median seconds of one call, from batches long enough that the wait at the end doesn't count. */
async function medianSeconds(gpu: Gpu, run: () => void): Promise<number> {
  const timed = async (count: number) => {
    const start = performance.now();
    for (let i = 0; i < count; i++) run();
    await gpu.finish();
    return (performance.now() - start) / 1000;
  };
  run();
  await gpu.finish();
  // Waiting alone costs 10 ms: what a batch takes beyond an empty one is the work.
  const idle = await timed(0);
  let count = 1;
  while (await timed(count) - idle < 0.1 && count < 4096) count *= 2;
  const times: number[] = [];
  for (let i = 0; i < REPEATS; i++) times.push((await timed(count) - idle) / count);
  return median(times);
}

/** An element of op(A)·op(B) in float64. */
function element(
  orientation: Orientation,
  a: Float32Array,
  b: Float32Array,
  [m, n, k]: readonly number[],
  [i, j]: readonly number[],
): number {
  let sum = 0;
  for (let l = 0; l < k; l++) {
    sum += (orientation === "tn" ? a[l * m + i] : a[i * k + l]) *
      (orientation === "nt" ? b[j * k + l] : b[l * n + j]);
  }
  return sum;
}

async function values(gpu: Gpu, x: Tensor): Promise<Float32Array> {
  const f32 = gpu.memory.tensor("workspace", "values", "f32", x.shape);
  cast(gpu, { x, y: f32 });
  const read = await gpu.readF32(f32);
  gpu.free(f32);
  return read;
}

async function product(
  gpu: Gpu,
  orientation: Orientation,
  dtype: Dtype,
  size: readonly [number, number, number],
): Promise<Omit<Row, "ofCopy">> {
  const [m, n, k] = size;
  const make = (name: string, d: Dtype, shape: number[]) =>
    gpu.memory.tensor("workspace", name, d, shape);
  const a = make("a", dtype, orientation === "tn" ? [k, m] : [m, k]);
  const b = make("b", dtype, orientation === "nt" ? [n, k] : [k, n]);
  const c = make("c", "f32", [m, n]);
  fillNormal(gpu, { y: a, mean: 0, std: 1, seed: 1, stream: 0 });
  fillNormal(gpu, { y: b, mean: 0, std: 1, seed: 1, stream: 1 });
  const run = () => matmul(gpu, { orientation, a, b, c, rows: orientation === "tn" ? k : m });
  run();
  const [A, B, C] = [await values(gpu, a), await values(gpu, b), await gpu.readF32(c)];
  let error = 0;
  for (let s = 0; s < 64; s++) {
    const [i, j] = [(s * 7919) % m, (s * 104729) % n];
    const difference = C[i * n + j] - element(orientation, A, B, size, [i, j]);
    error = Math.max(error, Math.abs(difference) / Math.sqrt(k));
  }
  const name = `matmul ${orientation} ${dtype} ${m}×${n}×${k}`;
  if (!(error < 1e-3)) throw new UserError(`${name}: wrong result, relative error ${error}`);
  const seconds = await medianSeconds(gpu, run);
  const bytes = (m * k + n * k) * bytesOf(dtype) + m * n * 4;
  for (const tensor of [a, b, c]) gpu.free(tensor);
  return {
    name,
    milliseconds: seconds * 1e3,
    tflops: 2 * m * n * k / seconds / 1e12,
    gigabytesPerSecond: bytes / seconds / 1e9,
    error,
  };
}

async function copyBandwidth(gpu: Gpu): Promise<Row> {
  const elements = gpu.software ? 1 << 22 : 1 << 26;
  const x = gpu.memory.tensor("workspace", "x", "f32", [elements]);
  const y = gpu.memory.tensor("workspace", "y", "f32", [elements]);
  const seconds = await medianSeconds(gpu, () => gpu.copy(x, y));
  gpu.free(x);
  gpu.free(y);
  const gigabytesPerSecond = 8 * elements / seconds / 1e9;
  return { name: "copy", milliseconds: seconds * 1e3, gigabytesPerSecond, ofCopy: 1 };
}

/** Runs the bench and prints a table, or JSON. */
export async function benchKernels(json: boolean): Promise<void> {
  const gpu = await openGpu();
  const copy = await copyBandwidth(gpu);
  const rows: Row[] = [copy];
  const hidden = gpu.software ? 512 : 4096, tokens = gpu.software ? [32, 128] : [121, 512, 4096];
  for (const dtype of ["f32", "f16"] as const) {
    for (const orientation of ["nt", "nn", "tn"] as const) {
      for (const t of tokens) {
        const size = orientation === "tn"
          ? [hidden, hidden, t] as const
          : [t, hidden, hidden] as const;
        const row = await product(gpu, orientation, dtype, size);
        rows.push({ ...row, ofCopy: row.gigabytesPerSecond / copy.gigabytesPerSecond });
        if (!json) console.error(row.name);
      }
    }
  }
  if (json) {
    console.log(JSON.stringify({ gpu: gpu.name, provider: gpu.provider, rows }, null, 2));
  } else {
    console.log(`${gpu.name} (${gpu.provider}); medians of ${REPEATS}`);
    for (const { name, milliseconds, tflops, gigabytesPerSecond, ofCopy } of rows) {
      console.log(
        name.padEnd(32) + `${milliseconds.toFixed(3).padStart(10)} ms` +
          `${tflops === undefined ? "" : tflops.toFixed(3)}`.padStart(10) +
          ` TFLOP/s${gigabytesPerSecond.toFixed(1).padStart(9)} GB/s` +
          `${(100 * ofCopy).toFixed(0).padStart(5)} % of copy`,
      );
    }
  }
  gpu.close();
}
