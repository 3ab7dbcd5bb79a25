/**
 * Kernels that go over rows: RMSNorm, SwiGLU, cross entropy.
 *
 * @module
 */
import { crossEntropy } from "../kernels/ops/loss/cross_entropy.ts";
import { clear } from "../kernels/ops/elements/bytes.ts";
import { addSplitK, rmsnorm, rmsnormBackward } from "../kernels/ops/norm/rmsnorm.ts";
import { swiglu, swigluBackward } from "../kernels/ops/activation/swiglu.ts";
import { bytesOf } from "../kernels/gpu/tensor.ts";
import { chunkRows } from "../model/transformer/head.ts";
import { storedShape } from "../model/transformer/parameters.ts";
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
/** Partial sums of a product that a norm adds up. */
const SPLITS = 4;

/** RMSNorm alone, after adding up partial sums, and backward. */
export function* normCases(
  { gpu, config, dtype }: BenchContext,
  rows: number,
): Generator<KernelCase> {
  const width = config.hidden_size, eps = config.rms_norm_eps;
  using tensors = new Tensors(gpu);
  const x = tensors.normal("f32", [rows, width], 1), w = tensors.normal(dtype, [width], 2);
  const n = tensors.zeros(dtype, x.shape), rstd = tensors.zeros("f32", [rows]);
  const what = `${rows}×${width}`, size = rows * width, act = bytesOf(dtype);
  const sampleRows = pick(ROWS, rows, 1), sampleColumns = pick(COLUMNS, width, 2);

  const forward = () => rmsnorm(gpu, { x, w, offset: 0, y: n, rstd, rows, eps });
  /** Compares n with the norm of `input(row, column)`. */
  const normError = async (input: (row: number, column: number) => number) => {
    const samples = new Samples(), weight = await valuesOf(gpu, w), actual = await valuesOf(gpu, n);
    for (const row of sampleRows) {
      let sum = 0;
      for (let i = 0; i < width; i++) sum += input(row, i) ** 2;
      const scale = 1 / Math.sqrt(sum / width + eps);
      for (const i of sampleColumns) {
        samples.add(actual[row * width + i], input(row, i) * scale * weight[i]);
      }
    }
    return samples.error;
  };
  yield {
    name: `rmsnorm ${what}`,
    tokens: rows,
    flops: 4 * size,
    bytes: size * (4 + act),
    run: forward,
    async check() {
      forward();
      const input = await valuesOf(gpu, x);
      return await normError((row, i) => input[row * width + i]);
    },
  };

  const partials = tensors.normal("f32", [SPLITS, rows, width], 3);
  const d = { tensor: partials, splits: SPLITS, rows, width }, y = tensors.zeros("f32", x.shape);
  const add = () => addSplitK(gpu, { x, d, y, rows, norm: { w, offset: 0, n, rstd, eps } });
  yield {
    name: `residual and rmsnorm ${what}, ${SPLITS} partial sums`,
    tokens: rows,
    flops: (4 + SPLITS) * size,
    bytes: size * (8 + 4 * SPLITS + act),
    run: add,
    async check() {
      add();
      const input = await valuesOf(gpu, x), parts = await valuesOf(gpu, partials);
      return await normError((row, i) => {
        let sum = input[row * width + i];
        for (let s = 0; s < SPLITS; s++) sum += parts[(s * rows + row) * width + i];
        return sum;
      });
    },
  };

  const dy = tensors.normal(dtype, x.shape, 4), dx = tensors.zeros("f32", x.shape);
  const backward = () => rmsnormBackward(gpu, { dy, x, w, offset: 0, rstd, dx, rows });
  yield {
    name: `rmsnorm backward ${what}`,
    tokens: rows,
    flops: 8 * size,
    bytes: size * (12 + act),
    run: backward,
    async check() {
      forward();
      clear(gpu, dx);
      backward();
      const [input, weight, gradient, actual] = [
        await valuesOf(gpu, x),
        await valuesOf(gpu, w),
        await valuesOf(gpu, dy),
        await valuesOf(gpu, dx),
      ];
      const samples = new Samples();
      for (const row of sampleRows) {
        let squares = 0, products = 0;
        const g = (i: number) => gradient[row * width + i] * weight[i];
        for (let i = 0; i < width; i++) {
          squares += input[row * width + i] ** 2;
          products += g(i) * input[row * width + i];
        }
        const r = 1 / Math.sqrt(squares / width + eps), mean = products / width * r * r;
        for (const i of sampleColumns) {
          samples.add(actual[row * width + i], r * (g(i) - input[row * width + i] * mean));
        }
      }
      return samples.error;
    },
  };
}

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));

/** SwiGLU on joined gate and up, forward and backward. */
export function* swigluCases(
  { gpu, config, dtype }: BenchContext,
  rows: number,
): Generator<KernelCase> {
  const width = config.intermediate_size, act = bytesOf(dtype), size = rows * width;
  using tensors = new Tensors(gpu);
  const gateUp = tensors.normal(dtype, [rows, 2 * width], 1);
  const y = tensors.zeros(dtype, [rows, width]), dy = tensors.normal(dtype, y.shape, 2);
  const what = `${rows}×${width}`;
  const sampleRows = pick(ROWS, rows, 1), sampleColumns = pick(COLUMNS, width, 2);
  const forward = () => swiglu(gpu, { activation: "silu", gateUp, y, rows });
  yield {
    name: `swiglu ${what}`,
    tokens: rows,
    flops: 6 * size,
    bytes: 3 * act * size,
    run: forward,
    async check() {
      forward();
      const input = await valuesOf(gpu, gateUp), actual = await valuesOf(gpu, y);
      const samples = new Samples();
      for (const row of sampleRows) {
        for (const i of sampleColumns) {
          const gate = input[2 * row * width + i], up = input[(2 * row + 1) * width + i];
          samples.add(actual[row * width + i], gate * sigmoid(gate) * up);
        }
      }
      return samples.error;
    },
  };
  const backward = () => swigluBackward(gpu, { activation: "silu", dy, gateUp, rows });
  yield {
    name: `swiglu backward ${what}`,
    tokens: rows,
    flops: 12 * size,
    bytes: 5 * act * size,
    run: backward,
    async check() {
      const [input, d] = [await valuesOf(gpu, gateUp), await valuesOf(gpu, dy)];
      backward();
      const actual = await valuesOf(gpu, gateUp), samples = new Samples();
      for (const row of sampleRows) {
        for (const i of sampleColumns) {
          const gateAt = 2 * row * width + i, upAt = gateAt + width;
          const gate = input[gateAt], s = sigmoid(gate), dOut = d[row * width + i];
          samples.add(actual[gateAt], dOut * input[upAt] * s * (1 + gate * (1 - s)));
          samples.add(actual[upAt], dOut * gate * s);
        }
      }
      return samples.error;
    },
  };
}

/** Softmax cross entropy and its gradient, of a chunk of rows of logits. */
export function* crossEntropyCases(
  { gpu, config }: BenchContext,
  tokens: number,
): Generator<KernelCase> {
  const vocab = config.vocab_size, [width] = storedShape([vocab]);
  const rows = chunkRows(width, tokens);
  using tensors = new Tensors(gpu);
  const logits = tensors.normal("f32", [rows, width], 1), nll = tensors.zeros("f32", [rows]);
  const labels = Uint32Array.from(pick(rows, vocab, 1)), targets = tensors.of(labels);
  const weights = tensors.of(new Float32Array(rows).fill(1));
  const gradScaler = tensors.of(new Float32Array(16).fill(1));
  const run = () => {
    const sizes = { rows, firstRow: 0, vocab, softcap: null, backward: true };
    crossEntropy(gpu, { logits, targets, weights, nll, gradScaler, ...sizes });
  };
  yield {
    name: `cross-entropy ${rows}×${vocab}`,
    tokens,
    flops: 7 * rows * width,
    bytes: 8 * rows * width,
    run,
    async check() {
      const input = await valuesOf(gpu, logits);
      run();
      const losses = await valuesOf(gpu, nll), gradient = await valuesOf(gpu, logits);
      const samples = new Samples();
      for (const row of pick(ROWS, rows, 2)) {
        let sum = 0;
        for (let i = 0; i < vocab; i++) sum += Math.exp(input[row * width + i]);
        samples.add(losses[row], Math.log(sum) - input[row * width + labels[row]]);
        for (const i of [...pick(COLUMNS, vocab, 3), labels[row]]) {
          const hit = i === labels[row] ? 1 : 0;
          samples.add(gradient[row * width + i], Math.exp(input[row * width + i]) / sum - hit);
        }
      }
      return samples.error;
    },
  };
}
