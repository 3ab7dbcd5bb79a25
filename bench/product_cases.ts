/**
 * Matrix products of training (y = x·Wᵀ, dx = dy·W, dW = dyᵀ·x) and of decoding (one row), over the
 * weights of a model.
 *
 * @module
 */
import { matmul, type Orientation } from "../kernels/ops/matmul/matmul.ts";
import { bytesOf, type Tensor } from "../kernels/gpu/tensor.ts";
import {
  type BenchContext,
  type KernelCase,
  pick,
  Samples,
  Tensors,
  valuesOf,
} from "./kernel_case.ts";

/** Equal copies of a weight are read in turn until they are this large: no cache holds the next one. */
const COLD_BYTES = 256e6;
/** Results compared with float64. */
const SAMPLES = 256;

/** op(A)·op(B) at sampled places, in float64. */
async function productError(
  tensors: Record<"a" | "b" | "c", Tensor>,
  { gpu }: BenchContext,
  orientation: Orientation,
  [m, n, k]: readonly [number, number, number],
): Promise<number> {
  const [a, b, c] = [
    await valuesOf(gpu, tensors.a),
    await valuesOf(gpu, tensors.b),
    await valuesOf(gpu, tensors.c),
  ];
  const samples = new Samples(), columns = pick(SAMPLES, n, 1);
  pick(SAMPLES, m, 2).forEach((i, s) => {
    const j = columns[s];
    let sum = 0;
    for (let l = 0; l < k; l++) {
      sum += a[orientation === "tn" ? l * m + i : i * k + l] *
        b[orientation === "nt" ? j * k + l : l * n + j];
    }
    samples.add(c[i * n + j], sum);
  });
  return samples.error;
}

/** One product; `copies` are B's. */
function productCase(
  context: BenchContext,
  name: string,
  orientation: Orientation,
  { a, copies, c }: { a: Tensor; copies: readonly Tensor[]; c: Tensor },
  [m, n, k]: readonly [number, number, number],
): KernelCase {
  const { gpu, dtype } = context, operands = dtype === "f16" ? "f16" : "f32";
  const rows = orientation === "tn" ? k : m;
  let call = 0;
  const run = () => {
    const b = copies[call++ % copies.length];
    matmul(gpu, { orientation, a, b, c, rows, operands });
  };
  return {
    name: `${name} ${orientation} ${m}×${n}×${k}`,
    tokens: rows,
    flops: 2 * m * n * k,
    bytes: m * k * bytesOf(a.dtype) + n * k * bytesOf(copies[0].dtype) + m * n * bytesOf(c.dtype),
    run,
    check: () => {
      run();
      return productError({ a, b: copies[0], c }, context, orientation, [m, n, k]);
    },
  };
}

/** A square product with f32 results: the roof of arithmetic. */
export function* squareCase(context: BenchContext, side: number): Generator<KernelCase> {
  using tensors = new Tensors(context.gpu);
  const [a, b] = [1, 2].map((subsequence) =>
    tensors.normal(context.dtype, [side, side], subsequence)
  );
  const operands = { a, copies: [b], c: tensors.zeros("f32", [side, side]) };
  yield productCase(context, "matmul square", "nt", operands, [side, side, side]);
}

/** The weights of a block and of the output, as `[out, in]`; those of one input are one. */
function weights({ config }: BenchContext): [string, number, number][] {
  const { hidden_size: hidden, intermediate_size: inner, head_dim } = config;
  const queries = config.num_attention_heads * head_dim;
  return [
    ["qkv", queries + 2 * config.num_key_value_heads * head_dim, hidden],
    ["o", hidden, queries],
    ["gate_up", 2 * inner, hidden],
    ["down", hidden, inner],
    ["output", Math.ceil(config.vocab_size / 4) * 4, hidden],
  ];
}

/** Every weight with so many rows of tokens; one row is as in decoding, more are as in training. */
export function* productCases(context: BenchContext, tokens: number): Generator<KernelCase> {
  const { gpu, dtype } = context;
  for (const [name, out, input] of weights(context)) {
    {
      using tensors = new Tensors(gpu);
      const copies = gpu.software ? 1 : Math.ceil(COLD_BYTES / (out * input * bytesOf(dtype)));
      // Equal seeds: every copy has the same numbers.
      const w = Array.from({ length: copies }, () => tensors.normal(dtype, [out, input], 1));
      if (tokens === 1) {
        const a = tensors.normal("f32", [1, input], 2), c = tensors.zeros("f32", [1, out]);
        const operands = { a, copies: w, c };
        yield productCase(context, `matvec ${name}`, "nt", operands, [1, out, input]);
        continue;
      }
      const x = tensors.normal(dtype, [tokens, input], 2);
      const y = tensors.zeros(name === "output" ? "f32" : dtype, [tokens, out]);
      const forward = { a: x, copies: w, c: y };
      yield productCase(context, `matmul ${name}`, "nt", forward, [tokens, out, input]);
      const dy = tensors.normal(y.dtype, [tokens, out], 3), dx = tensors.zeros(dtype, x.shape);
      const backward = { a: dy, copies: w, c: dx };
      yield productCase(context, `matmul ${name}`, "nn", backward, [tokens, input, out]);
    }
    if (tokens === 1) continue;
    using tensors = new Tensors(gpu);
    const a = tensors.normal(dtype, [tokens, out], 3),
      x = tensors.normal(dtype, [tokens, input], 2);
    const gradient = { a, copies: [x], c: tensors.zeros("f32", [out, input]) };
    yield productCase(context, `matmul ${name}`, "tn", gradient, [out, input, tokens]);
  }
}
