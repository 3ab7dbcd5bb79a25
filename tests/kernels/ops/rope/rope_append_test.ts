import assert from "node:assert/strict";
import { ropeTable, tableWidth } from "../../../../kernels/ops/rope/frequencies.ts";
import { fuses, rope } from "../../../../kernels/ops/rope/rope.ts";
import { rotaries, rotaryName } from "./rotaries.ts";
import { ropeAppend } from "../../../../kernels/ops/rope/rope_append.ts";
import type { Dtype } from "../../../../kernels/gpu/tensor.ts";
import { AWKWARD, download, gpuTest, quantize, randomArray, upload } from "../../harness.ts";

/** More rows than are appended; the others must stay. */
const CAPACITY = 600;

const DTYPES = [["f32", "f32"], ["f16", "f16"], ["f32", "f16"], ["f16", "f32"]] as const;

/** The columns `from` to `from + count` of rows `width` long. */
const columns = (x: Float64Array, width: number, from: number, count: number) =>
  x.filter((_, i) => i % width >= from && i % width < from + count);

/** The two agree in every bit. */
function assertSame(actual: Float64Array, expected: Float64Array, what: string): void {
  assert.equal(actual.length, expected.length, what);
  assert.equal(actual.findIndex((value, i) => value !== expected[i]), -1, what);
}

for (const [dtype, cache] of DTYPES) {
  gpuTest(
    `queries and keys are rotated, keys and values cached (${dtype}, ${cache})`,
    async (gpu) => {
      const headDim = 24, heads = 6, kvHeads = 2, positions = 40;
      for (const rotary of rotaries(headDim)) {
        const [own, shared] = [heads * headDim, kvHeads * headDim], width = own + 2 * shared;
        const table = upload(
          gpu,
          ropeTable({ headDim, rotary, theta: 10000, positions }),
          "f32",
          [positions, tableWidth(rotary, headDim)],
        );
        for (const rows of AWKWARD) {
          const values = quantize(randomArray(rows * width, 1), dtype);
          const qkv = upload(gpu, values, dtype, [rows, width]);
          const cached = (seed: number) => {
            const values = quantize(randomArray(CAPACITY * shared, seed), cache);
            return { values, tensor: upload(gpu, values, cache, [CAPACITY, shared]) };
          };
          const [K, V] = [cached(4), cached(5)];
          const at = upload(
            gpu,
            Array.from({ length: rows }, (_, t) => (7 * t) % positions),
            "u32",
            [
              rows,
            ],
          );
          const rotation = { rotary, table, positions: at };
          // Every other row, from the end on.
          const index = Array.from({ length: rows }, (_, t) => CAPACITY - 1 - 2 * t);
          ropeAppend(gpu, {
            qkv,
            cachedK: K.tensor,
            cachedV: V.tensor,
            rotation,
            index: upload(gpu, index, "u32", [rows]),
            rows,
            heads,
            kvHeads,
            headDim,
          });
          const what = `${rows} rows, ${rotaryName(rotary)}`;
          // Turned on their own, in the dtype that each ends in.
          const rotated = async (from: number, count: number, to: Dtype) => {
            const part = columns(values, width, from, count * headDim);
            const x = upload(gpu, part, "f32", [rows, count * headDim]);
            rope(gpu, { x, rotation, rows, heads: count, headDim });
            return quantize(await download(gpu, x), to);
          };
          const after = await download(gpu, qkv);
          assertSame(columns(after, width, 0, own), await rotated(0, heads, dtype), `q, ${what}`);
          // The keys of qkv are rotated where that is a launch of its own.
          const from = fuses({ rotary }, headDim) ? own : own + shared;
          const rest = columns(values, width, from, width - from);
          assertSame(
            columns(after, width, from, width - from),
            rest,
            `k and v as they were, ${what}`,
          );
          // Those were rounded to the dtype of qkv before they went to the cache.
          const keys = fuses({ rotary }, headDim)
            ? await rotated(own, kvHeads, cache)
            : quantize(await rotated(own, kvHeads, dtype), cache);
          const v = quantize(columns(values, width, own + shared, shared), cache);
          for (let t = 0; t < rows; t++) {
            const row = [t * shared, (t + 1) * shared] as const, to = index[t] * shared;
            K.values.set(keys.subarray(...row), to);
            V.values.set(v.subarray(...row), to);
          }
          assertSame(await download(gpu, K.tensor), K.values, `cached k, ${what}`);
          assertSame(await download(gpu, V.tensor), V.values, `cached v, ${what}`);
        }
      }
    },
  );
}
