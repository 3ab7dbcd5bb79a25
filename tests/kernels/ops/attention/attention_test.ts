import { rotaries, rotaryName, whole } from "../rope/rotaries.ts";
import assert from "node:assert/strict";
import { attention } from "../../../../kernels/ops/attention/attention.ts";
import { prefersUnstaged } from "../../../../kernels/ops/attention/unstaged.ts";
import {
  choosePlan,
  keyedPlan,
  SHAPE_NAMES,
  workgroupBytes,
} from "../../../../kernels/ops/attention/tiled/plan.ts";
import type { Gpu } from "../../../../kernels/gpu/gpu.ts";
import type { Dtype } from "../../../../kernels/gpu/tensor.ts";
import { attentionReference as reference, type Shape } from "./attention_reference.ts";
import {
  checkBackward,
  documents,
  inputs,
  runForward,
  SHARED,
  sharingDocuments,
} from "./attention_runs.ts";
import {
  assertClose,
  download,
  gpu as device,
  gpuTest,
  poisoned,
  relative,
  tolerance,
  upload,
} from "../../harness.ts";

/** Registers a test for each kind of program. */
function bothTest(name: string, body: (gpu: Gpu, unstaged: boolean) => Promise<void>): void {
  for (const unstaged of [false, true]) {
    gpuTest(`${name} (${unstaged ? "unstaged" : "tiled"})`, (gpu) => body(gpu, unstaged));
  }
}

Deno.test("attention's plans fit workgroup memory and share a tile out exactly", () => {
  for (let headDim = 4; headDim <= 256; headDim += 4) {
    for (const kind of ["forward", "backward"] as const) {
      for (const dtype of ["f32", "f16"] as const) {
        for (const half of [false, true]) {
          for (const [limit, keys] of [[16384, 60], [32768, 60], [49152, 60], [49152, 300]]) {
            const wish = { keys, headDim, dtypes: [dtype], half, unroll: true, limit };
            const plan = keyedPlan(choosePlan(kind, wish));
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
    // A cap that most scores are near to.
    { lengths: [5, 24], shape: { heads: 4, kvHeads: 2, headDim: 8, softcap: 0.3 } },
  ],
  f16: [
    { lengths: [1], shape: { heads: 1, kvHeads: 1, headDim: 24 } },
    { lengths: [31], shape: { heads: 2, kvHeads: 2, headDim: 24 } },
    { lengths: [1, 70, 58], shape: { heads: 4, kvHeads: 1, headDim: 128 } },
    { lengths: [33], shape: { heads: 2, kvHeads: 1, headDim: 136 } },
    { lengths: [100, 31], window: 33, shape: { heads: 2, kvHeads: 2, headDim: 24 } },
    { lengths: [70, 31], shape: { heads: 2, kvHeads: 1, headDim: 24, softcap: 0.3 } },
  ],
};

for (const dtype of ["f32", "f16"] as const) {
  bothTest(
    `attention and its backward agree with the reference (${dtype})`,
    async (gpu, unstaged) => {
      for (const { lengths, window, shape, unroll } of CASES[dtype]) {
        // Software drivers take the unstaged programs for short head rows only.
        if (unstaged && !prefersUnstaged(true, shape.headDim)) continue;
        const sizes = `${shape.heads}/${shape.kvHeads}×${shape.headDim} (cap ${shape.softcap})`;
        const what = `of ${lengths} with ${sizes}${window ? ` in a window of ${window}` : ""}`;
        const keyRanges = documents(lengths, window), rows = keyRanges.starts.length;
        const host = inputs(shape, rows, rows, dtype);
        const expected = reference(host.q, host.k, host.v, keyRanges, shape);
        const { out, lse } = await runForward(gpu, host, keyRanges, { sizes: shape, dtype }, {
          unstaged,
          unroll,
        });
        assertClose(out, expected.out, { ...tolerance(dtype), what: `out ${what}` });
        assertClose(lse, expected.lse, { ...tolerance("f32"), what: `lse ${what}` });
        const limits = dtype === "f16" ? tolerance("f16") : { atol: 5e-5, rtol: 5e-5 };
        await checkBackward(
          gpu,
          { host, keyRanges, expected, sizes: shape, dtype },
          { limits, what },
          {
            unstaged,
            unroll,
          },
        );
      }
    },
  );

  bothTest(
    `attention never reads the unfilled rows of a cache (${dtype})`,
    async (gpu, unstaged) => {
      const shape = { heads: 4, kvHeads: 2, headDim: 24 }, allocated = 150;
      for (const [filled, rows] of [[1, 1], [32, 1], [71, 1], [100, 37]]) {
        const host = inputs(shape, rows, allocated, dtype);
        const keyRanges = {
          starts: Array<number>(rows).fill(0),
          ends: Array.from({ length: rows }, (_, i) => filled - rows + i + 1),
        };
        const expected = reference(host.q, host.k, host.v, keyRanges, shape);
        const width = shape.kvHeads * shape.headDim;
        const k = host.k.fill(NaN, filled * width), v = host.v.fill(NaN, filled * width);
        const { out, lse } = await runForward(gpu, { q: host.q, k, v }, keyRanges, {
          sizes: shape,
          dtype,
        }, {
          unstaged,
        });
        assertClose(out, expected.out, { ...tolerance(dtype), what: `out at ${filled}` });
        assertClose(lse, expected.lse, { ...tolerance("f32"), what: `lse at ${filled}` });
      }
    },
  );
}

/** Shapes whose gradients the device's workgroup memory holds, with pieces of head rows as short as they can be. */
const SHAPES_WITHIN = SHAPE_NAMES.filter((shape) => {
  const pieces = { headDim: 24, chunk: 1, stage: "f16", f16Sums: false, unroll: false } as const;
  const limit = device?.device.limits.maxComputeWorkgroupStorageSize ?? 0;
  return workgroupBytes(keyedPlan({ shape, ...pieces }), "backward") <= limit;
});

for (const shape of SHAPE_NAMES) {
  if (device !== undefined && !SHAPES_WITHIN.includes(shape)) {
    Deno.test.ignore(
      `attention in ${shape} tiles (ignored: too little workgroup memory)`,
      () => {},
    );
    continue;
  }
  gpuTest(`attention in ${shape} tiles`, async (gpu) => {
    const sizes = { heads: 2, kvHeads: 1, headDim: 24 }, keyRanges = documents([1, 40, 3, 85]);
    const host = inputs(sizes, 129, 129, "f16");
    const expected = reference(host.q, host.k, host.v, keyRanges, sizes);
    const how = { unstaged: false, shape, unroll: false };
    const { out, lse } = await runForward(gpu, host, keyRanges, { sizes, dtype: "f16" }, how);
    assertClose(out, expected.out, { ...tolerance("f16"), what: "out" });
    assertClose(lse, expected.lse, { ...tolerance("f32"), what: "lse" });
    await checkBackward(gpu, { host, keyRanges, expected, sizes, dtype: "f16" }, {
      limits: tolerance("f16"),
      what: shape,
    }, how);
  });
}

bothTest(
  "attention of documents that share rows agrees with the reference",
  async (gpu, unstaged) => {
    const shapes = unstaged ? [undefined] : SHAPES_WITHIN;
    for (const [headDim, dtype, kvHeads] of [[8, "f32", 1], [24, "f16", 2]] as const) {
      const sizes = { heads: 2 * kvHeads, kvHeads, headDim }, limits = tolerance(dtype);
      for (const shape of headDim === 8 ? shapes : [undefined]) {
        for (const groups of SHARED) {
          const keyRanges = sharingDocuments(groups), rows = keyRanges.starts.length;
          const host = inputs(sizes, rows, rows, dtype);
          const expected = reference(host.q, host.k, host.v, keyRanges, sizes);
          const how = { unstaged, shape, unroll: false };
          const what = `${JSON.stringify(groups)} in ${shape} tiles`;
          const { out, lse } = await runForward(gpu, host, keyRanges, { sizes, dtype }, how);
          assertClose(out, expected.out, { ...limits, what: `out ${what}` });
          assertClose(lse, expected.lse, { ...tolerance("f32"), what: `lse ${what}` });
          const wide = dtype === "f16" ? limits : { atol: 5e-5, rtol: 5e-5 };
          await checkBackward(
            gpu,
            { host, keyRanges, expected, sizes, dtype },
            { limits: wide, what },
            how,
            whole(headDim),
          );
        }
      }
    }
  },
);

gpuTest("attention with short sums in f16 stays close", async (gpu) => {
  const how = { unstaged: false, f16Sums: true, unroll: true };
  // Scores have a sum of 32 elements and one of what is left of a head row.
  const sizes = { heads: 2, kvHeads: 1, headDim: 40 }, keyRanges = documents([1, 40]);
  const host = inputs(sizes, 41, 41, "f16");
  const expected = reference(host.q, host.k, host.v, keyRanges, sizes);
  for (const dtype of ["f16", "f32"] as const) {
    const { out, lse } = await runForward(gpu, host, keyRanges, { sizes, dtype }, how);
    assertClose(out, expected.out, { atol: 3e-3, rtol: 3e-3, what: `out in ${dtype}` });
    assertClose(lse, expected.lse, { atol: 2e-3, rtol: 2e-3, what: `lse in ${dtype}` });
    assert.ok(relative(out, expected.out) < 1e-3, `out in ${dtype} is off by the mean`);
  }
  const limits = { atol: 6e-3, rtol: 6e-3 };
  await checkBackward(gpu, { host, keyRanges, expected, sizes, dtype: "f16" }, {
    limits,
    what: "in f16",
  }, how);
});

gpuTest("attention of f32 queries over a cache in f16", async (gpu) => {
  const sizes = { heads: 4, kvHeads: 2, headDim: 24 }, keyRanges = documents([40]);
  const host = inputs(sizes, 40, 40, "f16");
  const expected = reference(host.q, host.k, host.v, keyRanges, sizes).out;
  const starts = upload(gpu, keyRanges.starts, "u32", [40]),
    ends = upload(gpu, keyRanges.ends, "u32", [40]);
  const part = (x: Float64Array, dtype: Dtype) => ({
    tensor: upload(gpu, x, dtype, [40, x.length / 40]),
    from: 0,
  });
  const q = part(host.q, "f32"), k = part(host.k, "f16"), v = part(host.v, "f16");
  // The queries are halves already, so that rounding them changes nothing.
  const ways = [
    ["f32", { unroll: false }, tolerance("f32")],
    ["f32", { f16Operands: true, unroll: false }, tolerance("f32")],
    ["f16", { f16Operands: true, unroll: true }, tolerance("f16")],
    ["f32", { f16Sums: true, unroll: true }, tolerance("f16")],
  ] as const;
  for (const [dtype, how, limits] of ways) {
    const out = poisoned(gpu, dtype, [40, 96]);
    attention(gpu, { q, k, v, starts, ends, out, rows: 40, ...sizes, unstaged: false, ...how });
    assertClose(await download(gpu, out), expected, limits);
  }
});

bothTest("attention's backward undoes RoPE", async (gpu, unstaged) => {
  for (const [headDim, dtype] of [[8, "f32"], [24, "f16"], [64, "f32"]] as const) {
    const shape = { heads: 4, kvHeads: 2, headDim }, keyRanges = documents([1, 40, 28]);
    const rows = keyRanges.starts.length, host = inputs(shape, rows, rows, dtype);
    const expected = reference(host.q, host.k, host.v, keyRanges, shape);
    const limits = dtype === "f16" ? tolerance("f16") : { atol: 5e-5, rtol: 5e-5 };
    const what = `of head_dim ${headDim}, rotated back`;
    await checkBackward(gpu, { host, keyRanges, expected, sizes: shape, dtype }, { limits, what }, {
      unstaged,
    }, whole(headDim));
  }
});

bothTest(
  "attention's backward undoes RoPE of neighbours, and of a part of each head",
  async (gpu, unstaged) => {
    for (const [headDim, dtype] of [[16, "f32"], [40, "f16"]] as const) {
      const shape = { heads: 4, kvHeads: 2, headDim }, keyRanges = documents([1, 40, 28]);
      const rows = keyRanges.starts.length, host = inputs(shape, rows, rows, dtype);
      const expected = reference(host.q, host.k, host.v, keyRanges, shape);
      const limits = dtype === "f16" ? tolerance("f16") : { atol: 5e-5, rtol: 5e-5 };
      const subject = { host, keyRanges, expected, sizes: shape, dtype };
      for (const rotary of rotaries(headDim)) {
        const what = `of head_dim ${headDim}, ${rotaryName(rotary)}`;
        await checkBackward(gpu, subject, { limits, what }, { unstaged, gap: 0 }, rotary);
      }
    }
  },
);

bothTest("attention uses no more rows than it is told and needs no lse", async (gpu, unstaged) => {
  const shape = { heads: 2, kvHeads: 1, headDim: 24 }, rows = 33, allocated = 40;
  const keyRanges = documents([rows]);
  const host = inputs(shape, allocated, allocated, "f32");
  const wide = [allocated, 48], narrow = [allocated, 24];
  const padded = (values: number[]) => [...values, ...Array<number>(7).fill(0xffffffff)];
  const out = upload(gpu, new Array(allocated * 48).fill(7), "f32", wide);
  attention(gpu, {
    q: { tensor: upload(gpu, host.q, "f32", wide), from: 0 },
    k: { tensor: upload(gpu, host.k, "f32", narrow), from: 0 },
    v: { tensor: upload(gpu, host.v, "f32", narrow), from: 0 },
    unstaged,
    starts: upload(gpu, padded(keyRanges.starts), "u32", [allocated]),
    ends: upload(gpu, padded(keyRanges.ends), "u32", [allocated]),
    out,
    rows,
    ...shape,
  });
  const expected = reference(host.q.slice(0, rows * 48), host.k, host.v, keyRanges, shape).out;
  const all = [...expected, ...new Array(7 * 48).fill(7)];
  assertClose(await download(gpu, out), all, tolerance("f32"));
});

bothTest("attention gives zeros to a query without keys", async (gpu, unstaged) => {
  const shape = { heads: 1, kvHeads: 1, headDim: 24 };
  const host = inputs(shape, 3, 3, "f32");
  for (const ends of [[0, 1, 2], [0, 0, 0]]) {
    const keyRanges = { starts: [0, 0, 0], ends };
    const { out } = await runForward(gpu, host, keyRanges, { sizes: shape, dtype: "f32" }, {
      unstaged,
    });
    assertClose(out, reference(host.q, host.k, host.v, keyRanges, shape).out, tolerance("f32"));
  }
});

bothTest("attention stays exact for scores of hundreds and thousands", async (gpu, unstaged) => {
  const shape = { heads: 2, kvHeads: 1, headDim: 64 }, rows = 129;
  const keyRanges = documents([rows]);
  // Whole numbers make exact scores, so that only the exponentials are rounded.
  const host = inputs(shape, rows, rows, "f32", 40);
  const q = host.q.map(Math.round), k = host.k.map(Math.round);
  const expected = reference(q, k, host.v, keyRanges, shape);
  const highest = Math.max(...expected.lse), lowest = Math.min(...expected.lse);
  assert.ok(highest > 2000 && lowest < -100, `scores from ${lowest} to ${highest}`);
  const limits = { atol: 1e-3, rtol: 1e-3 };
  const { out, lse } = await runForward(gpu, { q, k, v: host.v }, keyRanges, {
    sizes: shape,
    dtype: "f32",
  }, {
    unstaged,
  });
  assertClose(out, expected.out, { ...limits, what: "out" });
  assertClose(lse, expected.lse, { atol: 1e-3, rtol: 1e-6, what: "lse" });
  // Gradients are of the order of the scores' factors, up to 30.
  const steep = { atol: 3e-2, rtol: 3e-3 };
  const exact = { ...host, q, k };
  await checkBackward(gpu, { host: exact, keyRanges, expected, sizes: shape, dtype: "f32" }, {
    limits: steep,
    what: "of large scores",
  }, {
    unstaged,
  });

  // Every key beats all before it by far, so each tile discards the sum so far; and the reverse.
  for (const step of [3, -3]) {
    const ones = new Float64Array(rows * 128).fill(1);
    const rising = Float64Array.from({ length: rows * 64 }, (_, n) => step * Math.floor(n / 64));
    const want = reference(ones, rising, host.v, keyRanges, shape);
    const got = await runForward(gpu, { q: ones, k: rising, v: host.v }, keyRanges, {
      sizes: shape,
      dtype: "f32",
    }, {
      unstaged,
    });
    assertClose(got.out, want.out, { ...limits, what: `out for steps of ${step}` });
    assertClose(got.lse, want.lse, { atol: 1e-3, rtol: 1e-6, what: `lse for steps of ${step}` });
  }
});

bothTest("attention passes an overflow on instead of hiding it", async (gpu, unstaged) => {
  const shape = { heads: 1, kvHeads: 1, headDim: 24 };
  const host = inputs(shape, 40, 40, "f16");
  const keyRanges = documents([40]);
  for (const bad of [Infinity, -Infinity, NaN]) {
    const q = host.q.slice();
    q[35 * 24 + 2] = bad;
    const { out } = await runForward(
      gpu,
      { ...host, q },
      keyRanges,
      { sizes: shape, dtype: "f16" },
      {
        unstaged,
      },
    );
    assert.ok(Number.isNaN(out[35 * 24]), `a query of ${bad} gave ${out[35 * 24]}`);
    assert.ok(out.slice(0, 35 * 24).every(Number.isFinite), `${bad} reached other queries`);
  }
});
