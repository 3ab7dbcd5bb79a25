/**
 * What quantisation costs in bits and in error: normally distributed weights in the formats of this project, encoded and
 * read by its kernels, beside simpler formats of four bits.
 *
 *     ./lorikeet deno run --allow-read --allow-env --allow-sys examples/study/quantization_error.ts
 *
 * @module
 */
import { type Gpu, openGpu } from "../../kernels/gpu/gpu.ts";
import { bytesOf, type Tensor } from "../../kernels/gpu/tensor.ts";
import { normalNumbers } from "../../kernels/ops/elements/random.ts";
import { embedding } from "../../kernels/ops/embedding/embedding.ts";
import { isTable, type WeightKind } from "../../kernels/ops/weights/kind.ts";
import { weightKind } from "../../kernels/ops/weights/kinds.ts";
import { NF4_BLOCK, NF4_VALUES } from "../../kernels/ops/weights/nf4_values.ts";
import {
  encodeWeight,
  makeOperand,
  type WeightOperand,
} from "../../kernels/ops/weights/operand.ts";
import { deviation, grouped, sum, table } from "./numbers.ts";

/** A matrix: as many columns as LLaMA-2 7B's are wide, and rows enough for 64 nested blocks of scales. */
const ROWS = 256, COLUMNS = 4096;
/** One weight in so many is so many times as large, where there are outliers. */
export const OUTLIER = { every: 1000, times: 10 };

/** Normally distributed weights, some of them far out where it is asked for. */
export function normalWeights(
  outliers: boolean,
  rows = ROWS,
  columns = COLUMNS,
): Float32Array<ArrayBuffer> {
  const { every, times } = OUTLIER;
  return Float32Array.from(normalNumbers(rows * columns, 7, 0), (value, i) => {
    return 0.02 * (outliers && i % every === 0 ? times * value : value);
  });
}

/** A matrix of these values in a kind of weights. */
export function encoded(
  gpu: Gpu,
  kind: WeightKind,
  values: Float32Array<ArrayBuffer>,
  shape: readonly number[],
): WeightOperand {
  const operand = makeOperand(
    kind,
    shape,
    ({ suffix, dtype, shape }) => gpu.memory.tensor("parameter", `weight${suffix}`, dtype, shape),
  );
  const given = gpu.memory.tensor("workspace", "values", "f32", shape);
  gpu.write(given, values);
  encodeWeight(gpu, operand, given);
  gpu.free(given);
  return operand;
}

/** What a matrix's kernels read of it: every row, looked up as embeddings are. */
export async function decoded(gpu: Gpu, operand: WeightOperand): Promise<Float32Array> {
  const [rows] = operand.shape;
  const ids = gpu.memory.tensor("workspace", "ids", "u32", [rows]);
  const y: Tensor = gpu.memory.tensor("workspace", "decoded", "f32", operand.shape);
  gpu.write(ids, Uint32Array.from({ length: rows }, (_, row) => row));
  embedding(gpu, { table: operand, ids, y, rows });
  const values = await gpu.readF32(y);
  for (const tensor of [ids, y, ...operand.tensors]) gpu.free(tensor);
  return values;
}

/** Bits a weight of a kind, tables that all matrices share left out. */
export function bitsPerWeight(kind: WeightKind): number {
  const planes = kind.planes(COLUMNS).filter((plane) => !isTable(plane));
  return sum(
    planes.length,
    (i) => 8 * bytesOf(planes[i].dtype) * planes[i].elements / planes[i].values,
  );
}

/** The nearest of ascending numbers. */
function nearest(value: number, numbers: ArrayLike<number>): number {
  let best = numbers[0];
  for (let i = 1; i < numbers.length; i++) {
    if (Math.abs(numbers[i] - value) < Math.abs(best - value)) best = numbers[i];
  }
  return best;
}

/** Blocks of values, each in units of its largest magnitude, as the nearest of these numbers. */
function inBlocks(values: Float32Array, block: number, numbers: ArrayLike<number>): Float32Array {
  const out = new Float32Array(values.length);
  for (let begin = 0; begin < values.length; begin += block) {
    const own = values.subarray(begin, begin + block);
    const largest = own.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    out.set(own.map((value) => largest * nearest(value / largest, numbers)), begin);
  }
  return out;
}

/** Fifteen numbers at equal distances, which four bits can name. */
const UNIFORM = Array.from({ length: 15 }, (_, i) => (i - 7) / 7);

/** A format: bits a weight, and what weights become in it. */
interface Format {
  name: string;
  bits: number;
  rounded(gpu: Gpu, values: Float32Array<ArrayBuffer>): Promise<Float32Array> | Float32Array;
}

const ofKind = (name: string, kind: WeightKind): Format => ({
  name,
  bits: bitsPerWeight(kind),
  rounded: (gpu, values) => decoded(gpu, encoded(gpu, kind, values, [ROWS, COLUMNS])),
});

const FORMATS: readonly Format[] = [
  ofKind("int8, blocks of 32", weightKind("int8")),
  ofKind("nf4, blocks of 64", weightKind("nf4_f32")),
  ofKind("nf4, double quantisation", weightKind("nf4")),
  {
    name: "equal steps, blocks of 64",
    bits: 4 + 32 / NF4_BLOCK,
    rounded: (_, values) => inBlocks(values, NF4_BLOCK, UNIFORM),
  },
  {
    name: "nf4, one scale for all",
    bits: 4,
    rounded: (_, values) => inBlocks(values, values.length, NF4_VALUES),
  },
];

/** What a format costs. */
export interface FormatCost {
  name: string;
  bits: number;
  /** ‖rounded − weights‖ / ‖weights‖, without outliers and with them. */
  error: number;
  errorWithOutliers: number;
}

/** All formats. */
export async function formatCosts(gpu: Gpu): Promise<FormatCost[]> {
  const [plain, outliers] = [normalWeights(false), normalWeights(true)];
  const costs: FormatCost[] = [];
  for (const { name, bits, rounded } of FORMATS) {
    const error = deviation(await rounded(gpu, plain), plain);
    costs.push({
      name,
      bits,
      error,
      errorWithOutliers: deviation(await rounded(gpu, outliers), outliers),
    });
  }
  return costs;
}

/** What the study guide quotes. */
export function lines(costs: readonly FormatCost[]): string[] {
  const percent = (share: number) => `${(100 * share).toFixed(2)} %`;
  return table([
    ["", "bits a weight", "error", "error with outliers"],
    ...costs.map(({ name, bits, error, errorWithOutliers }) => [
      name,
      grouped(bits, 3),
      percent(error),
      percent(errorWithOutliers),
    ]),
  ]);
}

if (import.meta.main) {
  const gpu = await openGpu();
  console.log(lines(await formatCosts(gpu)).join("\n"));
  gpu.close();
}
