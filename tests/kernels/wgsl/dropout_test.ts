import assert from "node:assert/strict";
import {
  type DropoutMask,
  dropoutMask,
  KEEP_MASK,
  MASK_UNIFORMS,
  maskUniforms,
} from "../../../kernels/wgsl/dropout.ts";
import { elementGrid, elementMain } from "../../../kernels/gpu/elementwise.ts";
import { programFamily, writes } from "../../../kernels/gpu/program.ts";
import { download, gpuTest, poisoned } from "../harness.ts";
import { assertSameValues } from "../../same.ts";

const MASK: DropoutMask = { p: 0.3, seed: 0xdeadbeef, step: 7, subsequence: 31 };

const maskProgram = programFamily("keep_mask", () => ({
  bindings: writes("f32", "y"),
  uniforms: { ...MASK_UNIFORMS, vectors: "u32", subsequence: "u32" },
  body: KEEP_MASK +
    elementMain("store_y(i, select(vec4<f32>(), vec4<f32>(1.0), keepMask(i, u.subsequence)));"),
}));

gpuTest("kernels keep what the host's mask keeps", async (gpu) => {
  const count = 4 * 1031, vectors = count / 4;
  for (const p of [0, 0.05, 0.5, 1 - 2 ** -10]) {
    for (const words of [MASK, { ...MASK, seed: 0xffffffff, step: 0xffffffff, subsequence: 0 }]) {
      const mask = { ...words, p }, y = poisoned(gpu, "f32", [count]);
      const uniforms = { vectors, ...maskUniforms(mask), subsequence: mask.subsequence };
      gpu.run(maskProgram({}), [y], uniforms, elementGrid(vectors));
      const kept = Uint8Array.from(await download(gpu, y));
      assertSameValues(kept, dropoutMask(count, mask), `p ${p}`);
    }
  }
});

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

Deno.test("dropoutMask has no pattern across elements, steps, subsequences and seeds", () => {
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
  for (const field of ["seed", "step", "subsequence"] as const) {
    for (const change of [1, 2, 16, 256, 65536]) {
      const other = dropoutMask(count, { ...MASK, [field]: MASK[field] + change });
      independent(base, other, `${field} + ${change}`);
    }
  }
  const swapped = dropoutMask(count, { ...MASK, step: MASK.subsequence, subsequence: MASK.step });
  independent(base, swapped, "step and subsequence swapped");
});

Deno.test("dropoutMask refuses probabilities outside [0, 1)", () => {
  for (const p of [-0.1, 1, NaN]) {
    assert.throws(() => dropoutMask(4, { ...MASK, p }), /not in \[0, 1\)/);
  }
});
