/** Attention's programs run against float64, for their tests. */
import assert from "node:assert/strict";
import { attention, attentionBackward } from "../../../../kernels/ops/attention/attention.ts";
import type { ShapeName } from "../../../../kernels/ops/attention/tiled/plan.ts";
import type { Gpu } from "../../../../kernels/gpu/gpu.ts";
import { ropeTable, tableWidth } from "../../../../kernels/ops/rope/frequencies.ts";
import type { Rotary } from "../../../../kernels/ops/rope/rotary.ts";
import { plainAngle, rotateHead } from "../rope/rotaries.ts";
import type { Dtype, Tensor } from "../../../../kernels/gpu/tensor.ts";
import {
  attentionReference as reference,
  capped,
  isKey,
  type KeyRanges,
  type Shape,
} from "./attention_reference.ts";
import { assertClose, download, poisoned, quantize, randomArray, upload } from "../../harness.ts";

/** Gradients in float64, with probabilities from `lse` and delta from `out`. */
function referenceBackward(
  { q, k, v, dout }: Inputs,
  { out, lse }: { out: Float64Array; lse: Float64Array },
  keyRanges: KeyRanges,
  shape: Shape,
) {
  const { heads, kvHeads, headDim, softcap = Infinity } = shape, { starts, ends } = keyRanges;
  const dq = new Float64Array(q.length), dk = new Float64Array(k.length);
  const dv = new Float64Array(v.length), scale = 1 / Math.sqrt(headDim);
  for (let i = 0; i < starts.length; i++) {
    for (let h = 0; h < heads; h++) {
      const a = (i * heads + h) * headDim;
      let delta = 0;
      for (let c = 0; c < headDim; c++) delta += dout[a + c] * out[a + c];
      for (let j = starts[i]; j < ends[i]; j++) {
        if (!isKey(keyRanges, i, j)) continue;
        const b = (j * kvHeads + Math.floor(h / (heads / kvHeads))) * headDim;
        let score = 0, dp = 0;
        for (let c = 0; c < headDim; c++) {
          score += q[a + c] * k[b + c];
          dp += dout[a + c] * v[b + c];
        }
        const s = capped(score * scale, shape), p = Math.exp(s - lse[i * heads + h]);
        const ds = p * (dp - delta) * (1 - (s / softcap) ** 2) * scale;
        for (let c = 0; c < headDim; c++) {
          dq[a + c] += ds * k[b + c];
          dk[b + c] += ds * q[a + c];
          dv[b + c] += p * dout[a + c];
        }
      }
    }
  }
  return { dq, dk, dv };
}

/** The rows that attend to each other. */
export interface Documents extends KeyRanges {
  queryEnds: number[];
}

/** Causal attention within documents of these lengths, over the last `window` keys of each query. */
export function documents(lengths: number[], window = Infinity): Documents {
  const starts: number[] = [], ends: number[] = [], queryEnds: number[] = [];
  for (const length of lengths) {
    const start = starts.length;
    for (let i = 0; i < length; i++) {
      starts.push(Math.max(start, start + i - window + 1));
      ends.push(start + i + 1);
      queryEnds.push(Math.min(start + length, start + i + window));
    }
  }
  return { starts, ends, queryEnds };
}

/**
 * Groups of documents of these lengths, of which all but the first have the first's leading `shared` rows before
 * their own.
 */
export function sharingDocuments(groups: { shared: number; lengths: number[] }[]): Documents {
  const keyRanges = { ...documents(groups.flatMap(({ lengths }) => lengths)), excludedKeys: [] } as
    & Documents
    & Required<KeyRanges>;
  let head = 0;
  for (const { shared, lengths } of groups) {
    let start = head;
    for (const length of lengths) {
      for (let i = start; i < start + length; i++) {
        keyRanges.starts[i] = head;
        keyRanges.excludedKeys.push(start === head ? [0, 0] : [head + shared, start]);
      }
      start += length;
    }
    keyRanges.queryEnds.fill(start, head, head + shared);
    head = start;
  }
  return keyRanges;
}

/**
 * Rows that are shared by others in the same tile and far behind, by documents as short as one row, and several
 * groups in a tile.
 */
export const SHARED: Parameters<typeof sharingDocuments>[0][] = [
  [{ shared: 9, lengths: [40, 31, 1, 70] }, { shared: 0, lengths: [5] }, {
    shared: 39,
    lengths: [45, 12],
  }],
  [3, 2, 8].map((shared) => ({ shared, lengths: [8, 3, 4, 1, 1] })),
];

/** The excluded keys on the GPU. */
function uploadExcluded(gpu: Gpu, { excludedKeys }: KeyRanges): Tensor | undefined {
  return excludedKeys && upload(gpu, excludedKeys.flat(), "u32", [excludedKeys.length, 2]);
}

/** What attention and its backward read. */
export interface Inputs {
  q: Float64Array;
  k: Float64Array;
  v: Float64Array;
  dout: Float64Array;
}

/** Random inputs that the dtype holds; `scale`: of queries and keys. */
export function inputs(
  shape: Shape,
  rows: number,
  keys: number,
  dtype: Dtype,
  scale = 1,
): Inputs {
  const { heads, kvHeads, headDim } = shape;
  return {
    q: quantize(randomArray(rows * heads * headDim, 1, scale), dtype),
    k: quantize(randomArray(keys * kvHeads * headDim, 2, scale), dtype),
    v: quantize(randomArray(keys * kvHeads * headDim, 3), dtype),
    dout: quantize(randomArray(rows * heads * headDim, 4), dtype),
  };
}

/** How the launchers are to choose a program, and how the heads lie in a tensor. */
export interface How {
  /** The programs for software drivers. */
  unstaged?: boolean;
  /** Columns of padding between the heads of queries, keys and values in one tensor, and at its end. */
  gap?: number;
  unroll?: boolean;
  f16Operands?: boolean;
  f16Sums?: boolean;
  matrices?: boolean;
  shape?: ShapeName;
}

/** The same rows of several matrices side by side, with gaps of NaN. */
function joined(
  gpu: Gpu,
  parts: ArrayLike<number>[],
  widths: number[],
  dtype: Dtype,
  gap: number,
) {
  const rows = parts[0].length / widths[0];
  const width = widths.reduce((sum, n) => sum + n + gap, 0);
  const values = new Float64Array(rows * width).fill(NaN), from: number[] = [];
  let column = 0;
  parts.forEach((part, p) => {
    from.push(column);
    for (let i = 0; i < part.length; i++) {
      values[Math.floor(i / widths[p]) * width + column + i % widths[p]] = part[i];
    }
    column += widths[p] + gap;
  });
  const tensor = upload(gpu, values, dtype, [rows, width]);
  return from.map((from) => ({ tensor, from }));
}

/** Columns of a matrix. */
function columns(values: Float64Array, rowSize: number, from: number, width: number) {
  const rows = values.length / rowSize;
  return Float64Array.from(
    { length: rows * width },
    (_, i) => values[Math.floor(i / width) * rowSize + from + i % width],
  );
}

/** Runs the forward; out and lse. Queries and out may have another dtype than keys and values. */
export async function runForward(
  gpu: Gpu,
  { q, k, v }: Record<"q" | "k" | "v", ArrayLike<number>>,
  keyRanges: KeyRanges,
  { sizes, dtype, queries: qDtype = dtype }: { sizes: Shape; dtype: Dtype; queries?: Dtype },
  { gap = 4, ...how }: How,
): Promise<{ out: Float64Array; lse: Float64Array }> {
  const { starts, ends } = keyRanges;
  const { heads, kvHeads, headDim } = sizes, rows = starts.length;
  const keys = k.length / (kvHeads * headDim);
  const narrow = kvHeads * headDim;
  // A cache has more rows than there are queries and lies apart.
  const own = keys === rows && qDtype === dtype;
  const widths = [heads * headDim, narrow, narrow];
  const queries = joined(gpu, own ? [q, k, v] : [q], widths, qDtype, gap);
  const [k_, v_] = own ? queries.slice(1) : joined(gpu, [k, v], widths.slice(1), dtype, gap);
  const tensors = {
    q: queries[0],
    k: k_,
    v: v_,
    starts: upload(gpu, starts, "u32", [rows]),
    ends: upload(gpu, ends, "u32", [rows]),
    excludedKeys: uploadExcluded(gpu, keyRanges),
    out: poisoned(gpu, qDtype, [rows, heads * headDim]),
    lse: poisoned(gpu, "f32", [rows, heads]),
  };
  attention(gpu, { ...tensors, rows, ...sizes, ...how });
  return { out: await download(gpu, tensors.out), lse: await download(gpu, tensors.lse) };
}

/** Runs the backward with the reference's out and lse, twice, and compares every gradient. */
export async function checkBackward(
  gpu: Gpu,
  { host, keyRanges, expected, sizes, dtype }: {
    host: Inputs;
    keyRanges: Documents;
    expected: ReturnType<typeof reference>;
    sizes: Shape;
    dtype: Dtype;
  },
  { limits, what }: { limits: { atol: number; rtol: number }; what: string },
  { gap = 4, ...how }: How,
  rotary?: Rotary,
): Promise<void> {
  const { heads, kvHeads, headDim } = sizes, rows = keyRanges.starts.length;
  const out = quantize(expected.out, dtype), lse = quantize(expected.lse, "f32");
  const want = referenceBackward(host, { out, lse }, keyRanges, sizes);
  const positions = keyRanges.starts.map((_, i) => 3 * i % 50);
  if (rotary !== undefined) {
    for (const gradient of [want.dq, want.dk]) {
      for (let at = 0; at < gradient.length; at += headDim) {
        const position = positions[Math.floor(at * rows / gradient.length)];
        rotateHead(gradient, at, rotary, plainAngle(100, rotary, position), -1);
      }
    }
  }
  const rotation = rotary && {
    rotary,
    table: upload(gpu, ropeTable({ headDim, rotary, theta: 100, positions: 50 }), "f32", [
      50,
      tableWidth(rotary, headDim),
    ]),
    positions: upload(gpu, positions, "u32", [rows]),
  };
  const wide = [rows, heads * headDim];
  const widths = [heads * headDim, kvHeads * headDim, kvHeads * headDim];
  const [q, k, v] = joined(gpu, [host.q, host.k, host.v], widths, dtype, gap);
  const fixed = {
    q,
    k,
    v,
    out: upload(gpu, out, dtype, wide),
    dout: upload(gpu, host.dout, dtype, wide),
    lse: upload(gpu, lse, "f32", [rows, heads]),
    starts: upload(gpu, keyRanges.starts, "u32", [rows]),
    ends: upload(gpu, keyRanges.ends, "u32", [rows]),
    queryEnds: upload(gpu, keyRanges.queryEnds, "u32", [rows]),
    excludedKeys: uploadExcluded(gpu, keyRanges),
  };
  const gradients = [];
  for (let repeat = 0; repeat < 2; repeat++) {
    const tensor = poisoned(gpu, dtype, [rows, q.tensor.rowSize]);
    const [dq, dk, dv] = [q, k, v].map(({ from }) => ({ tensor, from }));
    attentionBackward(gpu, { ...fixed, dq, dk, dv, rotation, rows, ...sizes, ...how });
    const all = await download(gpu, tensor);
    const part = (p: number, from: number) => columns(all, tensor.rowSize, from, widths[p]);
    gradients.push({ dq: part(0, dq.from), dk: part(1, dk.from), dv: part(2, dv.from) });
    const rest = all.filter(Number.isNaN).length;
    assert.equal(rest, rows * 3 * gap, `${what}: columns between the gradients were written`);
  }
  assertClose(gradients[0].dq, want.dq, { ...limits, what: `dq ${what}` });
  assertClose(gradients[0].dk, want.dk, { ...limits, what: `dk ${what}` });
  assertClose(gradients[0].dv, want.dv, { ...limits, what: `dv ${what}` });
  assert.deepEqual(gradients[1], gradients[0], `${what}: a second run differs`);
}
