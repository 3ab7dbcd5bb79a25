import assert from "node:assert/strict";
import { rope, ropeTable } from "../../kernels/rope.ts";
import { ropeAppend } from "../../kernels/rope_append.ts";
import { AWKWARD, download, gpuTest, quantize, randomArray, upload } from "./harness.ts";

/** More rows than are appended; the others must stay. */
const CAPACITY = 600;

const DTYPES = [
  ["f32", "f32", "f32"],
  ["f16", "f16", "f16"],
  ["f32", "f32", "f16"],
  ["f32", "f16", "f16"],
  ["f32", "f16", "f32"],
] as const;

for (const [dtype, kv, cache] of DTYPES) {
  gpuTest(
    `queries and keys are turned, keys and values cached (${dtype}, ${kv}, ${cache})`,
    async (gpu) => {
      const headDim = 24, heads = 6, kvHeads = 2, positions = 40;
      const table = upload(
        gpu,
        ropeTable({ headDim, theta: 10000, positions, trainedPositions: positions, scaling: null }),
        "f32",
        [positions, headDim],
      );
      for (const rows of AWKWARD) {
        const make = (h: number, seed: number) => {
          const values = quantize(randomArray(rows * h * headDim, seed), dtype);
          return { values, tensor: upload(gpu, values, dtype, [rows, h * headDim]) };
        };
        const cached = (seed: number) => {
          const values = quantize(randomArray(CAPACITY * kvHeads * headDim, seed), cache);
          return { values, tensor: upload(gpu, values, cache, [CAPACITY, kvHeads * headDim]) };
        };
        const [q, k, v, K, V] = [
          make(heads, 1),
          make(kvHeads, 2),
          make(kvHeads, 3),
          cached(4),
          cached(5),
        ];
        const [turnedQ, turnedK] = [make(heads, 1).tensor, make(kvHeads, 2).tensor];
        const at = upload(gpu, Array.from({ length: rows }, (_, t) => (7 * t) % positions), "u32", [
          rows,
        ]);
        // Every other row, from the end on.
        const index = Array.from({ length: rows }, (_, t) => CAPACITY - 1 - 2 * t);
        ropeAppend(gpu, {
          ...{ q: q.tensor, k: k.tensor, v: v.tensor, cachedK: K.tensor, cachedV: V.tensor, table },
          ...{
            positions: at,
            index: upload(gpu, index, "u32", [rows]),
            rows,
            heads,
            kvHeads,
            headDim,
          },
        });
        for (const [x, h] of [[turnedQ, heads], [turnedK, kvHeads]] as const) {
          rope(gpu, { x, table, positions: at, rows, heads: h, headDim, inverse: false });
        }
        const same = async (actual: typeof q.tensor, expected: ArrayLike<number>, what: string) => {
          const values = await download(gpu, actual);
          assert.equal(
            values.findIndex((value, i) => value !== expected[i]),
            -1,
            `${what}, ${rows} rows`,
          );
        };
        await same(q.tensor, await download(gpu, turnedQ), "q");
        const keys = await download(gpu, turnedK);
        await same(k.tensor, keys, "k");
        const width = kvHeads * headDim;
        // The cache holds what k holds, rounded to its type.
        for (let t = 0; t < rows; t++) {
          K.values.set(
            quantize(keys.subarray(t * width, (t + 1) * width), cache),
            index[t] * width,
          );
          V.values.set(
            quantize(v.values.subarray(t * width, (t + 1) * width), cache),
            index[t] * width,
          );
        }
        await same(K.tensor, K.values, "cached k");
        await same(V.tensor, V.values, "cached v");
      }
    },
  );
}
