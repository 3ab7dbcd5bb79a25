import assert from "node:assert/strict";
import { dropout, dropoutBackward, type DropoutMask, dropoutMask } from "../../kernels/dropout.ts";
import type { Gpu } from "../../kernels/gpu.ts";
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
  upload,
} from "./harness.ts";
import { withMaxBinding } from "./small_binding.ts";

const MASK: DropoutMask = { p: 0.3, seed: 0xdeadbeef, step: 7, stream: 31 };

async function test(gpu: Gpu, dtype: Dtype, rows: number, width: number, mask = MASK) {
  const count = rows * width, shape = [rows, width];
  const kept = dropoutMask(count, mask);
  const scale = Math.fround(1 / (1 - mask.p));
  // Away from 0, so that a zero means dropped.
  const x = quantize(randomArray(count, rows).map((v) => v + Math.sign(v)), dtype);
  const y = poisoned(gpu, dtype, [rows + 1, width]);
  const X = upload(gpu, x, dtype, shape);
  dropout(gpu, { x: X, y, rows, ...mask });
  const actual = await download(gpu, y);
  assert.deepEqual(Uint8Array.from(actual.subarray(0, count), (v) => v === 0 ? 0 : 1), kept);
  const limits = dtype === "f16" ? { atol: 0, rtol: 1e-3 } : { atol: 0, rtol: 2e-7 };
  assertClose(actual.subarray(0, count), x.map((v, i) => v * kept[i] * scale + 0), limits);
  assert.ok(actual.subarray(count).every(Number.isNaN));

  const before = quantize(randomArray(count, 5), "f32");
  const dx = upload(gpu, before, "f32", shape);
  dropoutBackward(gpu, { dy: X, dx, rows, ...mask });
  assertClose(
    await download(gpu, dx),
    before.map((v, i) => v + x[i] * kept[i] * scale),
    { atol: 5e-7, rtol: 5e-7, what: "dx" },
  );
}

for (const dtype of ["f32", "f16"] as Dtype[]) {
  gpuTest(`dropout and its backward use the host's mask (${dtype})`, async (gpu) => {
    for (const width of AWKWARD4) await test(gpu, dtype, 3, width);
    for (const rows of AWKWARD) await test(gpu, dtype, rows, 8);
    for (const p of [0, 0.05, 0.5, 1 - 2 ** -10]) {
      await test(gpu, dtype, 5, 36, { ...MASK, p, seed: 0xffffffff, step: 0xffffffff });
    }
    await withMaxBinding(1024, (small) => test(small, dtype, 33, 36));
  });
}

Deno.test("dropoutMask keeps 1 − p of the elements, everywhere alike", () => {
  const count = 1 << 18;
  for (const p of [0.05, 0.5, 0.9]) {
    const mask = dropoutMask(count, { ...MASK, p });
    const near = (kept: number, of: number, what: string) => {
      const sigma = Math.sqrt(p * (1 - p) / of);
      assert.ok(Math.abs(kept / of - (1 - p)) < 4.5 * sigma, `${what}: ${kept / of} for p ${p}`);
    };
    near(mask.reduce((a, b) => a + b, 0), count, "all");
    for (let lane = 0; lane < 4; lane++) {
      near(mask.reduce((a, b, i) => a + (i % 4 === lane ? b : 0), 0), count / 4, `lane ${lane}`);
    }
  }
});

Deno.test("dropoutMask has no pattern across elements, steps, streams and seeds", () => {
  const count = 1 << 16;
  const base = dropoutMask(count, MASK);
  const { p } = MASK;
  const correlation = (a: Uint8Array, b: Uint8Array) => {
    let sum = 0;
    for (let i = 0; i < a.length; i++) sum += (a[i] - (1 - p)) * (b[i] - (1 - p));
    return sum / a.length / (p * (1 - p));
  };
  const independent = (a: Uint8Array, b: Uint8Array, what: string) =>
    assert.ok(Math.abs(correlation(a, b)) < 4.5 / Math.sqrt(a.length), what);
  for (const lag of [1, 2, 3, 4, 8, 64, 1024, 4096]) {
    independent(base.subarray(lag), base.subarray(0, count - lag), `lag ${lag}`);
  }
  for (const field of ["seed", "step", "stream"] as const) {
    for (const change of [1, 2, 16, 256, 65536]) {
      const other = dropoutMask(count, { ...MASK, [field]: MASK[field] + change });
      independent(base, other, `${field} + ${change}`);
    }
  }
  const swapped = dropoutMask(count, { ...MASK, step: MASK.stream, stream: MASK.step });
  independent(base, swapped, "step and stream swapped");
});

Deno.test("dropoutMask refuses probabilities outside [0, 1)", () => {
  for (const p of [-0.1, 1, NaN]) {
    assert.throws(() => dropoutMask(4, { ...MASK, p }), /not in \[0, 1\)/);
  }
});
