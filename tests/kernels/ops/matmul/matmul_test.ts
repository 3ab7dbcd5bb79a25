import assert from "node:assert/strict";
import { type Gpu, openGpu } from "../../../../kernels/gpu/gpu.ts";
import { matmul, matmulSplitK, type Orientation } from "../../../../kernels/ops/matmul/matmul.ts";
import {
  allTiles,
  type MatmulGeometry,
  matmulGeometry,
  SPLIT_BYTES,
  splitK,
  splitKBytes,
  type Tile,
  tiledMemory,
  workgroupThreads,
} from "../../../../kernels/ops/matmul/tiled_geometry.ts";
import { F16_RANGE } from "../../../../kernels/ops/matmul/tiled_staging.ts";
import type { Float } from "../../../../kernels/ops/numerics.ts";
import { weightKind } from "../../../../kernels/ops/weights/kinds.ts";
import type { Dtype, Tensor } from "../../../../kernels/gpu/tensor.ts";
import { withHardwarePrograms } from "../../hardware_programs.ts";
import {
  assertClose,
  AWKWARD,
  AWKWARD4,
  download,
  gpuTest,
  poisoned,
  quantize,
  randomArray,
  tolerance,
  upload,
} from "../../harness.ts";

/** op(A)·op(B) in float64. */
function reference(
  orientation: Orientation,
  a: Float64Array,
  b: Float64Array,
  [m, n, k]: readonly [number, number, number],
) {
  const c = new Float64Array(m * n);
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      let sum = 0;
      for (let l = 0; l < k; l++) {
        const x = orientation === "tn" ? a[l * m + i] : a[i * k + l];
        const y = orientation === "nt" ? b[j * k + l] : b[l * n + j];
        sum += x * y;
      }
      c[i * n + j] = sum;
    }
  }
  return c;
}

/** Shapes of A and B for a product [m, n] of depth k. */
function shapes(orientation: Orientation, m: number, n: number, k: number) {
  return {
    a: orientation === "tn" ? [k, m] : [m, k],
    b: orientation === "nt" ? [n, k] : [k, n],
  };
}

/** Awkward [m, n, k] whose last dimensions are multiples of 4. */
function sizes(orientation: Orientation): [number, number, number][] {
  const pick = (i: number) => AWKWARD4[i % AWKWARD4.length];
  return AWKWARD.map((free, i) =>
    orientation === "tn" ? [pick(i), pick(i + 2), free] : [free, pick(i + 1), pick(i + 3)]
  );
}

for (const orientation of ["nt", "nn", "tn"] as Orientation[]) {
  for (const dtype of ["f32", "f16"] as Dtype[]) {
    gpuTest(`matmul ${orientation} agrees with the reference (${dtype})`, async (gpu) => {
      for (const [m, n, k] of sizes(orientation)) {
        const a = quantize(randomArray(m * k, m), dtype),
          b = quantize(randomArray(n * k, n), dtype);
        const shape = shapes(orientation, m, n, k);
        const A = upload(gpu, a, dtype, shape.a), B = upload(gpu, b, dtype, shape.b);
        const expected = reference(orientation, a, b, [m, n, k]);
        const rows = orientation === "tn" ? k : m;
        const C = poisoned(gpu, dtype, [m, n]);
        matmul(gpu, { orientation, a: A, b: B, c: C, rows, alpha: 0.5 });
        const limits = { ...tolerance(dtype), what: `${m}×${n}×${k}` };
        if (dtype === "f16") limits.atol = 2e-2;
        assertClose(await download(gpu, C), expected.map((v) => v * 0.5), limits);

        const before = quantize(randomArray(m * n, 5), "f32");
        const sum = upload(gpu, before, "f32", [m, n]);
        matmul(gpu, { orientation, a: A, b: B, c: sum, rows, accumulate: true });
        const added = expected.map((v, i) => v + before[i]);
        assertClose(await download(gpu, sum), added, { atol: 1e-4, rtol: 1e-4 });
      }
    });
  }

  gpuTest(`matmul ${orientation}: split sums, every tile, mixed dtypes`, async (gpu) => {
    for (const [a, b] of [["f32", "f16"], ["f16", "f16"], ["f16", "f32"]] as [Dtype, Dtype][]) {
      const [m, n, k] = orientation === "tn" ? [36, 68, 301] : [67, 36, 300];
      const { A, B, expected } = operands(gpu, orientation, [m, n, k], [a, b]);
      const rows = orientation === "tn" ? k : m;
      for (const { operands, ...tile } of tiles(gpu, orientation)) {
        if (orientation === "tn" && tile.threadM < 4) continue;
        // Products in f32 load each operand by itself, and either dtype of each in the other two cases.
        if (operands === "f32" && a === b) continue;
        for (const splits of tile.unstaged ? [1] : [1, 3]) {
          const C = poisoned(gpu, "f32", [m, n]);
          const geometry = { ...tile, splits };
          matmul(gpu, { orientation, a: A, b: B, c: C, rows, operands, geometry });
          const what = `${a} ${b} ${operands} ${JSON.stringify(geometry)}`;
          const sums = await download(gpu, C);
          if (operands === "f16") assertF16(sums, expected, what);
          else assertClose(sums, expected, { atol: 1e-4, rtol: 1e-4, what });
        }
      }
    }
  });
}

/** Operands with random values, and op(A)·op(B). */
function operands(
  gpu: Gpu,
  orientation: Orientation,
  [m, n, k]: readonly [number, number, number],
  [a, b]: readonly [Dtype, Dtype],
) {
  const [x, y] = [quantize(randomArray(m * k, 1), a), quantize(randomArray(n * k, 2), b)];
  const shape = shapes(orientation, m, n, k);
  const [A, B] = [upload(gpu, x, a, shape.a), upload(gpu, y, b, shape.b)];
  return { A, B, expected: reference(orientation, x, y, [m, n, k]) };
}

/** Every tile that this adapter can try, with the arithmetic it is for. */
function tiles(gpu: Gpu, orientation: Orientation): (Tile & { operands: Float })[] {
  // A software driver compiles the large tiles for seconds; the small ones of them stand for all.
  const some = ({ blockM, blockN }: Tile) => !gpu.software || blockM * blockN <= 2048;
  const memory = gpu.device.limits.maxComputeWorkgroupStorageSize;
  const list = (operands: Float) =>
    [
      ...allTiles({ software: false, operands, orientation, memory }).filter(some),
      ...orientation === "tn" ? [] : [uneven(operands === "f16" ? 7 : 5)],
    ]
      .map((tile) => ({ ...tile, operands }));
  return [
    ...allTiles({ software: true }).map((tile) => ({ ...tile, operands: "f32" as const })),
    ...list("f32"),
    ...(gpu.extensions.has("f16") ? list("f16") : []),
  ];
}

/**
 * Rounding to f16 has a relative error of 2⁻¹¹·0.4 in the root mean square, and a sum of L random numbers
 * made one by one √((L + 1)/2) times as much.
 */
function assertF16(actual: Float64Array, expected: Float64Array, what: string): void {
  let error = 0, size = 0;
  expected.forEach((v, i) => [error, size] = [error + (actual[i] - v) ** 2, size + v * v]);
  const most = 2 ** -11 * 0.4 * Math.sqrt((F16_RANGE + 1) / 2), relative = Math.sqrt(error / size);
  assert.ok(relative < 1.5 * most, `${what}: relative error ${relative}`);
  assert.ok(relative > 0.2 * most, `${what}: relative error ${relative}, sums are not f16`);
  assertClose(actual, expected, { atol: 0.05, rtol: 0, what });
}

/** A small tile whose threads' rows are no whole words. */
const uneven = (threadM: number): Tile => {
  return { blockM: 4 * threadM, blockN: 16, blockK: 8, threadM, threadN: 8 };
};

/** Tiles that a software driver compiles quickly. */
const SMALL = allTiles({ software: false }).find(({ blockM }) => blockM === 16)!;

gpuTest("matmul takes columns of wider tensors", async (gpu) => {
  const [m, n, k] = [36, 44, 52], [before, after] = [12, 4];
  const geometry: MatmulGeometry = { ...SMALL, splits: 2 };
  /** A tensor of columns [NaN | values | NaN]. */
  const wide = (values: Float64Array, rows: number) => {
    const width = values.length / rows, all = before + width + after;
    const padded = new Float64Array(rows * all).fill(NaN);
    for (let i = 0; i < rows; i++) {
      padded.set(values.subarray(i * width, (i + 1) * width), i * all + before);
    }
    return padded;
  };
  const check = async (c: Tensor, expected: Float64Array, what: string) =>
    assertClose(await download(gpu, c), wide(expected, m), { atol: 1e-4, rtol: 1e-4, what });
  for (const orientation of ["nt", "nn"] as const) {
    const a = quantize(randomArray(m * k, 1), "f32"), b = quantize(randomArray(n * k, 2), "f32");
    const A = upload(gpu, wide(a, m), "f32", [m, before + k + after]);
    const B = upload(gpu, b, "f32", shapes(orientation, m, n, k).b);
    const expected = reference(orientation, a, b, [m, n, k]);
    for (const tiles of [undefined, geometry]) {
      const C = poisoned(gpu, "f32", [m, before + n + after]);
      const places = { aFrom: before, cFrom: before, geometry: tiles };
      matmul(gpu, { orientation, a: A, b: B, c: C, rows: m, ...places });
      await check(C, expected, `${orientation} ${JSON.stringify(tiles)}`);
    }
  }
  const dy = quantize(randomArray(k * m, 1), "f32"), x = quantize(randomArray(k * n, 2), "f32");
  const DY = upload(gpu, wide(dy, k), "f32", [k, before + m + after]);
  const X = upload(gpu, x, "f32", [k, n]), G = poisoned(gpu, "f32", [m, n]);
  matmul(gpu, { orientation: "tn", a: DY, b: X, c: G, rows: k, aFrom: before });
  const expected = reference("tn", dy, x, [m, n, k]);
  assertClose(await download(gpu, G), expected, { atol: 1e-4, rtol: 1e-4 });
});

gpuTest("matmul with a few rows takes columns of wider tensors", async (test) => {
  await withHardwarePrograms(test, async (gpu) => {
    const [m, n, k] = [3, 44, 52];
    const a = quantize(randomArray(m * 2 * k, 1), "f16"),
      b = quantize(randomArray(n * k, 2), "f16");
    const A = upload(gpu, a, "f16", [m, 2 * k]), B = upload(gpu, b, "f16", [n, k]);
    const C = poisoned(gpu, "f32", [m, 3 * n]);
    matmul(gpu, { orientation: "nt", a: A, b: B, c: C, rows: m, aFrom: k, cFrom: n });
    const right = Float64Array.from({ length: m * k }, (_, i) => {
      return a[Math.floor(i / k) * 2 * k + k + i % k];
    });
    const product = reference("nt", right, b, [m, n, k]);
    const expected = Float64Array.from({ length: m * 3 * n }, (_, i) => {
      const [row, column] = [Math.floor(i / (3 * n)), i % (3 * n)];
      return column >= n && column < 2 * n ? product[row * n + column - n] : NaN;
    });
    assertClose(await download(gpu, C), expected, { atol: 1e-4, rtol: 1e-4 });
  });
});

/** The sums of partial results, after a look at their memory. */
async function added(gpu: Gpu, splitK: ReturnType<typeof matmulSplitK>): Promise<Float64Array> {
  const { tensor, splits, rows, width } = splitK, size = rows * width;
  // The memory is as large as any product may need: only what this one left is read.
  const all = await download(gpu, tensor.view([splits * size]));
  return Float64Array.from({ length: size }, (_, i) => {
    let sum = 0;
    for (let s = 0; s < splits; s++) sum += all[s * size + i];
    return sum;
  });
}

gpuTest("matmulSplitK leaves splits that add up to the product", async (test) => {
  const limits = { atol: 1e-4, rtol: 1e-4 };
  await withHardwarePrograms(test, async (gpu) => {
    for (const orientation of ["nt", "nn"] as const) {
      for (const [m, n, k] of [[5, 36, 1028], [33, 68, 1300]] as const) {
        const { A, B, expected } = operands(gpu, orientation, [m, n, k], ["f32", "f16"]);
        const half = expected.map((v) => v * 0.5);
        const product = { orientation, a: A, b: B, rows: m, alpha: 0.5 };
        const splitK = matmulSplitK(gpu, { ...product, extraSplits: 1 });
        assert.ok((splitK.splits + 1) * m * n * 4 <= splitK.tensor.bytes);
        assert.deepEqual([splitK.rows, splitK.width], [m, n]);
        assertClose(await added(gpu, splitK), half, { ...limits, what: `${orientation} ${m}` });
        const geometry: MatmulGeometry = { ...SMALL, splits: 3 };
        const threeSplits = matmulSplitK(gpu, { ...product, geometry });
        assert.equal(threeSplits.splits, 3);
        assertClose(await added(gpu, threeSplits), half, limits);
      }
    }
  });
});

gpuTest("matmul splits a weight that exceeds the binding limit", async () => {
  const [m, k, height] = [9, 28, 260];
  // The largest activation can be bound, the weight [260, 28] can't.
  const gpu = await openGpu({ maxBinding: m * height * 4 });
  const a = quantize(randomArray(m * k, 1), "f32"), w = quantize(randomArray(height * k, 2), "f32");
  const d = quantize(randomArray(m * height, 3), "f32");
  const A = upload(gpu, a, "f32", [m, k]), W = upload(gpu, w, "f32", [height, k]);
  const D = upload(gpu, d, "f32", [m, height]);
  assert.ok(W.bytes > gpu.maxBinding && D.bytes <= gpu.maxBinding);
  const limits = { atol: 1e-4, rtol: 1e-4 };
  const C = poisoned(gpu, "f32", [m, height]);
  matmul(gpu, { orientation: "nt", a: A, b: W, c: C, rows: m });
  assertClose(await download(gpu, C), reference("nt", a, w, [m, height, k]), limits);
  const X = poisoned(gpu, "f32", [m, k]);
  matmul(gpu, { orientation: "nn", a: D, b: W, c: X, rows: m });
  assertClose(await download(gpu, X), reference("nn", d, w, [m, k, height]), limits);
  const G = poisoned(gpu, "f32", [height, k]);
  matmul(gpu, { orientation: "tn", a: D, b: A, c: G, rows: m });
  assertClose(await download(gpu, G), reference("tn", d, a, [height, k, m]), limits);
  assertClose(
    await added(gpu, matmulSplitK(gpu, { orientation: "nt", a: A, b: W, rows: m })),
    reference("nt", a, w, [m, height, k]),
    limits,
  );
  for (const splits of [1, 3]) {
    const geometry = { ...SMALL, splits };
    const dx = matmulSplitK(gpu, { orientation: "nn", a: D, b: W, rows: m, geometry });
    assertClose(await added(gpu, dx), reference("nn", d, w, [m, k, height]), limits);
  }
  gpu.close();
});

Deno.test("matmul tiles fit the adapter's workgroup memory: 32 KiB unless it says more", () => {
  for (
    const target of [{ software: true }, { software: false }, {
      software: false,
      operands: "f16" as const,
    }]
  ) {
    const { operands = "f32" } = target;
    for (const memory of [undefined, 32768, 49152]) {
      const tiles = allTiles({ ...target, memory });
      assert.ok(tiles.length >= 3);
      for (const tile of tiles) {
        assert.ok(tiledMemory(tile, operands) <= (memory ?? 32768));
        assert.ok(workgroupThreads(tile) <= 256);
      }
    }
    // Of memory that a tile fills, tables of codes leave too little for it.
    for (const tile of target.software ? [] : allTiles(target)) {
      const memory = tiledMemory(tile, operands), tables = weightKind("nf4").sharedBytes;
      assert.ok(allTiles({ ...target, memory }).includes(tile) && tables > 0);
      assert.ok(!allTiles({ ...target, memory, tables }).includes(tile));
      assert.ok(allTiles({ ...target, memory: memory + tables, tables }).includes(tile));
    }
  }
  const depth = (memory: number) =>
    matmulGeometry(4096, 4096, 4096, { software: false, memory }).blockK;
  assert.deepEqual([32768, 49152].map(depth), [16, 32]);
});

Deno.test("matmul cuts K where tiles are few, as far as working memory allows", () => {
  for (const target of [{ software: false }, { software: false, operands: "f16" as const }]) {
    for (const [m, n] of [[9, 16], [121, 4096], [512, 32000]]) {
      for (const maxSplits of [1, 3, 8]) {
        const { splits } = matmulGeometry(m, n, 4096, { ...target, maxSplits });
        assert.ok(splits >= 1 && splits <= maxSplits);
      }
      const { splits } = matmulGeometry(m, n, 4096, target);
      assert.ok(splits === 1 || splits * m * n * 4 <= SPLIT_BYTES);
    }
    assert.ok(matmulGeometry(121, 16, 4096, target).splits > 4);
    assert.equal(matmulGeometry(4096, 4096, 4096, target).splits, 1);
  }
  const few = matmulGeometry(121, 16, 4096, { software: true });
  assert.deepEqual(splitK(4096, { ...few, splits: 3 }), { perSplit: 4096, splits: 1 });
  const staged = { ...SMALL, blockK: 32, splits: 3 };
  assert.deepEqual(splitK(4096, staged), { perSplit: 1376, splits: 3 });
  assert.deepEqual(splitK(70, { ...staged, splits: 9 }), { perSplit: 32, splits: 3 });
  assert.equal(splitKBytes(4096, 4096, 1), 2 * 4096 * 4096 * 4);
});
