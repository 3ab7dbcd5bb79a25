/**
 * Attention over one document, forward and backward, and RoPE.
 *
 * @module
 */
import { attention, attentionBackward } from "../kernels/ops/attention/attention.ts";
import { ropeTable } from "../kernels/ops/rope/frequencies.ts";
import { rope } from "../kernels/ops/rope/rope.ts";
import { bytesOf, type Tensor } from "../kernels/gpu/tensor.ts";
import {
  type BenchContext,
  type KernelCase,
  pick,
  Samples,
  Tensors,
  valuesOf,
} from "./kernel_case.ts";

/** Rows whose results are compared with float64, each in one head. */
const SAMPLES = 24;

/** Heads side by side in the columns of a tensor, on the host. */
class HostHeads {
  constructor(
    readonly values: ArrayLike<number>,
    readonly stride: number,
    readonly from: number,
    readonly headDim: number,
  ) {}

  /** Element `i` of a head in a row. */
  at(row: number, head: number, i: number): number {
    return this.values[row * this.stride + this.from + head * this.headDim + i];
  }

  /** The dot product of a head's row with another's. */
  dot(row: number, head: number, other: HostHeads, otherRow: number, otherHead: number): number {
    const start = row * this.stride + this.from + head * this.headDim;
    const otherStart = otherRow * other.stride + other.from + otherHead * other.headDim;
    let sum = 0;
    for (let i = 0; i < this.headDim; i++) {
      sum += this.values[start + i] * other.values[otherStart + i];
    }
    return sum;
  }
}

/** Attention's tensors for one document of `tokens` tokens. */
interface Sizes {
  tokens: number;
  heads: number;
  kvHeads: number;
  headDim: number;
}

/** Probabilities of query `row` in one head, in float64. */
function probabilities(q: HostHeads, k: HostHeads, row: number, head: number, kvHead: number) {
  const scores = Float64Array.from(
    { length: row + 1 },
    (_, j) => q.dot(row, head, k, j, kvHead) / Math.sqrt(q.headDim),
  );
  const top = scores.reduce((top, score) => Math.max(top, score), -Infinity);
  const sum = scores.reduce((sum, score) => sum + Math.exp(score - top), 0);
  return scores.map((score) => Math.exp(score - top) / sum);
}

/** Columns of a joined tensor on the host, by what they hold. */
async function hostHeads(
  { gpu }: BenchContext,
  joined: Tensor,
  { heads, kvHeads, headDim }: Sizes,
) {
  const values = await valuesOf(gpu, joined);
  const part = (from: number) => new HostHeads(values, joined.rowSize, from * headDim, headDim);
  return { q: part(0), k: part(heads), v: part(heads + kvHeads) };
}

async function outHeads(
  { gpu }: BenchContext,
  tensor: Tensor,
  { headDim }: Sizes,
): Promise<HostHeads> {
  return new HostHeads(await valuesOf(gpu, tensor), tensor.rowSize, 0, headDim);
}

async function forwardError(
  context: BenchContext,
  qkv: Tensor,
  out: Tensor,
  sizes: Sizes,
): Promise<number> {
  const { tokens, heads, kvHeads, headDim } = sizes;
  const { q, k, v } = await hostHeads(context, qkv, sizes),
    actual = await outHeads(context, out, sizes);
  const samples = new Samples(), rows = pick(SAMPLES, tokens, 1);
  pick(SAMPLES, heads, 2).forEach((head, s) => {
    const kvHead = Math.floor(head / (heads / kvHeads));
    const p = probabilities(q, k, rows[s], head, kvHead);
    for (let i = 0; i < headDim; i++) {
      const expected = p.reduce((sum, weight, j) => sum + weight * v.at(j, kvHead, i), 0);
      samples.add(actual.at(rows[s], head, i), expected);
    }
  });
  return samples.error;
}

/** Sampled rows of dq, and of dk and dv with the log-sum-exp that the forward pass stored. */
async function backwardError(
  context: BenchContext,
  { qkv, out, dout, dqkv, lse }: Record<"qkv" | "out" | "dout" | "dqkv" | "lse", Tensor>,
  sizes: Sizes,
): Promise<number> {
  const { tokens, heads, kvHeads, headDim } = sizes, group = heads / kvHeads;
  const { q, k, v } = await hostHeads(context, qkv, sizes),
    d = await hostHeads(context, dqkv, sizes);
  const o = await outHeads(context, out, sizes), dO = await outHeads(context, dout, sizes);
  const lses = await valuesOf(context.gpu, lse), scale = 1 / Math.sqrt(headDim);
  const samples = new Samples(), rows = pick(SAMPLES, tokens, 3);
  pick(SAMPLES, heads, 4).forEach((head, s) => {
    const row = rows[s], kvHead = Math.floor(head / group);
    const p = probabilities(q, k, row, head, kvHead);
    const dp = p.map((_, j) => dO.dot(row, head, v, j, kvHead));
    const delta = p.reduce((sum, weight, j) => sum + weight * dp[j], 0);
    for (let i = 0; i < headDim; i++) {
      const expected = p.reduce(
        (sum, weight, j) => sum + weight * (dp[j] - delta) * scale * k.at(j, kvHead, i),
        0,
      );
      samples.add(d.q.at(row, head, i), expected);
    }
  });
  const keys = pick(SAMPLES, tokens, 5);
  pick(SAMPLES, kvHeads, 6).forEach((kvHead, s) => {
    const key = keys[s];
    const dk = new Float64Array(headDim), dv = new Float64Array(headDim);
    for (let head = kvHead * group; head < (kvHead + 1) * group; head++) {
      for (let row = key; row < tokens; row++) {
        const p = Math.exp(q.dot(row, head, k, key, kvHead) * scale - lses[row * heads + head]);
        const delta = dO.dot(row, head, o, row, head);
        const ds = p * (dO.dot(row, head, v, key, kvHead) - delta) * scale;
        for (let i = 0; i < headDim; i++) {
          dk[i] += ds * q.at(row, head, i);
          dv[i] += p * dO.at(row, head, i);
        }
      }
    }
    for (let i = 0; i < headDim; i++) {
      samples.add(d.k.at(key, kvHead, i), dk[i]);
      samples.add(d.v.at(key, kvHead, i), dv[i]);
    }
  });
  return samples.error;
}

/** RoPE of q's and k's heads, which are next to each other. */
function ropeCase(context: BenchContext, tensors: Tensors, qkv: Tensor, sizes: Sizes): KernelCase {
  const { gpu, config, dtype } = context, { tokens, headDim } = sizes;
  const heads = sizes.heads + sizes.kvHeads;
  const rotary = { dims: headDim, pairs: "halves" } as const;
  const cosines = ropeTable({ headDim, rotary, theta: config.rope_theta, positions: tokens });
  const table = tensors.zeros("f32", [tokens, headDim]);
  gpu.write(table, cosines);
  const positions = tensors.of(Uint32Array.from({ length: tokens }, (_, i) => i));
  const run = () =>
    rope(gpu, { x: qkv, rotation: { table, positions, rotary }, rows: tokens, heads, headDim });
  return {
    name: `rope ${tokens}×${heads}×${headDim}`,
    tokens,
    flops: 3 * tokens * heads * headDim,
    bytes: tokens * headDim * (2 * heads * bytesOf(dtype) + 4),
    run,
    async check() {
      const host = async () => new HostHeads(await valuesOf(gpu, qkv), qkv.rowSize, 0, headDim);
      const before = await host();
      run();
      const after = await host(), samples = new Samples(), half = headDim / 2;
      const rows = pick(SAMPLES, tokens, 7);
      pick(SAMPLES, heads, 8).forEach((head, s) => {
        for (let i = 0; i < half; i++) {
          const at = rows[s] * headDim + i, [cos, sin] = [cosines[at], cosines[at + half]];
          const [a, b] = [before.at(rows[s], head, i), before.at(rows[s], head, i + half)];
          samples.add(after.at(rows[s], head, i), a * cos - b * sin);
          samples.add(after.at(rows[s], head, i + half), b * cos + a * sin);
        }
      });
      return samples.error;
    },
  };
}

/** Attention and RoPE on joined q, k and v. */
export function* attentionCases(context: BenchContext, tokens: number): Generator<KernelCase> {
  const { gpu, config, dtype } = context, isF16 = dtype === "f16";
  const heads = config.num_attention_heads, kvHeads = config.num_key_value_heads;
  const headDim = config.head_dim, sizes = { tokens, heads, kvHeads, headDim };
  using tensors = new Tensors(gpu);
  const qkv = tensors.normal(dtype, [tokens, (heads + 2 * kvHeads) * headDim], 1);
  const dqkv = tensors.zeros(dtype, qkv.shape);
  const out = tensors.zeros(dtype, [tokens, heads * headDim]);
  const dout = tensors.normal(dtype, out.shape, 2);
  const lse = tensors.zeros("f32", [tokens, heads]);
  const index = (value: (i: number) => number) =>
    tensors.of(Uint32Array.from({ length: tokens }, (_, i) => value(i)));
  const starts = index(() => 0), ends = index((i) => i + 1), queryEnds = index(() => tokens);
  const parts = (tensor: Tensor) =>
    [0, heads, heads + kvHeads].map((head) => ({ tensor, from: head * headDim }));
  const [q, k, v] = parts(qkv), [dq, dk, dv] = parts(dqkv);
  const shared = {
    q,
    k,
    v,
    starts,
    ends,
    out,
    lse,
    rows: tokens,
    heads,
    kvHeads,
    headDim,
    f16Sums: isF16,
  };
  const pairs = tokens * (tokens + 1) / 2, what = `${tokens}×${heads}×${headDim}`;
  const head = tokens * headDim * bytesOf(dtype), rest = 4 * tokens * heads;

  const ways = gpu.matrices && isF16 ? [true, false] : [undefined];
  for (const matrices of ways) {
    const way = matrices === false ? " in tiles" : "";
    const forward = () => attention(gpu, { ...shared, matrices });
    yield {
      name: `attention${way} ${what}`,
      tokens,
      flops: 4 * pairs * heads * headDim,
      bytes: 2 * (heads + kvHeads) * head + rest,
      run: forward,
      check: () => {
        forward();
        return forwardError(context, qkv, out, sizes);
      },
    };
    const gradients = { dout, queryEnds, dq, dk, dv };
    const backward = () => attentionBackward(gpu, { ...shared, ...gradients, matrices });
    yield {
      name: `attention backward${way} ${what}`,
      tokens,
      // Scores again, and the gradients of probabilities, values, queries and keys.
      flops: 10 * pairs * heads * headDim,
      bytes: (4 * heads + 4 * kvHeads) * head + rest,
      run: backward,
      check: () => {
        forward();
        backward();
        return backwardError(context, { qkv, out, dout, dqkv, lse }, sizes);
      },
    };
  }
  yield ropeCase(context, tensors, qkv, sizes);
}
