import assert from "node:assert/strict";
import {
  ropeFrequencies,
  ropeTable,
  tableWidth,
} from "../../../../kernels/ops/rope/frequencies.ts";
import { rope } from "../../../../kernels/ops/rope/rope.ts";
import { plainAngle, rotaries, rotaryName, rotateHead, whole } from "./rotaries.ts";
import type { Gpu } from "../../../../kernels/gpu/gpu.ts";
import type { RowRotation } from "../../../../kernels/ops/rope/rope.ts";
import type { Dtype } from "../../../../kernels/gpu/tensor.ts";
import { readFixture } from "../../../fixtures.ts";
import {
  assertClose,
  download,
  gpuTest,
  quantize,
  randomArray,
  tolerance,
  upload,
} from "../../harness.ts";

const THETA = 10000;
/** Packed documents restart at 0; the last one is the context's end. */
const POSITIONS = [0, 1, 2, 0, 1, 257, 4095];

/** Heads rotated by their positions, angles in float64; by the opposite ones with a `sign` of −1. */
function reference(
  x: Float64Array,
  heads: number,
  headDim: number,
  rotary = whole(headDim),
  sign = 1,
): Float64Array {
  const y = x.slice();
  for (let at = 0; at < x.length; at += headDim) {
    const position = POSITIONS[Math.floor(at / (heads * headDim))];
    rotateHead(y, at, rotary, plainAngle(THETA, rotary, position), sign);
  }
  return y;
}

Deno.test("ropeTable is exact to f32 at large positions", () => {
  const table = ropeTable({ headDim: 8, rotary: whole(8), theta: 500000, positions: 100001 });
  assert.equal(table.length, 100001 * 8);
  const row = table.subarray(100000 * 8);
  for (let i = 0; i < 4; i++) {
    const angle = 100000 / 500000 ** (i / 4);
    assert.ok(Math.abs(row[i] - Math.cos(angle)) < 1e-7);
    assert.ok(Math.abs(row[4 + i] - Math.sin(angle)) < 1e-7);
  }
});

Deno.test("ropeFrequencies are those of the published rules, plain and scaled", () => {
  for (const { frequencies, headDim, ...options } of readFixture("rope.json")) {
    const what = JSON.stringify(options);
    assertClose(ropeFrequencies({ dims: headDim, ...options }), frequencies, {
      atol: 0,
      rtol: 1e-8,
      what,
    });
  }
});

Deno.test("ropeTable turns position p by p times the scaled frequency", () => {
  const scaling = { type: "linear", factor: 4 } as const;
  const options = { headDim: 8, rotary: whole(8), theta: THETA, positions: 9 };
  const scaled = ropeTable({ ...options, scaling }), plain = ropeTable(options);
  assert.deepEqual(scaled.subarray(8 * 8), plain.subarray(2 * 8, 3 * 8));
});

Deno.test("dynamic RoPE leaves runs within the trained context alone", () => {
  const scaling = { type: "dynamic", factor: 2 } as const;
  const options = { dims: 8, theta: THETA, trainedPositions: 64 };
  const frequencies = (positions: number) => ropeFrequencies({ ...options, positions, scaling });
  const plain = ropeFrequencies({ ...options, positions: 64 });
  assert.deepEqual(frequencies(1), plain);
  assert.deepEqual(frequencies(64), plain);
  assert.ok(frequencies(65)[3] < plain[3]);
  assert.throws(() => ropeFrequencies({ dims: 8, theta: THETA, positions: 1, scaling }));
});

/** The rotation of {@linkcode POSITIONS}. */
function rotationBy(gpu: Gpu, headDim: number, rotary = whole(headDim)): RowRotation {
  const values = ropeTable({ headDim, rotary, theta: THETA, positions: 4096 });
  return {
    rotary,
    table: upload(gpu, values, "f32", [4096, tableWidth(rotary, headDim)]),
    positions: upload(gpu, POSITIONS, "u32", [POSITIONS.length]),
  };
}

for (const dtype of ["f32", "f16"] as Dtype[]) {
  gpuTest(`rope turns neighbours and parts of heads, and back (${dtype})`, async (gpu) => {
    const rows = POSITIONS.length, heads = 3;
    for (const headDim of [16, 40]) {
      for (const rotary of rotaries(headDim)) {
        const x = quantize(randomArray(rows * heads * headDim, headDim), dtype);
        const rotation = rotationBy(gpu, headDim, rotary);
        for (const back of [false, true]) {
          const X = upload(gpu, x, dtype, [rows, heads * headDim]);
          rope(gpu, { x: X, rotation, rows, heads, headDim, back });
          const what = `${headDim}, ${rotaryName(rotary)}, back ${back}`;
          const expected = reference(x, heads, headDim, rotary, back ? -1 : 1);
          assertClose(await download(gpu, X), expected, { ...tolerance(dtype), what });
        }
      }
    }
  });

  gpuTest(`rope turns by the position's angles (${dtype})`, async (gpu) => {
    const rows = POSITIONS.length;
    for (const [heads, headDim] of [[1, 8], [3, 24], [2, 64], [7, 128]]) {
      const width = heads * headDim;
      const x = quantize(randomArray(rows * width, headDim), dtype);
      const X = upload(gpu, x, dtype, [rows, width]);
      const rotation = rotationBy(gpu, headDim);
      rope(gpu, { x: X, rotation, rows, heads, headDim });
      const rotated = await download(gpu, X);
      assertClose(rotated, reference(x, heads, headDim), tolerance(dtype));
    }
  });
}

gpuTest("rope leaves the heads behind the first ones alone", async (gpu) => {
  const rows = POSITIONS.length, width = 3 * 8;
  const x = quantize(randomArray(rows * width, 1), "f16");
  const X = upload(gpu, x, "f16", [rows, width]);
  rope(gpu, { x: X, rotation: rotationBy(gpu, 8), rows, heads: 2, headDim: 8 });
  const all = reference(x, 3, 8);
  const expected = x.map((value, i) => i % width < 16 ? all[i] : value);
  assertClose(await download(gpu, X), expected, tolerance("f16"));
});

gpuTest("rope leaves rows beyond `rows` alone", async (gpu) => {
  const x = quantize(randomArray(POSITIONS.length * 16, 1), "f32");
  const X = upload(gpu, x, "f32", [POSITIONS.length, 16]);
  const table = upload(
    gpu,
    ropeTable({ headDim: 8, rotary: whole(8), theta: THETA, positions: 8 }),
    "f32",
    [8, 8],
  );
  const positions = upload(gpu, [5, 6, 7], "u32", [3]);
  const rotation = { table, positions, rotary: whole(8) };
  rope(gpu, { x: X, rotation, rows: 3, heads: 2, headDim: 8 });
  const after = await download(gpu, X);
  assert.deepEqual(after.subarray(3 * 16), x.subarray(3 * 16));
  assert.notDeepEqual(after.subarray(2 * 16, 3 * 16), x.subarray(2 * 16, 3 * 16));
});
