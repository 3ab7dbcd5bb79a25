import assert from "node:assert/strict";
import { matvec, MATVEC_ROWS, matvecSwiglu } from "../../../../kernels/ops/matvec/matvec.ts";
import { H100 } from "../../../../kernels/gpu/device_profile.ts";
import {
  type MatvecDevice,
  type MatvecGeometry,
  matvecLayout,
} from "../../../../kernels/ops/matvec/layout.ts";
import { matvecProgram } from "../../../../kernels/ops/matvec/program.ts";
import { weightKind } from "../../../../kernels/ops/weights/kinds.ts";
import type { Dtype } from "../../../../kernels/gpu/tensor.ts";
import { workgroupBytes } from "../../workgroup_bytes.ts";
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

/** A·Bᵀ in float64. */
function product(a: Float64Array, b: Float64Array, m: number, n: number, k: number): Float64Array {
  const c = new Float64Array(m * n);
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      for (let l = 0; l < k; l++) c[i * n + j] += a[i * k + l] * b[j * k + l];
    }
  }
  return c;
}

/** RMSNorm of the rows of a `[m, k]`, in float64. */
function normed(a: Float64Array, w: Float64Array, k: number, eps: number): Float64Array {
  const y = new Float64Array(a.length);
  for (let row = 0; row < a.length; row += k) {
    let squares = 0;
    for (let l = 0; l < k; l++) squares += a[row + l] ** 2;
    const scale = 1 / Math.sqrt(squares / k + eps);
    for (let l = 0; l < k; l++) y[row + l] = a[row + l] * scale * w[l];
  }
  return y;
}

const ACTIVATION = {
  silu: (g: number) => g / (1 + Math.exp(-g)),
  gelu_pytorch_tanh: (g: number) =>
    g / 2 * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (g + 0.044715 * g ** 3))),
};

/** [n, k]: shorter than a workgroup's threads, and not a whole number of its steps. */
const SIZES = [[4, 4], [28, 36], [132, 260], [4, 2052], [260, 1024]];
/** Ways to lay a product out: as the sizes ask for, and every other one. */
const GEOMETRIES: MatvecGeometry[] = [
  {},
  { subgroup: 0 },
  { steps: 8, outputs: 4 },
  { whole: false },
  { whole: false, subgroup: 0, threads: 64, outputs: 2, steps: 1 },
  // Several groups of columns a workgroup, not the same number for each.
  { grid: 1, ahead: true },
  { grid: 5, ahead: false, steps: 1, outputs: 4 },
  { grid: 4, ahead: true, subgroup: 0 },
];

gpuTest("matvec: of no rows there is nothing to do", async (gpu) => {
  const [a, b] = [[4, 36], [28, 36]].map((shape) => poisoned(gpu, "f32", shape));
  const c = poisoned(gpu, "f32", [4, 28]);
  const norm = { w: poisoned(gpu, "f32", [36]), offset: 0, eps: 0 } as const;
  const sizes = { n: 28, k: 36, aOffset: 0, aStride: 36, cOffset: 0, cStride: 28 };
  matvec(gpu, { a, b, c, m: 0, ...sizes, alpha: 1, accumulate: false, norm });
  assert.ok((await download(gpu, c)).every(Number.isNaN));
});

for (const dtype of ["f32", "f16"] as Dtype[]) {
  gpuTest(`matvec: one to ${MATVEC_ROWS} rows agree with the reference (${dtype})`, async (gpu) => {
    for (let m = 1; m <= MATVEC_ROWS; m++) {
      const ofRows = m === 1 || m === MATVEC_ROWS ? SIZES : SIZES.slice(1, 3);
      for (const [size, [n, k]] of ofRows.entries()) {
        const a = quantize(randomArray(m * k, m), dtype),
          b = quantize(randomArray(n * k, n), dtype);
        const A = upload(gpu, a, dtype, [m, k]), B = upload(gpu, b, dtype, [n, k]);
        const expected = product(a, b, m, n, k);
        const places = { aOffset: 0, aStride: k, cOffset: 0, cStride: n };
        const sizes = { a: A, b: B, m, n, k, ...places };
        const geometries = m === 1 || (m === 2 && k === 260) ? GEOMETRIES : [{}];
        for (const [way, geometry] of geometries.entries()) {
          const what = `${m}×${n}×${k} ${JSON.stringify(geometry)}`;
          // Results are stored at one size and added at the next: each way does both at some of them.
          if ((size + way) % 2 === 0) {
            const C = poisoned(gpu, dtype, [m, n]);
            matvec(gpu, { ...sizes, c: C, alpha: 0.5, accumulate: false, geometry });
            const limits = { ...tolerance(dtype), what };
            if (dtype === "f16") limits.atol = 2e-2;
            assertClose(await download(gpu, C), expected.map((v) => v * 0.5), limits);
          } else {
            const before = quantize(randomArray(m * n, 5), "f32");
            const sum = upload(gpu, before, "f32", [m, n]);
            matvec(gpu, { ...sizes, c: sum, alpha: 1, accumulate: true, geometry });
            const added = expected.map((v, i) => v + before[i]);
            assertClose(await download(gpu, sum), added, { atol: 2e-4, rtol: 1e-4, what });
          }
        }
      }
    }
  });

  gpuTest(`matvec: the norm of its rows, in whole and rounded (${dtype})`, async (gpu) => {
    const eps = 1e-5;
    for (const [n, k] of [[36, 132], [12, 1032]] as const) {
      for (const m of [1, 2, 3, 8]) {
        // Rows of very different size: each has its own norm.
        const a = quantize(randomArray(m * k, m).map((v, i) => v * 10 ** Math.floor(i / k)), "f32");
        const b = quantize(randomArray(n * k, n), dtype), w = quantize(randomArray(k, 7), dtype);
        const A = upload(gpu, a, "f32", [m, k]), B = upload(gpu, b, dtype, [n, k]);
        const W = upload(gpu, w, dtype, [k]);
        const exact = normed(a, w, k, eps);
        for (const operands of ["f32", "f16"] as const) {
          for (const [way, geometry] of (m === 1 ? GEOMETRIES : [{}]).entries()) {
            // The other ways to lay a product out have each kind of operands at one of the sizes.
            if (way > 0 && (operands === "f16") === (way % 2 === 0) === (k === 132)) continue;
            const C = poisoned(gpu, "f32", [m, n]);
            matvec(gpu, {
              a: A,
              b: B,
              c: C,
              m,
              n,
              k,
              alpha: 1,
              accumulate: false,
              geometry,
              aOffset: 0,
              aStride: k,
              cOffset: 0,
              cStride: n,
              norm: { w: W, offset: 0, eps },
              operands,
            });
            const expected = product(
              operands === "f16" ? quantize(exact, "f16") : exact,
              b,
              m,
              n,
              k,
            );
            // A value next to the middle of two halves may go to either.
            const atol = operands === "f16" ? 2e-3 : 1e-4;
            const what = `${m}×${n}×${k} ${operands} ${JSON.stringify(geometry)}`;
            assertClose(await download(gpu, C), expected, { atol, rtol: 1e-4, what });
          }
        }
      }
    }
  });

  gpuTest(`matvec: a gate and its projection in one (${dtype})`, async (gpu) => {
    const k = 132, n = 36, eps = 1e-6;
    const ways = [[false, 0, "silu"], [true, 0, "silu"], [true, 1, "gelu_pytorch_tanh"]] as const;
    for (const rows of [1, 2, 4, 8]) {
      for (const [withNorm, offset, activation] of ways) {
        const a = quantize(randomArray(rows * k, rows), dtype);
        const b = quantize(randomArray(2 * n * k, n, 0.3), dtype);
        const w = quantize(randomArray(k, 3), "f32");
        const c = poisoned(gpu, dtype, [rows, n]);
        const norm = withNorm ? { w: upload(gpu, w, "f32", [k]), offset, eps } : undefined;
        const A = upload(gpu, a, withNorm ? "f32" : dtype, [rows, k]);
        const B = upload(gpu, b, dtype, [2 * n, k]), geometry = rows === 1 ? { grid: 7 } : {};
        matvecSwiglu(gpu, { activation, a: A, b: B, c, rows, norm, geometry });
        const input = withNorm ? normed(a, w.map((v) => v + offset), k, eps) : a;
        const both = product(input, b, rows, 2 * n, k);
        const gate = columns(both, 2 * n, 0, n), up = columns(both, 2 * n, n, 2 * n);
        const f = ACTIVATION[activation], expected = gate.map((g, i) => f(g) * up[i]);
        const what = `${rows} rows, norm ${withNorm}, ${activation}`;
        const limits = { ...tolerance(dtype), what };
        if (dtype === "f16") limits.atol = 5e-3;
        assertClose(await download(gpu, c), expected, limits);
      }
    }
  });
}

gpuTest("matvec: strides and offsets, f16 weights with f32 rows", async (gpu) => {
  for (const [m, n, k, grid] of [[3, 12, 20], [2, 12, 24], [2, 12, 24, 4], [1, 12, 24, 5]]) {
    const aStride = 28, aOffset = 8, cStride = 32, cOffset = 16;
    const a = randomArray(aOffset + m * aStride, 1), b = quantize(randomArray(n * k, 2), "f16");
    const stored = quantize(a, "f32");
    const before = quantize(randomArray(m * cStride, 3), "f32");
    const C = upload(gpu, before, "f32", [m, cStride]);
    matvec(gpu, {
      a: upload(gpu, stored, "f32", [1, stored.length]),
      b: upload(gpu, b, "f16", [n, k]),
      c: C,
      m,
      n,
      k,
      aOffset,
      aStride,
      cOffset,
      cStride,
      alpha: 1,
      accumulate: false,
      geometry: { grid },
    });
    const rows = Float64Array.from(
      { length: m * k },
      (_, i) => stored[aOffset + Math.floor(i / k) * aStride + i % k],
    );
    const expected = before.slice();
    product(rows, b, m, n, k).forEach((v, i) => {
      expected[Math.floor(i / n) * cStride + cOffset + i % n] = v;
    });
    assertClose(await download(gpu, C), expected, tolerance("f32"));
  }
});

/** The columns `from` to `to` of rows that are `width` long. */
function columns(x: Float64Array, width: number, from: number, to: number): Float64Array {
  return x.filter((_, i) => i % width >= from && i % width < to);
}

gpuTest("matvec: a row that is attention's result as KV splits", async (gpu) => {
  for (const [heads, headDim, n, splits] of [[1, 8, 4, 1], [3, 40, 28, 4], [5, 72, 132, 3]]) {
    const k = heads * headDim;
    const sums = randomArray(splits * k, 1, 4), b = quantize(randomArray(n * k, 2), "f16");
    // Scores far apart, and a split without a key, as a kernel leaves it.
    const stats = Float64Array.from({ length: 2 * splits * heads }, (_, i) => {
      const empty = splits > 1 && Math.floor(i / 2 / heads) === i / 2 % heads % splits;
      if (empty) sums.fill(0, Math.floor(i / 2) * headDim, (Math.floor(i / 2) + 1) * headDim);
      return i % 2 === 0 ? (empty ? -3.4028234e38 : (i * 7 % 11) * 9 - 40) : empty ? 0 : 1 + i % 5;
    });
    const x = new Float64Array(k);
    for (let h = 0; h < heads; h++) {
      const places = Array.from({ length: splits }, (_, r) => r * heads + h);
      const maximum = Math.max(...places.map((at) => stats[2 * at]));
      const factors = places.map((at) => 2 ** (stats[2 * at] - maximum));
      const total = places.reduce((sum, at, r) => sum + factors[r] * stats[2 * at + 1], 0);
      for (let d = 0; d < headDim; d++) {
        x[h * headDim + d] = places.reduce(
          (sum, at, r) => sum + factors[r] * Math.fround(sums[at * headDim + d]) / total,
          0,
        );
      }
    }
    const a = {
      partialOut: upload(gpu, quantize(sums, "f32"), "f32", [sums.length]),
      softmaxStats: upload(gpu, quantize(stats, "f32"), "f32", [stats.length]),
      splits,
      headDim,
    };
    const before = quantize(randomArray(n, 3), "f32");
    for (const dtype of ["f16", "f32"] as const) {
      for (const operands of ["f32", "f16"] as const) {
        for (const geometry of [{}, { steps: 4, grid: 2 }, { subgroup: 0, grid: 3, ahead: true }]) {
          const c = upload(gpu, before, "f32", [1, n]), B = upload(gpu, b, dtype, [n, k]);
          matvec(gpu, {
            a,
            b: B,
            c,
            m: 1,
            n,
            k,
            alpha: 1,
            accumulate: true,
            operands,
            geometry,
            aOffset: 0,
            aStride: k,
            cOffset: 0,
            cStride: n,
          });
          const exact = product(operands === "f16" ? quantize(x, "f16") : x, b, 1, n, k);
          const what = `${heads}×${headDim}, ${splits} splits, ${dtype} ${
            JSON.stringify(geometry)
          }`;
          const atol = operands === "f16" ? 2e-3 : 1e-4;
          const expected = exact.map((v, i) => v + before[i]);
          assertClose(await download(gpu, c), expected, { atol, rtol: 1e-4, what });
        }
      }
    }
    const c = poisoned(gpu, "f32", [2, n]), B = upload(gpu, b, "f16", [n, k]);
    const two = { a, b: B, c, m: 2, n, k, aOffset: 0, aStride: k, cOffset: 0, cStride: n };
    assert.throws(
      () => matvec(gpu, { ...two, alpha: 1, accumulate: false }),
      /KV splits of 2 rows/,
    );
  }
});

/** Devices with subgroups of so many threads at least (0: without), and so large workgroups. */
function devices(): MatvecDevice[] {
  return [0, 8, 32].flatMap((subgroup) =>
    [256, 1024].map((workgroupThreads) => ({
      ...H100,
      subgroup,
      workgroupThreads,
      workgroupBytes: workgroupThreads === 256 ? 16 << 10 : 32 << 10,
    }))
  );
}

Deno.test("matvec: layouts cover K, and every result has a thread", () => {
  for (const device of devices()) {
    for (const m of [1, 2, 3, 8]) {
      for (const k of [4, 132, 2048, 4096, 11008, 13824, 28672]) {
        for (const n of [4, 4096, 12288, 32000]) {
          for (const kind of [{}, { swiglu: true }, ...(m === 1 ? [{ splitInput: true }] : [])]) {
            const layout = matvecLayout(device, { m, n, k, widths: [8, 4], ...kind });
            const { whole, threads, steps, outputs, wide, subgroup, grid } = layout;
            assert.equal(subgroup, device.subgroup);
            assert.equal(wide, k % 8 === 0 ? 8 : 4);
            assert.ok(threads <= device.workgroupThreads && n % outputs === 0);
            assert.ok(outputs * m <= threads);
            if (subgroup === 0) assert.equal(Math.log2(threads) % 1, 0);
            if (whole) assert.ok(threads * steps * wide >= k);
            assert.ok(grid === 0 || (whole && grid < n / outputs));
          }
        }
      }
    }
  }
});

Deno.test("matvec: partial sums fit workgroup memory beside the norm's and the kind's tables", () => {
  for (const device of devices()) {
    for (const b of ["f16", "nf4"]) {
      const { rowWidths: widths, element, sharedBytes: tables } = weightKind(b);
      for (const [m, n, k] of [[1, 4096, 28672], [2, 32000, 28672], [3, 4096, 4096], [8, 96, 64]]) {
        const size = { m, n, k, widths, coded: element === undefined, tables };
        const layout = matvecLayout(device, size), { whole, wide, outputs } = layout;
        const { body } = matvecProgram({
          ...layout,
          a: "f32",
          b,
          c: "f32",
          activation: "none",
          operands: "f32",
          accumulate: false,
          norm: whole ? "f32" : "none",
          normOffset: 0,
          rows: m,
          compact: true,
          vectors: k / wide,
          groups: n / outputs,
          kvSplits: 0,
          headDim: 0,
        });
        const bytes = workgroupBytes(body);
        assert.ok(bytes > 0 && bytes <= device.workgroupBytes, `${b} ${m}×${n}×${k}: ${bytes}`);
        assert.ok(outputs * m <= layout.threads);
      }
    }
  }
});

Deno.test("matvec: a row of LLaMA-2 7B is laid out as measurements said", () => {
  const [, , , , , device] = devices();
  const layout = (n: number, k: number, kind = {}) => {
    const { threads, steps, outputs, grid, ahead } = matvecLayout(device, {
      m: 1,
      n,
      k,
      widths: [8, 4],
      ...kind,
    });
    return [threads, steps, outputs, grid, ahead];
  };
  assert.deepEqual(layout(12288, 4096), [128, 4, 2, 528, true]);
  assert.deepEqual(layout(4096, 4096, { splitInput: true }), [512, 1, 4, 264, false]);
  assert.deepEqual(layout(22016, 4096, { swiglu: true }), [128, 4, 2, 528, true]);
  assert.deepEqual(layout(22016, 4096, { swiglu: true, paired: true }), [256, 2, 4, 264, true]);
  assert.deepEqual(layout(4096, 11008), [352, 4, 2, 132, true]);
  assert.deepEqual(layout(32000, 4096), [128, 4, 2, 528, true]);
});
