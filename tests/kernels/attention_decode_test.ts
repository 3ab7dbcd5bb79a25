import { attentionDecode, mostSplits } from "../../kernels/attention_decode.ts";
import type { Dtype } from "../../kernels/tensor.ts";
import { attentionReference, type Ranges, type Shape } from "./attention_reference.ts";
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

interface Case extends Shape {
  ranges: Ranges;
  dtypes?: [q: Dtype, kv: Dtype];
  direct?: boolean;
}

function decodeTest(name: string, cases: readonly Case[]): void {
  gpuTest(`attention of single queries: ${name}`, async (gpu) => {
    for (const { ranges, dtypes: given, direct = false, ...shape } of cases) {
      const dtypes = given ?? ["f32", "f32"] as const;
      const { heads, kvHeads, headDim } = shape, rows = ranges.starts.length;
      const lengths = ranges.ends.map((end, i) => end - ranges.starts[i]);
      const longest = Math.max(...lengths), keys = Math.max(...ranges.ends);
      const q = quantize(randomArray(rows * heads * headDim, 1), dtypes[0]);
      const make = (seed: number) =>
        quantize(randomArray(keys * kvHeads * headDim, seed), dtypes[1]);
      const [k, v] = [make(2), make(3)];
      // Rows that no query sees hold NaN.
      for (let j = 0; j < keys; j++) {
        if (ranges.starts.some((start, i) => start <= j && j < ranges.ends[i])) continue;
        for (const x of [k, v]) x.fill(NaN, j * kvHeads * headDim, (j + 1) * kvHeads * headDim);
      }
      const ranged = rows * mostSplits(longest) * heads;
      const out = poisoned(gpu, dtypes[0], [rows, heads * headDim]);
      attentionDecode(gpu, {
        q: upload(gpu, q, dtypes[0], [rows, heads * headDim]),
        k: upload(gpu, k, dtypes[1], [keys, kvHeads * headDim]),
        v: upload(gpu, v, dtypes[1], [keys, kvHeads * headDim]),
        starts: upload(gpu, ranges.starts, "u32", [rows]),
        ends: upload(gpu, ranges.ends, "u32", [rows]),
        out,
        workspace: {
          sums: poisoned(gpu, "f32", [ranged * headDim]),
          tops: poisoned(gpu, "f32", [ranged * 2]),
        },
        ...{ rows, longest, direct, ...shape },
      });
      const what = `${heads}/${kvHeads}×${headDim}, ${lengths} keys, ${dtypes}, ${direct}`;
      const expected = attentionReference(q, k, v, ranges, shape).out;
      assertClose(await download(gpu, out), expected, { ...tolerance(dtypes[0]), what });
    }
  });
}

const small = { heads: 4, kvHeads: 2, headDim: 8 };
/** Sequences in no order, with gaps between them, one of them empty. */
const scattered: Ranges = { starts: [700, 0, 300, 5], ends: [1029, 257, 300, 6] };

decodeTest("every length around a tile and a split", [
  ...[1, 31, 127, 128, 129, 257].map((n) => ({ ...small, ranges: { starts: [0], ends: [n] } })),
  { ...small, ranges: { starts: [3], ends: [8200] } },
]);
decodeTest("sequences anywhere in the cache, one without keys", [
  { ...small, ranges: scattered },
  { ...small, ranges: scattered, dtypes: ["f16", "f16"] },
  { ...small, ranges: scattered, dtypes: ["f32", "f16"] },
  { ...small, ranges: scattered, dtypes: ["f16", "f32"] },
]);
decodeTest(
  "head sizes and groups",
  [
    [1, 1, 128],
    [3, 1, 40],
    [8, 1, 64],
    [9, 3, 16],
    [16, 1, 8],
    [7, 7, 80],
    [2, 2, 256],
  ].map(([heads, kvHeads, headDim]) => ({
    ...{ heads, kvHeads, headDim },
    ranges: { starts: [2, 150], ends: [140, 190] },
  })),
);
decodeTest("the program for software drivers", [
  { ...small, ranges: { starts: [700, 0, 5], ends: [1029, 257, 6] }, direct: true },
  { ...small, ranges: { starts: [9], ends: [50] }, direct: true, dtypes: ["f32", "f16"] },
]);
