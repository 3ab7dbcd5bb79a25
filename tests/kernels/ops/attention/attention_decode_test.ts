import assert from "node:assert/strict";
import {
  attentionDecode,
  type DecodeGeometry,
  mostSplits,
} from "../../../../kernels/ops/attention/decode/attention_decode.ts";
import {
  decodeBytes,
  decodeLayout,
  fittingShape,
} from "../../../../kernels/ops/attention/decode/layout.ts";
import { combineSplits } from "../../../../kernels/ops/attention/decode/kv_splits.ts";
import { ropeTable, tableWidth } from "../../../../kernels/ops/rope/frequencies.ts";
import type { Rotary } from "../../../../kernels/ops/rope/rotary.ts";
import { plainAngle, rotaries, rotateHead, whole } from "../rope/rotaries.ts";
import type { Dtype } from "../../../../kernels/gpu/tensor.ts";
import { attentionReference, type KeyRanges, type Shape } from "./attention_reference.ts";
import {
  assertClose,
  download,
  gpuTest,
  poisoned,
  quantize,
  randomArray,
  tolerance,
  upload,
} from "../../harness.ts";

interface Case extends Shape {
  keyRanges: KeyRanges;
  /** Of queries, of the cache, and of results where they are not queries'. */
  dtypes?: [q: Dtype, kv: Dtype, out?: Dtype];
  unstaged?: boolean;
  /** The splits are left uncombined, and are combined here. */
  uncombined?: boolean;
  geometry?: DecodeGeometry;
  /** Default: all of the head in halves. */
  rotary?: Rotary;
}

function decodeTest(name: string, cases: readonly Case[]): void {
  gpuTest(`attention of single queries: ${name}`, async (gpu) => {
    for (
      const { keyRanges, dtypes: given, unstaged = false, uncombined, geometry, ...shape } of cases
    ) {
      const dtypes = given ?? ["f32", "f32"] as const;
      const { heads, kvHeads, headDim, rotary = whole(headDim) } = shape,
        rows = keyRanges.starts.length,
        outDtype = dtypes[2] ?? dtypes[0];
      const lengths = keyRanges.ends.map((end, i) => end - keyRanges.starts[i]);
      const longest = Math.max(...lengths), keys = Math.max(...keyRanges.ends) + 3;
      const [own, shared] = [heads * headDim, kvHeads * headDim], width = own + 2 * shared;
      // Positions as with a window: other than the place in the range.
      const at = Array.from({ length: rows }, (_, t) => 3 * t + 1);
      const table = ropeTable({ headDim, rotary, theta: 10000, positions: 3 * rows });
      const qkv = quantize(randomArray(rows * width, 1), dtypes[0]);
      const make = (seed: number) => quantize(randomArray(keys * shared, seed), dtypes[1]);
      const [k, v] = [make(2), make(3)];
      // Rows that no query sees, and those that the launch is to fill, hold NaN.
      for (let j = 0; j < keys; j++) {
        if (keyRanges.starts.some((start, i) => start <= j && j < keyRanges.ends[i] - 1)) continue;
        for (const x of [k, v]) x.fill(NaN, j * shared, (j + 1) * shared);
      }
      const tensors = {
        qkv: upload(gpu, qkv, dtypes[0], [rows, width]),
        cachedK: upload(gpu, k, dtypes[1], [keys, shared]),
        cachedV: upload(gpu, v, dtypes[1], [keys, shared]),
        rotation: {
          rotary,
          table: upload(gpu, table, "f32", [3 * rows, tableWidth(rotary, headDim)]),
          positions: upload(gpu, at, "u32", [rows]),
        },
        index: upload(gpu, keyRanges.ends.map((end) => end - 1), "u32", [rows]),
        starts: upload(gpu, keyRanges.starts, "u32", [rows]),
        ends: upload(gpu, keyRanges.ends, "u32", [rows]),
        out: poisoned(gpu, outDtype, [rows, own]),
      };
      const splitRows = rows * mostSplits(longest) * heads;
      const workspace = {
        partialOut: poisoned(gpu, "f32", [splitRows * headDim]),
        softmaxStats: poisoned(gpu, "f32", [splitRows * 2]),
      };
      const how = { rows, longest, unstaged, uncombined, geometry, ...shape };
      const results = attentionDecode(gpu, { ...tensors, workspace, ...how });
      assert.equal(results !== undefined, uncombined === true && rows === 1 && longest <= 2048);
      if (results) combineSplits(gpu, { ...results, out: tensors.out, rows, heads });

      const q = new Float64Array(rows * own);
      for (let t = 0; t < rows; t++) {
        const from = t * width, row = (keyRanges.ends[t] - 1) * shared;
        for (let h = 0; h < heads + kvHeads; h++) {
          rotateHead(qkv, from + h * headDim, rotary, plainAngle(10000, rotary, at[t]));
        }
        q.set(qkv.subarray(from, from + own), t * own);
        k.set(quantize(qkv.subarray(from + own, from + own + shared), dtypes[1]), row);
        v.set(quantize(qkv.subarray(from + own + shared, from + width), dtypes[1]), row);
      }
      const what =
        `${heads}/${kvHeads}×${headDim}, ${lengths} keys, ${dtypes}, ${unstaged} ${uncombined}, ${rotary.dims} ${rotary.pairs}`;
      const expected = attentionReference(q, k, v, keyRanges, shape).out;
      const limits = { ...tolerance(outDtype), what };
      // A rotated key next to the middle of two halves may go to either.
      if (dtypes[1] === "f16") limits.atol = Math.max(limits.atol, 5e-4);
      assertClose(await download(gpu, tensors.out), expected, limits);
      for (
        const [name, x, filled] of [["k", tensors.cachedK, k], ["v", tensors.cachedV, v]] as const
      ) {
        const atol = dtypes[1] === "f16" ? 2e-3 : 1e-6;
        assertClose(await download(gpu, x), filled, {
          atol,
          rtol: 0,
          what: `cached ${name}, ${what}`,
        });
      }
    }
  });
}

const small = { heads: 4, kvHeads: 2, headDim: 8 };
/** Sequences in no order, with gaps between them, one of them just begun. */
const scattered: KeyRanges = { starts: [700, 0, 300, 270], ends: [1029, 257, 301, 272] };

decodeTest("every length around a tile and a range", [
  ...[1, 31, 127, 129, 256, 257, 258, 513, 514, 1025, 33_000].map((n) => ({
    ...small,
    keyRanges: { starts: [3], ends: [3 + n] },
  })),
]);
decodeTest("one, two and four heads a workgroup", [
  ...[1, 2, 4].map((heads) => ({
    heads: 4,
    kvHeads: 1,
    headDim: 64,
    keyRanges: scattered,
    geometry: { heads },
    dtypes: ["f32", "f16"] as [Dtype, Dtype],
  })),
]);
decodeTest("results that a product on tensor cores follows", [
  ...[1, 3].map((splits) => ({
    ...small,
    keyRanges: scattered,
    geometry: { splits },
    dtypes: ["f32", "f16", "f16"] as [Dtype, Dtype, Dtype],
  })),
]);
decodeTest("splits that are left for the next product, some of them empty", [
  ...[1, 2, 129, 257, 511, 513, 1030, 2048, 2049].map((n) => ({
    ...small,
    keyRanges: { starts: [3], ends: [3 + n] },
    uncombined: true,
  })),
  ...[5, 300, 700].map((n) => ({
    heads: 6,
    kvHeads: 2,
    headDim: 128,
    dtypes: ["f32", "f16"] as [Dtype, Dtype],
    keyRanges: { starts: [0], ends: [n] },
    uncombined: true,
  })),
  { ...small, keyRanges: { starts: [1, 200], ends: [101, 290] }, uncombined: true },
]);
decodeTest("without subgroups", [
  { ...small, keyRanges: { starts: [0], ends: [300] }, geometry: { subgroup: 0 } },
  { ...small, keyRanges: scattered, geometry: { subgroup: 0, threads: 128 } },
]);
decodeTest("sequences anywhere in the cache", [
  { ...small, keyRanges: scattered },
  { ...small, keyRanges: scattered, dtypes: ["f16", "f16"] },
  { ...small, keyRanges: scattered, dtypes: ["f32", "f16"] },
  { ...small, keyRanges: scattered, dtypes: ["f16", "f32"] },
]);
decodeTest("scores that are capped", [
  { ...small, softcap: 0.3, keyRanges: scattered },
  { ...small, softcap: 0.3, keyRanges: { starts: [3], ends: [300] }, uncombined: true },
  { ...small, softcap: 0.3, keyRanges: { starts: [3, 70], ends: [40, 71] }, unstaged: true },
]);
decodeTest(
  "head sizes and groups",
  ([
    [1, 1, 128, "f16"],
    [3, 1, 40, "f16"],
    [8, 1, 64, "f16"],
    [16, 1, 8, "f16"],
    [7, 7, 80, "f16"],
    [2, 2, 256, "f32"],
  ] as const).map(([heads, kvHeads, headDim, kv]): Case => ({
    heads,
    kvHeads,
    headDim,
    dtypes: ["f32", kv],
    keyRanges: { starts: [2, 150], ends: [140, 190] },
  })),
);
decodeTest(
  "neighbours, and a part of each head",
  [16, 40].flatMap((headDim) =>
    rotaries(headDim).flatMap((rotary): Case[] => [
      { heads: 4, kvHeads: 2, headDim, rotary, keyRanges: scattered, dtypes: ["f32", "f16"] },
      {
        heads: 4,
        kvHeads: 2,
        headDim,
        rotary,
        keyRanges: { starts: [3], ends: [40] },
        unstaged: true,
      },
    ])
  ),
);
decodeTest("the programs for software drivers", [
  { ...small, keyRanges: { starts: [700, 0, 300], ends: [1029, 257, 301] }, unstaged: true },
  { ...small, keyRanges: { starts: [9], ends: [50] }, unstaged: true, dtypes: ["f32", "f16"] },
]);

Deno.test("attention of single queries: as many splits as its workspace has room for", () => {
  for (const longest of [1, 511, 512, 513, 4096, 16_384, 16_385, 100_000]) {
    assert.equal(mostSplits(longest), Math.max(4, Math.min(64, Math.ceil(longest / 256))));
  }
});

Deno.test("attention of single queries: a tile has all of its keys, and a thread for each", () => {
  const same = {
    q: "f32",
    heads: 1,
    subgroup: 32,
    softcap: false,
    pairs: "halves",
  } as const;
  for (const kv of ["f32", "f16"] as const) {
    for (const headDim of [8, 16, 40, 64, 80, 96, 128, 256]) {
      for (const threads of [128, 256, 512]) {
        for (const keyLoads of [8, 16]) {
          const layout = decodeLayout({ ...same, kv, headDim, threads, keyLoads });
          const { wide, lanes, sharing, perKey, rounds, tile } = layout;
          assert.equal(lanes * wide, headDim);
          assert.equal(sharing * perKey, lanes);
          assert.ok(Number.isInteger(tile));
          assert.equal(tile * sharing, rounds * threads);
          assert.ok(rounds === 1 || rounds * perKey <= keyLoads);
        }
      }
    }
  }
});

Deno.test("attention of single queries: workgroups fit what a device grants", () => {
  const same = {
    q: "f32",
    keyLoads: 8,
    softcap: false,
    pairs: "halves",
    threads: 256,
  } as const;
  for (const [invocations, memory] of [[256, 16 << 10], [1024, 32 << 10], [1024, 48 << 10]]) {
    const limits = {
      maxComputeInvocationsPerWorkgroup: invocations,
      maxComputeWorkgroupStorageSize: memory,
    };
    for (const kv of ["f32", "f16"] as const) {
      for (const headDim of [8, 40, 64, 80, 128, 256]) {
        for (const heads of [1, 2, 3, 4]) {
          for (const subgroup of [0, 8, 32]) {
            const shape = { ...same, kv, headDim, heads, subgroup };
            const fitting = fittingShape(shape, limits);
            const what = `${heads} heads of ${headDim} in ${kv}: ${JSON.stringify(fitting)}`;
            assert.ok(fitting.threads <= invocations && fitting.threads >= headDim / 8, what);
            assert.equal(heads % fitting.heads, 0, what);
            assert.ok(decodeBytes(decodeLayout(fitting)) <= memory, what);
            // Where a GPU's memory allows it, nothing is given up.
            if (memory > 32 << 10 && [64, 128].includes(headDim) && subgroup === 32) {
              assert.deepEqual(fitting, shape, what);
            }
          }
        }
      }
    }
  }
});
