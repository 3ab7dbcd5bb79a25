/**
 * Whether the scales of blocks are finite numbers, where other numbers of the blocks lie between them.
 *
 * @module
 */
import { elementGrid, elementMain } from "../../gpu/elementwise.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { programFamily, readsScalars, writesScalars } from "../../gpu/program.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { FlagPlace } from "./kind.ts";

/** Where scales are: of every `words` words those from word `at` on, one or two. */
type ScalePlace = { words: number; at: number; type: "f32" | "two f32" | "two f16" };

/** Of each number the word that it is in, and the bits of its exponent: all are set where it is not finite. */
const EXPONENTS: Readonly<Record<ScalePlace["type"], readonly [word: number, bits: string][]>> = {
  f32: [[0, "0x7f800000u"]],
  "two f32": [[0, "0x7f800000u"], [1, "0x7f800000u"]],
  "two f16": [[0, "0x7c00u"], [0, "0x7c000000u"]],
};

const program = programFamily("scales_not_finite", ({ words, at, type }: ScalePlace) => ({
  bindings: [...readsScalars("u32", "scales"), ...writesScalars("u32", "flags")],
  // A thread has a block.
  uniforms: { vectors: "u32", slot: "u32" },
  body: elementMain(`
  let first = i * ${words}u + ${at}u;
  if (${
    EXPONENTS[type].map(([word, bits]) => `(scales[first + ${word}u] & ${bits}) == ${bits}`).join(
      " || ",
    )
  }) { flags[u.slot] = 1u; }`),
}));

/** Sets a flag to 1 where a scale is no finite number. */
export function flagScalesNotFinite(
  gpu: Gpu,
  { scales, place, flags, slot }: FlagPlace & { scales: Tensor; place: ScalePlace },
): void {
  const blocks = scales.size / place.words;
  const uniforms = { vectors: blocks, slot };
  gpu.run(program(place), [scales, flags], uniforms, elementGrid(blocks), {
    flops: 0,
    bytes: 4 * scales.size,
  });
}
