import type { Gpu } from "../../../../kernels/gpu/gpu.ts";
import { onTensorCores } from "../../../../kernels/gpu/subgroup_matrix.ts";
import { matmul } from "../../../../kernels/ops/matmul/matmul.ts";
import type { MatvecGeometry } from "../../../../kernels/ops/matvec/layout.ts";
import { matvec, matvecSwiglu } from "../../../../kernels/ops/matvec/matvec.ts";
import { weightKind } from "../../../../kernels/ops/weights/kinds.ts";
import { withHardwarePrograms } from "../../hardware_programs.ts";
import { matrixTest } from "../../subgroup_matrices.ts";
import {
  assertClose,
  download,
  gpuTest,
  poisoned,
  quantize,
  randomArray,
  upload,
} from "../../harness.ts";
import { decoded, encoded, QUANTIZED } from "./encoded.ts";
import { KEPT, kept } from "./kept.ts";

/** Rows that are no multiple of 64 where the kind can hold them. */
const columnsFor = (name: string) => {
  const { columnUnit } = weightKind(name);
  return columnUnit <= 4 ? 176 : Math.ceil(160 / columnUnit) * columnUnit;
};

/** A tile that takes little time to compile; how weights are staged does not depend on its size. */
const TILE = { blockM: 16, blockN: 64, blockK: 8, threadM: 4, threadN: 8, splits: 1 };

/** The same for matrices of a software driver, which only tests choose. */
const SOFTWARE_TILE = {
  blockM: 32,
  blockN: 64,
  blockK: 32,
  subgroupsM: 2,
  subgroupsN: 4,
  splits: 1,
};

/** A·Bᵀ of A `[m, k]` and B `[n, k]`. */
function times(a: ArrayLike<number>, b: ArrayLike<number>, [m, n, k]: readonly number[]) {
  return Float64Array.from({ length: m * n }, (_, at) => {
    const i = Math.floor(at / n), j = at % n;
    let sum = 0;
    for (let l = 0; l < k; l++) sum += a[i * k + l] * b[j * k + l];
    return sum;
  });
}

/** The transpose of `[rows, columns]`. */
function transposed(values: ArrayLike<number>, rows: number, columns: number): Float64Array {
  return Float64Array.from(
    { length: rows * columns },
    (_, at) => values[at % rows * columns + Math.floor(at / rows)],
  );
}

/** A quantised matrix with blocks of different sizes, one of them zeros. */
async function weights(gpu: Gpu, name: string, [rows, columns]: readonly [number, number]) {
  const own = KEPT.find((kept) => kept === name);
  if (own !== undefined) return kept(gpu, own, [rows, columns]);
  const values = randomArray(rows * columns, 7).map((v, i) => v * (1 + Math.floor(i / 64) % 5));
  values.fill(0, 64, 128);
  const operand = encoded(gpu, name, values, [rows, columns]);
  return { operand, values: await decoded(gpu, operand) };
}

for (const name of [...QUANTIZED, ...KEPT]) {
  gpuTest(`products of several rows read ${name} in both orientations`, async (gpu) => {
    const n = 72, k = columnsFor(name), m = 11;
    await withHardwarePrograms(gpu, async (gpu) => {
      const { operand: B, values: b } = await weights(gpu, name, [n, k]);
      for (const orientation of ["nt", "nn"] as const) {
        const [width, depth] = orientation === "nt" ? [n, k] : [k, n];
        const a = quantize(randomArray(m * depth, 3), "f32");
        const expected = times(a, orientation === "nt" ? b : transposed(b, n, k), [
          m,
          width,
          depth,
        ]);
        const A = upload(gpu, a, "f32", [m, depth]);
        const operandsOf = gpu.software || !gpu.extensions.has("f16")
          ? ["f32"] as const
          : ["f32", "f16"] as const;
        for (const operands of operandsOf) {
          const C = poisoned(gpu, "f32", [m, width]);
          matmul(gpu, {
            orientation,
            a: A,
            b: B,
            c: C,
            rows: m,
            operands,
            geometry: gpu.software ? undefined : TILE,
          });
          const limits = operands === "f32"
            ? { atol: 1e-3, rtol: 1e-5 }
            : { atol: 0.3, rtol: 0.01 };
          assertClose(await download(gpu, C), expected, {
            ...limits,
            what: `${orientation} ${operands}`,
          });
        }
      }
    });
  });

  gpuTest(`products of one and two rows read ${name}`, async (gpu) => {
    const n = 40;
    const other = 192 % weightKind(name).columnUnit === 0 ? 192 : 512;
    for (const [m, k] of [[1, columnsFor(name)], [2, columnsFor(name)], [1, other]]) {
      const { operand: b, values } = await weights(gpu, name, [n, k]);
      const x = quantize(randomArray(m * k, 4), "f32"), a = upload(gpu, x, "f32", [m, k]);
      const expected = times(x, values, [m, n, k]);
      const layouts = weightKind(name).rowWidths.filter((width) => k % width === 0)
        .map((wide): MatvecGeometry => ({ whole: wide >= 8, wide }));
      // Lanes share scales as far as a group has columns and a device subgroups; the next group's come ahead.
      if (m === 1) {
        layouts.push({ grid: 2, ahead: true }, { grid: 3, subgroup: 0, ahead: true });
        layouts.push({ outputs: 8 }, { outputs: 2, steps: 2 });
      }
      for (const geometry of layouts) {
        const c = poisoned(gpu, "f32", [m, n]);
        matvec(gpu, {
          a,
          b,
          c,
          m,
          n,
          k,
          alpha: 1,
          accumulate: false,
          aOffset: 0,
          aStride: k,
          cOffset: 0,
          cStride: n,
          geometry,
        });
        assertClose(await download(gpu, c), expected, {
          atol: 1e-3,
          rtol: 1e-5,
          what: `${m} ${JSON.stringify(geometry)}`,
        });
      }
      const c = poisoned(gpu, "f32", [m, n / 2]);
      matvecSwiglu(gpu, { activation: "silu", a, b, c, rows: m });
      const gated = Float64Array.from({ length: m * n / 2 }, (_, at) => {
        const row = Math.floor(at / (n / 2)) * n, j = at % (n / 2), gate = expected[row + j];
        return gate / (1 + Math.exp(-gate)) * expected[row + n / 2 + j];
      });
      assertClose(await download(gpu, c), gated, { atol: 2e-3, rtol: 1e-4, what: `swiglu ${m}` });
    }
  });

  matrixTest(`products on tensor cores read ${name}`, async (gpu) => {
    const [m, n, k] = [40, 192, columnsFor(name) === 256 ? 512 : 320];
    const { operand: B, values: b } = await weights(gpu, name, [n, k]);
    const rounded = quantize(b, "f16");
    for (const orientation of ["nt", "nn"] as const) {
      const [width, depth] = orientation === "nt" ? [n, k] : [k, n];
      const a = quantize(randomArray(m * depth, 3), "f16");
      const expected = times(a, orientation === "nt" ? rounded : transposed(rounded, n, k), [
        m,
        width,
        depth,
      ]);
      const A = upload(gpu, a, "f16", [m, depth]);
      const C = poisoned(gpu, "f32", [m, width]);
      const geometry = onTensorCores(gpu.matrices) ? undefined : SOFTWARE_TILE;
      matmul(gpu, { orientation, a: A, b: B, c: C, rows: m, operands: "f16", geometry });
      assertClose(await download(gpu, C), expected, { atol: 1e-2, rtol: 1e-3, what: orientation });
    }
    // naga gives the halves that codes are unpacked to, bitcast<vec2<f16>>(u32), another type.
  }, { emulates: false });
}
