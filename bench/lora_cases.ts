/**
 * LoRA adapters of q and v: the projections down and up, and all gradients.
 *
 * @module
 */
import { pcg4d } from "../kernels/wgsl/hash.ts";
import { clear } from "../kernels/ops/elements/bytes.ts";
import { loraBackward, loraDown, type LoraGroup, loraUp } from "../kernels/ops/lora/lora.ts";
import { bytesOf } from "../kernels/gpu/tensor.ts";
import {
  type BenchContext,
  type KernelCase,
  pick,
  Samples,
  Tensors,
  valuesOf,
} from "./kernel_case.ts";

/** Rows and columns whose results are compared with float64. */
const ROWS = 16, COLUMNS = 64;
/** The adapters of the course's run. */
const LORA = { rank: 16, scale: 2, p: 0.05 };

/** The adapters of q and v, with dropout: both projections, and all gradients. */
export function* loraCases(
  { gpu, config, dtype }: BenchContext,
  rows: number,
): Generator<KernelCase> {
  const { rank, scale, p } = LORA, hidden = config.hidden_size, act = bytesOf(dtype);
  const [queries, keys] = [config.num_attention_heads, config.num_key_value_heads]
    .map((heads) => heads * config.head_dim);
  const width = queries + 2 * keys, outputs = queries + keys;
  using tensors = new Tensors(gpu);
  const make = (out: number, from: number, subsequence: number) => ({
    a: tensors.normal("f32", [rank, hidden], 10 + subsequence, 1 / Math.sqrt(hidden)),
    b: tensors.normal("f32", [out, rank], 20 + subsequence),
    from,
    subsequence,
    scale,
    gradA: tensors.zeros("f32", [rank, hidden]),
    gradB: tensors.zeros("f32", [out, rank]),
  });
  const modules = [make(queries, 0, 0), make(keys, queries + keys, 1)];
  const mask = { p, seed: 1, step: 1 }, group: LoraGroup = { modules, mask };
  const x = tensors.normal(dtype, [rows, hidden], 1), y = tensors.zeros(dtype, [rows, width]);
  const dy = tensors.normal(dtype, y.shape, 2), dx = tensors.zeros("f32", x.shape);
  const [loraHidden, loraHiddenGrad] = [1, 2].map(() => tensors.zeros("f32", [rows, 2 * rank]));
  const what = `${rows}×${hidden}, rank ${rank} on q and v`, total = 2 * rank;
  const sampleRows = pick(ROWS, rows, 1);
  const keepMask = (at: number, subsequence: number) =>
    pcg4d(at >> 2, mask.seed, mask.step, subsequence)[at & 3] >= Math.round(p * 2 ** 32);
  /** Element (row, r) of module m's loraHidden. */
  const loraHiddenAt = (m: number, row: number, r: number) => row * total + m * rank + r;

  const down = () => loraDown(gpu, { x, group, loraHidden, rows });
  yield {
    name: `lora down ${what}`,
    tokens: rows,
    flops: 2 * rows * hidden * total,
    bytes: rows * hidden * act + 4 * total * (hidden + rows),
    run: down,
    async check() {
      down();
      const input = await valuesOf(gpu, x), actual = await valuesOf(gpu, loraHidden);
      const samples = new Samples();
      for (const [m, { a, subsequence }] of modules.entries()) {
        const weights = await valuesOf(gpu, a);
        for (const row of sampleRows) {
          const dropped = Float64Array.from({ length: hidden }, (_, i) => {
            const at = row * hidden + i;
            return keepMask(at, subsequence) ? input[at] / (1 - p) : 0;
          });
          for (let r = 0; r < rank; r++) {
            const sum = dropped.reduce((sum, v, i) => sum + v * weights[r * hidden + i], 0);
            samples.add(actual[loraHiddenAt(m, row, r)], sum);
          }
        }
      }
      return samples.error;
    },
  };

  const up = () => loraUp(gpu, { loraHidden, group, y, rows });
  yield {
    name: `lora up ${what}`,
    tokens: rows,
    flops: 2 * rows * outputs * rank,
    bytes: outputs * (2 * rows * act + 4 * rank) + 4 * rows * total,
    run: up,
    async check() {
      down();
      clear(gpu, y);
      up();
      const factors = await valuesOf(gpu, loraHidden), actual = await valuesOf(gpu, y);
      const samples = new Samples();
      for (const [m, { b, from }] of modules.entries()) {
        const weights = await valuesOf(gpu, b), columns = pick(COLUMNS, b.shape[0], 3);
        for (const row of sampleRows) {
          for (const column of columns) {
            let sum = 0;
            for (let r = 0; r < rank; r++) {
              sum += scale * factors[loraHiddenAt(m, row, r)] * weights[column * rank + r];
            }
            samples.add(actual[row * width + from + column], sum);
          }
        }
      }
      return samples.error;
    },
  };

  const backward = () => loraBackward(gpu, { x, dy, loraHidden, loraHiddenGrad, group, rows, dx });
  yield {
    name: `lora backward ${what}`,
    tokens: rows,
    flops: 4 * rows * rank * outputs + 4 * rows * hidden * total,
    bytes: rows * (outputs * act + hidden * (act + 8)) + 12 * rank * (outputs + 2 * hidden),
    run: backward,
    async check() {
      down();
      for (const { gradA, gradB } of modules) for (const g of [gradA, gradB]) clear(gpu, g);
      clear(gpu, dx);
      backward();
      const samples = new Samples();
      const [input, inputGrad] = [await valuesOf(gpu, x), await valuesOf(gpu, dx)];
      const [d, factors] = [await valuesOf(gpu, dy), await valuesOf(gpu, loraHidden)];
      const factorGrads = await valuesOf(gpu, loraHiddenGrad);
      const expected = new Map<number, number>(), columns = pick(COLUMNS, hidden, 4);
      for (const [m, { b, a, gradB, gradA, from, subsequence }] of modules.entries()) {
        const [A, dA] = [await valuesOf(gpu, a), await valuesOf(gpu, gradA)];
        const [B, dB] = [await valuesOf(gpu, b), await valuesOf(gpu, gradB)];
        for (const i of columns) {
          let sum = 0;
          const r = i % rank;
          for (let row = 0; row < rows; row++) {
            const at = row * hidden + i;
            if (keepMask(at, subsequence)) {
              sum += factorGrads[loraHiddenAt(m, row, r)] * input[at] / (1 - p);
            }
          }
          samples.add(dA[r * hidden + i], sum);
        }
        for (const column of pick(COLUMNS, b.shape[0], 5)) {
          let sum = 0;
          const r = column % rank;
          for (let row = 0; row < rows; row++) {
            sum += scale * d[row * width + from + column] * factors[loraHiddenAt(m, row, r)];
          }
          samples.add(dB[column * rank + r], sum);
        }
        for (const row of new Set(sampleRows)) {
          const gradient = Array.from({ length: rank }, (_, r) => {
            let sum = 0;
            for (let o = 0; o < b.shape[0]; o++) sum += d[row * width + from + o] * B[o * rank + r];
            return scale * sum;
          });
          for (const i of new Set(columns)) {
            const at = row * hidden + i;
            const sum = gradient.reduce((sum, g, r) => sum + g * A[r * hidden + i], 0);
            expected.set(
              at,
              (expected.get(at) ?? 0) + (keepMask(at, subsequence) ? sum / (1 - p) : 0),
            );
          }
        }
      }
      for (const [at, value] of expected) samples.add(inputGrad[at], value);
      return samples.error;
    },
  };
}
