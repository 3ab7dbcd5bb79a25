import assert from "node:assert/strict";
import { attention, attentionBackward } from "../../kernels/attention.ts";
import { prefersDirect } from "../../kernels/attention/direct.ts";
import {
  choosePlan,
  keyedPlan,
  SHAPE_NAMES,
  type ShapeName,
  workgroupBytes,
} from "../../kernels/attention/tiles.ts";
import type { Gpu } from "../../kernels/gpu.ts";
import type { Dtype } from "../../kernels/tensor.ts";
import { ropeTable } from "../../kernels/rope.ts";
import { attentionReference as reference, type Ranges, type Shape } from "./attention_reference.ts";
import {
  assertClose,
  download,
  gpuTest,
  poisoned,
  quantize,
  randomArray,
  tolerance,
  upload,
} from "./harness.ts";

/** Which programs the launchers take: those for GPUs or those for software drivers. */
let direct = false;

/** Registers a test for each kind of program. */
function bothTest(name: string, body: (gpu: Gpu) => Promise<void>): void {
  for (const value of [false, true]) {
    gpuTest(`${name} (${value ? "direct" : "tiled"})`, async (gpu) => {
      direct = value;
      await body(gpu);
    });
  }
}

/** Gradients in float64, with probabilities from `lse` and delta from `out`. */
function referenceBackward(
  q: Float64Array,
  k: Float64Array,
  v: Float64Array,
  out: Float64Array,
  dout: Float64Array,
  lse: Float64Array,
  { starts, ends }: Ranges,
  { heads, kvHeads, headDim }: Shape,
) {
  const dq = new Float64Array(q.length), dk = new Float64Array(k.length);
  const dv = new Float64Array(v.length), scale = 1 / Math.sqrt(headDim);
  for (let i = 0; i < starts.length; i++) {
    for (let h = 0; h < heads; h++) {
      const a = (i * heads + h) * headDim;
      let delta = 0;
      for (let c = 0; c < headDim; c++) delta += dout[a + c] * out[a + c];
      for (let j = starts[i]; j < ends[i]; j++) {
        const b = (j * kvHeads + Math.floor(h / (heads / kvHeads))) * headDim;
        let score = 0, dp = 0;
        for (let c = 0; c < headDim; c++) {
          score += q[a + c] * k[b + c];
          dp += dout[a + c] * v[b + c];
        }
        const p = Math.exp(score * scale - lse[i * heads + h]), ds = p * (dp - delta) * scale;
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

/** Turns every head of gradients by the opposite of its row's angles, in place. */
function turnBack(gradient: Float64Array, positions: number[], headDim: number): void {
  const half = headDim / 2, width = gradient.length / positions.length;
  for (let from = 0; from < gradient.length; from += headDim) {
    for (let i = 0; i < half; i++) {
      const angle = positions[Math.floor(from / width)] / 100 ** (i / half);
      const a = gradient[from + i], b = gradient[from + half + i];
      gradient[from + i] = a * Math.cos(angle) + b * Math.sin(angle);
      gradient[from + half + i] = b * Math.cos(angle) - a * Math.sin(angle);
    }
  }
}

/** Causal attention within documents of these lengths, over the last `window` keys of each query. */
function documents(lengths: number[], window = Infinity) {
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

function inputs(shape: Shape, rows: number, keys: number, dtype: Dtype, scale = 1) {
  const { heads, kvHeads, headDim } = shape;
  return {
    q: quantize(randomArray(rows * heads * headDim, 1, scale), dtype),
    k: quantize(randomArray(keys * kvHeads * headDim, 2, scale), dtype),
    v: quantize(randomArray(keys * kvHeads * headDim, 3), dtype),
    dout: quantize(randomArray(rows * heads * headDim, 4), dtype),
  };
}

/** How the launchers are to choose a program. */
interface How {
  unroll?: boolean;
  half?: boolean;
  shape?: ShapeName;
}

/** The root mean square of a difference, relative to what is expected. */
function relative(actual: Float64Array, expected: Float64Array): number {
  const square = (x: Float64Array) => x.reduce((sum, value) => sum + value * value, 0);
  return Math.sqrt(square(actual.map((value, i) => value - expected[i])) / square(expected));
}

interface Host {
  q: ArrayLike<number>;
  k: ArrayLike<number>;
  v: ArrayLike<number>;
}

/** Columns of padding between the heads of queries, keys and values in one tensor, and at its end. */
const GAP = 4;

/** The same rows of several matrices side by side, with gaps of NaN. */
function joined(gpu: Gpu, parts: ArrayLike<number>[], widths: number[], dtype: Dtype) {
  const rows = parts[0].length / widths[0];
  const width = widths.reduce((sum, n) => sum + n + GAP, 0);
  const values = new Float64Array(rows * width).fill(NaN), from: number[] = [];
  let column = 0;
  parts.forEach((part, p) => {
    from.push(column);
    for (let i = 0; i < part.length; i++) {
      values[Math.floor(i / widths[p]) * width + column + i % widths[p]] = part[i];
    }
    column += widths[p] + GAP;
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

async function runForward(
  gpu: Gpu,
  { q, k, v }: Host,
  { starts, ends }: Ranges,
  shape: Shape,
  dtype: Dtype,
  how: How = {},
) {
  const { heads, kvHeads, headDim } = shape, rows = starts.length;
  const keys = k.length / (kvHeads * headDim);
  const narrow = kvHeads * headDim;
  // A cache has more rows than there are queries and lies apart.
  const own = keys === rows;
  const queries = joined(gpu, own ? [q, k, v] : [q], [heads * headDim, narrow, narrow], dtype);
  const [k_, v_] = own ? queries.slice(1) : joined(gpu, [k, v], [narrow, narrow], dtype);
  const tensors = {
    q: queries[0],
    k: k_,
    v: v_,
    starts: upload(gpu, starts, "u32", [rows]),
    ends: upload(gpu, ends, "u32", [rows]),
    out: poisoned(gpu, dtype, [rows, heads * headDim]),
    lse: poisoned(gpu, "f32", [rows, heads]),
  };
  attention(gpu, { ...tensors, rows, ...shape, direct, ...how });
  return { out: await download(gpu, tensors.out), lse: await download(gpu, tensors.lse) };
}

/** Runs the backward with the reference's out and lse, twice, and compares every gradient. */
async function checkBackward(
  gpu: Gpu,
  host: ReturnType<typeof inputs>,
  ranges: ReturnType<typeof documents>,
  expected: ReturnType<typeof reference>,
  shape: Shape,
  dtype: Dtype,
  limits: { atol: number; rtol: number },
  what: string,
  how: How = {},
  turned = false,
) {
  const { heads, kvHeads, headDim } = shape, rows = ranges.starts.length;
  const out = quantize(expected.out, dtype), lse = quantize(expected.lse, "f32");
  const want = referenceBackward(host.q, host.k, host.v, out, host.dout, lse, ranges, shape);
  const positions = ranges.starts.map((_, i) => 3 * i % 50);
  if (turned) {
    turnBack(want.dq, positions, headDim);
    turnBack(want.dk, positions, headDim);
  }
  const turn = turned
    ? {
      table: upload(gpu, ropeTable({ headDim, theta: 100, positions: 50 }), "f32", [50, headDim]),
      positions: upload(gpu, positions, "u32", [rows]),
    }
    : undefined;
  const wide = [rows, heads * headDim];
  const widths = [heads * headDim, kvHeads * headDim, kvHeads * headDim];
  const [q, k, v] = joined(gpu, [host.q, host.k, host.v], widths, dtype);
  const fixed = {
    q,
    k,
    v,
    out: upload(gpu, out, dtype, wide),
    dout: upload(gpu, host.dout, dtype, wide),
    lse: upload(gpu, lse, "f32", [rows, heads]),
    starts: upload(gpu, ranges.starts, "u32", [rows]),
    ends: upload(gpu, ranges.ends, "u32", [rows]),
    queryEnds: upload(gpu, ranges.queryEnds, "u32", [rows]),
  };
  const gradients = [];
  for (let repeat = 0; repeat < 2; repeat++) {
    const tensor = poisoned(gpu, dtype, [rows, q.tensor.rowSize]);
    const [dq, dk, dv] = [q, k, v].map(({ from }) => ({ tensor, from }));
    attentionBackward(gpu, { ...fixed, dq, dk, dv, turn, rows, ...shape, direct, ...how });
    const all = await download(gpu, tensor);
    const part = (p: number, from: number) => columns(all, tensor.rowSize, from, widths[p]);
    gradients.push({ dq: part(0, dq.from), dk: part(1, dk.from), dv: part(2, dv.from) });
    const rest = all.filter(Number.isNaN).length;
    assert.equal(rest, rows * 3 * GAP, `${what}: columns between the gradients were written`);
  }
  assertClose(gradients[0].dq, want.dq, { ...limits, what: `dq ${what}` });
  assertClose(gradients[0].dk, want.dk, { ...limits, what: `dk ${what}` });
  assertClose(gradients[0].dv, want.dv, { ...limits, what: `dv ${what}` });
  assert.deepEqual(gradients[1], gradients[0], `${what}: a second run differs`);
}

Deno.test("attention's plans fit workgroup memory and share a tile out exactly", () => {
  for (let headDim = 4; headDim <= 256; headDim += 4) {
    for (const kind of ["forward", "backward"] as const) {
      for (const dtype of ["f32", "f16"] as const) {
        for (const half of [false, true]) {
          for (const [limit, keys] of [[16384, 60], [32768, 60], [49152, 60], [49152, 300]]) {
            const wish = { keys, headDim, dtypes: [dtype], half, unroll: true, limit };
            const plan = keyedPlan(...choosePlan(kind, wish));
            const what = `${kind} of head_dim ${headDim} within ${limit}`;
            assert.ok(workgroupBytes(plan, kind) <= limit, what);
            const { rows, columns, scoreRows, scoreColumns, threads, lanes } = plan;
            assert.equal(rows * columns, threads * scoreRows * scoreColumns, what);
            assert.equal(lanes * scoreColumns, columns, what);
            const { pairs, chunk, chunks, sumLanes, sumPairs, sumRows } = plan;
            assert.equal(plan.vectors * 4, headDim);
            assert.ok(2 * pairs >= plan.vectors && 2 * pairs - plan.vectors < 2, what);
            assert.ok(chunk * chunks >= pairs && chunk * (chunks - 1) < pairs, `${what}: chunks`);
            assert.ok(sumLanes * sumPairs >= chunk, `${what}: pairs of a sum`);
            assert.ok(rows / sumRows * sumLanes <= threads, `${what}: threads of a sum`);
            assert.equal(threads % Math.max(rows, columns), 0, `${what}: threads of delta`);
          }
        }
      }
    }
  }
  const wish = { keys: 8, dtypes: ["f32"], unroll: true, limit: 32768 } as const;
  for (const headDim of [0, 6, 260]) {
    assert.throws(() => choosePlan("forward", { ...wish, headDim }), /head_dim/);
  }
});

interface Case {
  lengths: number[];
  /** Keys that a query attends to at most. */
  window?: number;
  shape: Shape;
  /** Loops as the adapter likes them where it is not said. */
  unroll?: boolean;
}

/** Few head dimensions for each dtype: every one is four more programs to compile. */
const CASES: Record<"f32" | "f16", Case[]> = {
  f32: [
    { lengths: [1], shape: { heads: 4, kvHeads: 2, headDim: 8 }, unroll: true },
    { lengths: [5, 1, 1, 24], shape: { heads: 4, kvHeads: 2, headDim: 8 }, unroll: true },
    { lengths: [7], shape: { heads: 4, kvHeads: 1, headDim: 24 } },
    { lengths: [1, 40, 3, 85], shape: { heads: 4, kvHeads: 2, headDim: 24 } },
    { lengths: [33], shape: { heads: 4, kvHeads: 1, headDim: 64 } },
    { lengths: [129], shape: { heads: 2, kvHeads: 2, headDim: 64 } },
    { lengths: [1, 70, 58], shape: { heads: 2, kvHeads: 1, headDim: 128 } },
    { lengths: [7, 30], shape: { heads: 2, kvHeads: 1, headDim: 256 } },
    // Windows shorter than a tile and longer, and one that only the longer document fills.
    { lengths: [70, 1, 9], window: 1, shape: { heads: 4, kvHeads: 2, headDim: 8 } },
    { lengths: [3, 100, 40], window: 5, shape: { heads: 4, kvHeads: 2, headDim: 24 } },
    { lengths: [129, 20], window: 37, shape: { heads: 2, kvHeads: 2, headDim: 64 } },
  ],
  f16: [
    { lengths: [1], shape: { heads: 1, kvHeads: 1, headDim: 24 } },
    { lengths: [31], shape: { heads: 2, kvHeads: 2, headDim: 24 } },
    { lengths: [1, 70, 58], shape: { heads: 4, kvHeads: 1, headDim: 128 } },
    { lengths: [33], shape: { heads: 2, kvHeads: 1, headDim: 136 } },
    { lengths: [100, 31], window: 33, shape: { heads: 2, kvHeads: 2, headDim: 24 } },
  ],
};

for (const dtype of ["f32", "f16"] as const) {
  bothTest(`attention and its backward agree with the reference (${dtype})`, async (gpu) => {
    for (const { lengths, window, shape, unroll } of CASES[dtype]) {
      // Software drivers take the direct programs for short head rows only.
      if (direct && !prefersDirect(true, shape.headDim)) continue;
      const sizes = `${shape.heads}/${shape.kvHeads}×${shape.headDim}`;
      const what = `of ${lengths} with ${sizes}${window ? ` in a window of ${window}` : ""}`;
      const ranges = documents(lengths, window), rows = ranges.starts.length;
      const host = inputs(shape, rows, rows, dtype);
      const expected = reference(host.q, host.k, host.v, ranges, shape);
      const { out, lse } = await runForward(gpu, host, ranges, shape, dtype, { unroll });
      assertClose(out, expected.out, { ...tolerance(dtype), what: `out ${what}` });
      assertClose(lse, expected.lse, { ...tolerance("f32"), what: `lse ${what}` });
      const limits = dtype === "f16" ? tolerance("f16") : { atol: 5e-5, rtol: 5e-5 };
      await checkBackward(gpu, host, ranges, expected, shape, dtype, limits, what, { unroll });
    }
  });

  bothTest(`attention never reads the unfilled rows of a cache (${dtype})`, async (gpu) => {
    const shape = { heads: 4, kvHeads: 2, headDim: 24 }, allocated = 150;
    for (const [filled, rows] of [[1, 1], [32, 1], [71, 1], [100, 37]]) {
      const host = inputs(shape, rows, allocated, dtype);
      const ranges = {
        starts: Array<number>(rows).fill(0),
        ends: Array.from({ length: rows }, (_, i) => filled - rows + i + 1),
      };
      const expected = reference(host.q, host.k, host.v, ranges, shape);
      const width = shape.kvHeads * shape.headDim;
      const k = host.k.fill(NaN, filled * width), v = host.v.fill(NaN, filled * width);
      const { out, lse } = await runForward(gpu, { q: host.q, k, v }, ranges, shape, dtype);
      assertClose(out, expected.out, { ...tolerance(dtype), what: `out at ${filled}` });
      assertClose(lse, expected.lse, { ...tolerance("f32"), what: `lse at ${filled}` });
    }
  });
}

for (const shape of SHAPE_NAMES) {
  gpuTest(`attention in ${shape} tiles`, async (gpu) => {
    direct = false;
    const sizes = { heads: 4, kvHeads: 2, headDim: 24 }, ranges = documents([1, 40, 3, 85]);
    const host = inputs(sizes, 129, 129, "f16");
    const expected = reference(host.q, host.k, host.v, ranges, sizes);
    const how = { shape, unroll: false };
    const { out, lse } = await runForward(gpu, host, ranges, sizes, "f16", how);
    assertClose(out, expected.out, { ...tolerance("f16"), what: "out" });
    assertClose(lse, expected.lse, { ...tolerance("f32"), what: "lse" });
    await checkBackward(gpu, host, ranges, expected, sizes, "f16", tolerance("f16"), shape, how);
  });
}

gpuTest("attention with short sums in f16 stays close", async (gpu) => {
  direct = false;
  const how = { half: true, unroll: true };
  // Scores have a sum of 32 elements and one of what is left of a head row.
  const sizes = { heads: 2, kvHeads: 1, headDim: 40 }, ranges = documents([1, 40]);
  const host = inputs(sizes, 41, 41, "f16");
  const expected = reference(host.q, host.k, host.v, ranges, sizes);
  for (const dtype of ["f16", "f32"] as const) {
    const { out, lse } = await runForward(gpu, host, ranges, sizes, dtype, how);
    assertClose(out, expected.out, { atol: 3e-3, rtol: 3e-3, what: `out in ${dtype}` });
    assertClose(lse, expected.lse, { atol: 2e-3, rtol: 2e-3, what: `lse in ${dtype}` });
    assert.ok(relative(out, expected.out) < 1e-3, `out in ${dtype} is off by the mean`);
  }
  const limits = { atol: 6e-3, rtol: 6e-3 };
  await checkBackward(gpu, host, ranges, expected, sizes, "f16", limits, "in f16", how);
});

gpuTest("attention of f32 queries over a cache in f16", async (gpu) => {
  const sizes = { heads: 4, kvHeads: 2, headDim: 24 }, ranges = documents([40]);
  const host = inputs(sizes, 40, 40, "f16");
  const expected = reference(host.q, host.k, host.v, ranges, sizes).out;
  const starts = upload(gpu, ranges.starts, "u32", [40]),
    ends = upload(gpu, ranges.ends, "u32", [40]);
  const part = (x: Float64Array, dtype: Dtype) => ({
    tensor: upload(gpu, x, dtype, [40, x.length / 40]),
    from: 0,
  });
  const q = part(host.q, "f32"), k = part(host.k, "f16"), v = part(host.v, "f16");
  // The queries are halves already, so that rounding them changes nothing.
  const ways = [
    ["f32", { unroll: false }, tolerance("f32")],
    ["f32", { rounded: true, unroll: false }, tolerance("f32")],
    ["f16", { rounded: true, unroll: true }, tolerance("f16")],
    ["f32", { half: true, unroll: true }, tolerance("f16")],
  ] as const;
  for (const [dtype, how, limits] of ways) {
    const out = poisoned(gpu, dtype, [40, 96]);
    attention(gpu, { q, k, v, starts, ends, out, rows: 40, ...sizes, direct: false, ...how });
    assertClose(await download(gpu, out), expected, limits);
  }
});

bothTest("attention's backward undoes RoPE", async (gpu) => {
  for (const [headDim, dtype] of [[8, "f32"], [24, "f16"], [64, "f32"]] as const) {
    const shape = { heads: 4, kvHeads: 2, headDim }, ranges = documents([1, 40, 28]);
    const rows = ranges.starts.length, host = inputs(shape, rows, rows, dtype);
    const expected = reference(host.q, host.k, host.v, ranges, shape);
    const limits = dtype === "f16" ? tolerance("f16") : { atol: 5e-5, rtol: 5e-5 };
    const what = `of head_dim ${headDim}, turned back`;
    await checkBackward(gpu, host, ranges, expected, shape, dtype, limits, what, {}, true);
  }
});

bothTest("attention uses no more rows than it is told and needs no lse", async (gpu) => {
  const shape = { heads: 2, kvHeads: 1, headDim: 24 }, rows = 33, allocated = 40;
  const ranges = documents([rows]);
  const host = inputs(shape, allocated, allocated, "f32");
  const wide = [allocated, 48], narrow = [allocated, 24];
  const padded = (values: number[]) => [...values, ...Array<number>(7).fill(0xffffffff)];
  const out = upload(gpu, new Array(allocated * 48).fill(7), "f32", wide);
  attention(gpu, {
    q: { tensor: upload(gpu, host.q, "f32", wide), from: 0 },
    k: { tensor: upload(gpu, host.k, "f32", narrow), from: 0 },
    v: { tensor: upload(gpu, host.v, "f32", narrow), from: 0 },
    direct,
    starts: upload(gpu, padded(ranges.starts), "u32", [allocated]),
    ends: upload(gpu, padded(ranges.ends), "u32", [allocated]),
    out,
    rows,
    ...shape,
  });
  const expected = reference(host.q.slice(0, rows * 48), host.k, host.v, ranges, shape).out;
  const all = [...expected, ...new Array(7 * 48).fill(7)];
  assertClose(await download(gpu, out), all, tolerance("f32"));
});

bothTest("attention gives zeros to a query without keys", async (gpu) => {
  const shape = { heads: 1, kvHeads: 1, headDim: 24 };
  const host = inputs(shape, 3, 3, "f32");
  for (const ends of [[0, 1, 2], [0, 0, 0]]) {
    const ranges = { starts: [0, 0, 0], ends };
    const { out } = await runForward(gpu, host, ranges, shape, "f32");
    assertClose(out, reference(host.q, host.k, host.v, ranges, shape).out, tolerance("f32"));
  }
});

bothTest("attention stays exact for scores of hundreds and thousands", async (gpu) => {
  const shape = { heads: 2, kvHeads: 1, headDim: 64 }, rows = 129;
  const ranges = documents([rows]);
  // Whole numbers make exact scores, so that only the exponentials are rounded.
  const host = inputs(shape, rows, rows, "f32", 40);
  const q = host.q.map(Math.round), k = host.k.map(Math.round);
  const expected = reference(q, k, host.v, ranges, shape);
  const highest = Math.max(...expected.lse), lowest = Math.min(...expected.lse);
  assert.ok(highest > 2000 && lowest < -100, `scores from ${lowest} to ${highest}`);
  const limits = { atol: 1e-3, rtol: 1e-3 };
  const { out, lse } = await runForward(gpu, { q, k, v: host.v }, ranges, shape, "f32");
  assertClose(out, expected.out, { ...limits, what: "out" });
  assertClose(lse, expected.lse, { atol: 1e-3, rtol: 1e-6, what: "lse" });
  // Gradients are of the order of the scores' factors, up to 30.
  const steep = { atol: 3e-2, rtol: 3e-3 };
  const exact = { ...host, q, k };
  await checkBackward(gpu, exact, ranges, expected, shape, "f32", steep, "of large scores");

  // Every key beats all before it by far, so each tile discards the sum so far; and the reverse.
  for (const step of [3, -3]) {
    const ones = new Float64Array(rows * 128).fill(1);
    const rising = Float64Array.from({ length: rows * 64 }, (_, n) => step * Math.floor(n / 64));
    const want = reference(ones, rising, host.v, ranges, shape);
    const got = await runForward(gpu, { q: ones, k: rising, v: host.v }, ranges, shape, "f32");
    assertClose(got.out, want.out, { ...limits, what: `out for steps of ${step}` });
    assertClose(got.lse, want.lse, { atol: 1e-3, rtol: 1e-6, what: `lse for steps of ${step}` });
  }
});

bothTest("attention passes an overflow on instead of hiding it", async (gpu) => {
  const shape = { heads: 1, kvHeads: 1, headDim: 24 };
  const host = inputs(shape, 40, 40, "f16");
  const ranges = documents([40]);
  for (const bad of [Infinity, -Infinity, NaN]) {
    const q = host.q.slice();
    q[35 * 24 + 2] = bad;
    const { out } = await runForward(gpu, { ...host, q }, ranges, shape, "f16");
    assert.ok(Number.isNaN(out[35 * 24]), `a query of ${bad} gave ${out[35 * 24]}`);
    assert.ok(out.slice(0, 35 * 24).every(Number.isFinite), `${bad} reached other queries`);
  }
});
