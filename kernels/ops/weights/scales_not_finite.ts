/**
 * Whether the scales of blocks are finite numbers, where other numbers of the blocks lie between them.
 *
 * @module
 */
import { groupGrid } from "../../gpu/elementwise.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { programFamily, readsScalars, writesScalars } from "../../gpu/program.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import type { FlagPlace } from "./kind.ts";

const THREADS = 64;

/** Where scales are: word `at` of every `words`, an f32 or two f16. */
type ScalePlace = { words: number; at: number; type: "f32" | "two f16" };

/** Bits of the exponents, all of which are set where a number is not finite. */
const EXPONENTS: Readonly<Record<ScalePlace["type"], readonly string[]>> = {
  f32: ["0x7f800000u"],
  "two f16": ["0x7c00u", "0x7c000000u"],
};

const program = programFamily("scales_not_finite", ({ words, at, type }: ScalePlace) => ({
  bindings: [...readsScalars("u32", "scales"), ...writesScalars("u32", "flags")],
  uniforms: { blocks: "u32", slot: "u32" },
  body: `
@compute @workgroup_size(${THREADS})
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let block = (group.y * groups.x + group.x) * ${THREADS}u + thread;
  if (block >= u.blocks) { return; }
  let scale = scales[block * ${words}u + ${at}u];
  if (${
    EXPONENTS[type].map((bits) => `(scale & ${bits}) == ${bits}`).join(" || ")
  }) { flags[u.slot] = 1u; }
}`,
}));

/** Sets a flag to 1 where a scale is no finite number. */
export function flagScalesNotFinite(
  gpu: Gpu,
  { scales, place, flags, slot }: FlagPlace & { scales: Tensor; place: ScalePlace },
): void {
  const blocks = scales.size / place.words;
  const grid = groupGrid(Math.ceil(blocks / THREADS));
  gpu.run(program(place), [scales, flags], { blocks, slot }, grid, {
    flops: 0,
    bytes: 4 * scales.size,
  });
}
