/**
 * Sliding windows narrower than the one that ranges of keys were made for: clipped[i] = max(starts[i], ends[i] − slidingWindow).
 * All tensors are `[rows]` u32.
 *
 * @module
 */
import { elementGrid, elementMain } from "../../gpu/elementwise.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { programFamily, readsScalars, writesScalars } from "../../gpu/program.ts";
import type { Tensor } from "../../gpu/tensor.ts";

const program = programFamily("clip_starts", () => ({
  bindings: [...readsScalars("u32", "starts", "ends"), ...writesScalars("u32", "clipped")],
  uniforms: { vectors: "u32", slidingWindow: "u32" },
  body: elementMain("clipped[i] = max(starts[i], ends[i] - min(ends[i], u.slidingWindow));"),
}));

/** Writes the first `rows` of clipped. */
export function clipStarts(
  gpu: Gpu,
  { starts, ends, clipped, rows, slidingWindow }: {
    starts: Tensor;
    ends: Tensor;
    clipped: Tensor;
    rows: number;
    slidingWindow: number;
  },
): void {
  const uniforms = { vectors: rows, slidingWindow };
  gpu.run(program({}), [starts, ends, clipped], uniforms, elementGrid(rows));
}
