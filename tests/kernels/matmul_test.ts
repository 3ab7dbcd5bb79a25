import assert from "node:assert/strict";
import { openGpu } from "../../kernels/gpu.ts";
import { matmul, type Orientation } from "../../kernels/matmul.ts";
import {
  allTiles,
  matmulGeometry,
  workgroupBytes,
  workgroupThreads,
} from "../../kernels/matmul_geometry.ts";
import type { Dtype } from "../../kernels/tensor.ts";
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
} from "./harness.ts";

/** op(A)·op(B) in float64 and, per element, the sum of magnitudes that rounding scales with. */
function reference(
  orientation: Orientation,
  a: Float64Array,
  b: Float64Array,
  m: number,
  n: number,
  k: number,
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
        const expected = reference(orientation, a, b, m, n, k);
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
    const [m, n, k] = orientation === "tn" ? [36, 68, 301] : [67, 36, 300];
    const a = quantize(randomArray(m * k, 1), "f32"), b = quantize(randomArray(n * k, 2), "f16");
    const shape = shapes(orientation, m, n, k);
    const A = upload(gpu, a, "f32", shape.a), B = upload(gpu, b, "f16", shape.b);
    const expected = reference(orientation, a, b, m, n, k);
    const rows = orientation === "tn" ? k : m;
    // A software driver compiles the large tiles for seconds; a small one of them stands for all.
    const hardware = allTiles({ software: false });
    const tiles = [
      ...allTiles({ software: true }),
      ...(gpu.software ? hardware.filter(({ blockM }) => blockM === 32) : hardware),
    ];
    for (const geometry of tiles) {
      if (orientation === "tn" && geometry.threadM < 4) continue;
      for (const splits of geometry.direct ? [1] : [1, 3]) {
        const C = poisoned(gpu, "f32", [m, n]);
        const all = { ...geometry, splits };
        matmul(gpu, { orientation, a: A, b: B, c: C, rows, geometry: all });
        assertClose(await download(gpu, C), expected, {
          atol: 1e-4,
          rtol: 1e-4,
          what: JSON.stringify(all),
        });
      }
    }
  });
}

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
  assertClose(await download(gpu, C), reference("nt", a, w, m, height, k), limits);
  const X = poisoned(gpu, "f32", [m, k]);
  matmul(gpu, { orientation: "nn", a: D, b: W, c: X, rows: m });
  assertClose(await download(gpu, X), reference("nn", d, w, m, k, height), limits);
  const G = poisoned(gpu, "f32", [height, k]);
  matmul(gpu, { orientation: "tn", a: D, b: A, c: G, rows: m });
  assertClose(await download(gpu, G), reference("tn", d, a, height, k, m), limits);
  gpu.close();
});

Deno.test("matmul tiles fit every adapter's workgroup memory", () => {
  for (const m of [1, 16, 70, 121, 512, 4096]) {
    for (const n of [16, 4096, 32000]) {
      for (const software of [true, false]) {
        const tile = matmulGeometry(m, n, 4096, { software });
        assert.ok(workgroupBytes(tile) <= 32768 && workgroupThreads(tile) <= 256);
        assert.ok(software ? tile.splits === 1 : tile.splits >= 1);
      }
    }
  }
  assert.equal(matmulGeometry(1, 4096, 4096, { software: false }).blockM, 16);
  assert.equal(matmulGeometry(4096, 4096, 4096, { software: false }).blockM, 128);
  assert.ok(matmulGeometry(121, 16, 4096, { software: false }).splits > 4);
});
