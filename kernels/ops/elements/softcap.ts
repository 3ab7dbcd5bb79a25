/**
 * A soft cap in place: y = c · tanh(y/c), which stays within ±c.
 *
 * @module
 */
import { elementGrid, elementMain } from "../../gpu/elementwise.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { programFamily, writes } from "../../gpu/program.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { declareSoftcap, softcapOf, softcapUniform } from "../../wgsl/softcap.ts";

const program = programFamily("softcap", () => ({
  bindings: writes("f32", "y"),
  uniforms: { vectors: "u32", ...softcapUniform(true) },
  body: declareSoftcap(true, "vec4<f32>") +
    elementMain(`store_y(i, ${softcapOf("load_y(i)", true)});`),
}));

/** Caps the first `rows` rows of y `[T, W]` f32. W is a multiple of 4. */
export function softcap(
  gpu: Gpu,
  { y, cap, rows }: { y: Tensor; cap: number; rows: number },
): void {
  const vectors = rows * y.rowSize / 4;
  gpu.run(program({}), [y], { vectors, softcap: cap }, elementGrid(vectors), {
    flops: 80 * vectors,
    bytes: 32 * vectors,
  });
}
