import assert from "node:assert/strict";
import type { Gpu } from "../../../../kernels/gpu/gpu.ts";
import { SPLIT_BYTES } from "../../../../kernels/ops/matmul/tiled_geometry.ts";
import type { Orientation } from "../../../../kernels/ops/matmul/orientation.ts";
import {
  subgroupFits,
  subgroupMatmul,
  subgroupMatmulSource,
  subgroupMemory,
} from "../../../../kernels/ops/matmul/subgroup.ts";
import {
  occupancyOf,
  subgroupGeometry,
  type SubgroupTile,
  subgroupTiles,
} from "../../../../kernels/ops/matmul/subgroup_geometry.ts";
import type { Dtype } from "../../../../kernels/gpu/tensor.ts";
import { assertClose, download, poisoned, quantize, randomArray, upload } from "../../harness.ts";
import { matrixTest } from "../../subgroup_matrices.ts";
import { workgroupBytes } from "../../workgroup_bytes.ts";

const ORIENTATIONS: Orientation[] = ["nt", "nn", "tn"];

/** A product whose A has columns before those that take part, all NaN, and whose C is wider too. */
interface Product {
  orientation: Orientation;
  tile: SubgroupTile;
  sizes: [m: number, n: number, k: number];
  dtypes: [a: Dtype, b: Dtype, c: Dtype];
  accumulate?: boolean;
  splits?: number;
}

const BEFORE = 8, ALPHA = 0.5;

/** Runs the product and compares with float64. */
async function check(gpu: Gpu, { orientation, tile, sizes, dtypes, ...rest }: Product) {
  const [m, n, k] = sizes, [aDtype, bDtype, cDtype] = dtypes;
  const { accumulate = false, splits = 1 } = rest;
  const { blockM, blockN, blockK } = tile;
  const [aRows, aWidth] = orientation === "tn" ? [k, m] : [m, k];
  const [bRows, bWidth] = orientation === "nt" ? [n, k] : [k, n];
  const aStride = BEFORE + aWidth, cStride = BEFORE + n;
  // Operands are rounded to f16, whatever they are stored in.
  const a = quantize(randomArray(aRows * aWidth, 1), "f16");
  const b = quantize(randomArray(bRows * bWidth, 2), "f16");
  const wide = new Float64Array(aRows * aStride).fill(NaN);
  for (let i = 0; i < a.length; i++) {
    wide[Math.floor(i / aWidth) * aStride + BEFORE + i % aWidth] = a[i];
  }
  const A = upload(gpu, wide, aDtype, [aRows, aStride]);
  const B = upload(gpu, b, bDtype, [bRows, bWidth]);
  const perSplit = Math.ceil(k / splits / blockK) * blockK, splitCount = Math.ceil(k / perSplit);
  const before = quantize(randomArray(m * cStride, 3), cDtype);
  const C = accumulate
    ? upload(gpu, before, cDtype, [m, cStride])
    : poisoned(gpu, cDtype, [splitCount * m, cStride]);
  gpu.run(
    subgroupMatmul({
      matrices: gpu.matrices!,
      orientation,
      a: aDtype,
      b: bDtype,
      c: cDtype,
      accumulate,
      ragged: k % blockK !== 0,
      sharedScales: false,
      ...tile,
    }),
    [A, B, C],
    {
      m,
      n,
      k,
      aOffset: BEFORE / 4,
      aStride: aStride / 4,
      bOffset: 0,
      bStride: bWidth / 4,
      cOffset: BEFORE / 4,
      cStride: cStride / 4,
      kPerSplit: perSplit,
      alpha: ALPHA,
    },
    [Math.ceil(m / blockM), Math.ceil(n / blockN), splitCount],
  );
  const actual = await download(gpu, C);
  const sums = new Float64Array(m * n), expected = new Float64Array(m * n);
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      let sum = 0;
      for (let l = 0; l < k; l++) {
        sum += (orientation === "tn" ? a[l * m + i] : a[i * k + l]) *
          (orientation === "nt" ? b[j * k + l] : b[l * n + j]);
      }
      const at = i * cStride + BEFORE + j;
      expected[i * n + j] = ALPHA * sum + (accumulate ? before[at] : 0);
      for (let s = 0; s < splitCount; s++) sums[i * n + j] += actual[s * m * cStride + at];
    }
    for (let j = 0; j < BEFORE; j++) {
      const kept = accumulate ? before[i * cStride + j] : NaN;
      assert.equal(actual[i * cStride + j], kept, `column ${j} of row ${i} is not C's`);
    }
  }
  const limits = cDtype === "f16" ? { atol: 1e-3, rtol: 1e-3 } : { atol: 1e-4, rtol: 1e-4 };
  const what = `${orientation} ${sizes} ${dtypes} of ${Object.values(tile)}`;
  assertClose(sums, expected, { ...limits, what });
}

/**
 * Tiles for matrices of a software driver: of several matrices a subgroup, and of two tiles in registers. Larger ones take
 * long to compile.
 */
const SOFTWARE_TILES: SubgroupTile[] = [
  { blockM: 32, blockN: 64, blockK: 32, subgroupsM: 2, subgroupsN: 4 },
  { blockM: 16, blockN: 16, blockK: 64, subgroupsM: 2, subgroupsN: 2 },
];

for (const orientation of ORIENTATIONS) {
  matrixTest(`tensor cores ${orientation} agree with the reference`, async (gpu) => {
    const tn = orientation === "tn", nt = orientation === "nt";
    const tensorCores = gpu.matrices === "tensor_cores";
    for (const tile of tensorCores ? subgroupTiles(orientation) : SOFTWARE_TILES) {
      const of = (sizes: [number, number, number], dtypes: [Dtype, Dtype, Dtype], more = {}) =>
        check(gpu, { orientation, tile, sizes, dtypes, ...more });
      // One beyond a tile, K within a tile; the least; K over several tiles; splits of K.
      await of(tn ? [136, 264, 33] : [129, nt ? 132 : 136, 72], ["f16", "f16", "f32"]);
      await of(tn ? [8, 8, 1] : [1, nt ? 4 : 8, 8], ["f16", "f16", "f16"]);
      await of(tn ? [40, 24, 127] : [7, nt ? 28 : 40, 200], ["f32", "f16", "f32"]);
      await of(tn ? [264, 40, 31] : [257, 136, 128], ["f16", "f16", "f16"], { accumulate: true });
      await of(tn ? [40, 136, 257] : [33, 136, 224], ["f16", "f16", "f32"], { splits: 3 });
      if (tn) await of([24, 40, 129], ["f32", "f32", "f32"], { accumulate: true });
    }
  });
}

Deno.test("tensor cores: every tile fits 48 KiB and is shared evenly", () => {
  for (const orientation of ORIENTATIONS) {
    for (const tile of subgroupTiles(orientation)) {
      for (const [b, sharedScales] of [["f16", false], ["nf4", false], ["nf4", true]] as const) {
        const bytes = subgroupMemory({ orientation, b }, tile);
        const kind = {
          orientation,
          a: "f16",
          b,
          c: "f16",
          accumulate: true,
          ragged: true,
          sharedScales,
        } as const;
        const { body } = subgroupMatmulSource(kind, tile);
        assert.equal(workgroupBytes(body), bytes);
        assert.ok(bytes <= 48 << 10, JSON.stringify(tile));
      }
      for (const dtype of ["f16", "f32"] as Dtype[]) {
        const kind = {
          orientation,
          a: dtype,
          b: dtype,
          c: dtype,
          accumulate: true,
          ragged: true,
          sharedScales: false,
        };
        subgroupMatmulSource(kind, tile);
      }
      const odd = { ...tile, blockM: tile.blockM + 8 };
      const kind = { orientation, a: "f16", b: "f16", c: "f16" } as const;
      assert.throws(
        () =>
          subgroupMatmulSource(
            { ...kind, accumulate: false, ragged: false, sharedScales: false },
            odd,
          ),
        /can't share/,
      );
    }
  }
});

/** Products of LLaMA-2 7B's weights, `[n, k]`. */
const WEIGHTS = [[12288, 4096], [4096, 4096], [22016, 4096], [4096, 11008]] as const;

/** Workgroups of a product, and the share of their results that lies within C. */
function workgroups(orientation: Orientation, m: number, n: number, k: number) {
  const { blockM, blockN, splits, ...tile } = subgroupGeometry(orientation, m, n, k);
  const tiles = Math.ceil(m / blockM) * Math.ceil(n / blockN);
  const occupancy = occupancyOf(tile);
  return { blockM, occupancy, count: tiles * splits, whole: m * n / (tiles * blockM * blockN) };
}

Deno.test("tensor cores: tiles of few rows overhang little, and K is split to fill the GPU", () => {
  for (const orientation of ["nt", "nn"] as const) {
    for (const [n, k] of WEIGHTS) {
      for (const m of [60, 96, 121, 150, 180]) {
        const { blockM, count, whole } = workgroups(orientation, m, n, k);
        assert.ok(
          whole >= 0.75,
          `${m} rows in tiles of ${blockM}: ${whole} of the results are C's`,
        );
        assert.ok(count >= 100, `${count} workgroups of ${m}×${n}×${k}`);
      }
    }
  }
});

Deno.test("tensor cores: with many rows a multiprocessor holds two workgroups, and K is whole", () => {
  for (const orientation of ORIENTATIONS) {
    for (const [m, n, k] of [[968, 4096, 12288], [4096, 4096, 4096]]) {
      const { occupancy, whole } = workgroups(orientation, m, n, k);
      assert.equal(occupancy, 2);
      assert.ok(whole > 0.9);
      assert.equal(subgroupGeometry(orientation, m, n, k).splits, 1);
    }
  }
});

Deno.test("tensor cores: K is split no more often than allowed", () => {
  for (const orientation of ORIENTATIONS) {
    for (const m of [8, 121, 968]) {
      for (const n of [64, 4096, 22016]) {
        for (const k of [8, 1000, 11008]) {
          const { splits } = subgroupGeometry(orientation, m, n, k);
          assert.ok(splits === 1 || splits * m * n * 4 <= SPLIT_BYTES && k / splits >= 512);
          for (const maxSplits of [0, 1, 3]) {
            const fewer = subgroupGeometry(orientation, m, n, k, { maxSplits }).splits;
            assert.ok(fewer >= 1 && fewer <= Math.max(1, maxSplits));
          }
        }
      }
    }
  }
});

Deno.test("tensor cores take sizes that are multiples of eight", () => {
  const sizes = { m: 7, n: 28, k: 64, aOffset: 0, aStride: 64, bStride: 64 };
  assert.ok(subgroupFits("nt", sizes));
  assert.ok(!subgroupFits("nt", { ...sizes, k: 60 }));
  assert.ok(!subgroupFits("nt", { ...sizes, aOffset: 4 }));
  assert.ok(!subgroupFits("nt", { ...sizes, aStride: 68 }));
  assert.ok(!subgroupFits("nn", sizes));
  assert.ok(subgroupFits("nn", { ...sizes, n: 32 }));
  assert.ok(!subgroupFits("tn", { ...sizes, n: 32 }));
  assert.ok(subgroupFits("tn", { ...sizes, m: 8, n: 32, k: 7 }));
});
