/**
 * Positions and key ranges of decoding on the GPU: every sequence advances by one token.
 *
 * Sequence i has rows bases[i] to bases[i] + limits[i] of a KV cache. Its position p becomes
 * min(p + 1, limits[i] − 1), so that one which is full stays inside its rows; cacheRows[i] =
 * bases[i] + p, and the keys that its token sees are the last `slidingWindow` up to that row: starts[i] ≤ j < ends[i].
 * All tensors are `[sequences]` u32.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import { type Binding, programFamily, readsScalars } from "../../gpu/program.ts";
import type { Tensor } from "../../gpu/tensor.ts";

const THREADS = 64;
const written = ["positions", "starts", "ends", "cache_rows"].map((name): Binding => ({
  name,
  dtype: "u32",
  access: "write",
  scalar: true,
}));

const advanceProgram = programFamily("advance", () => ({
  bindings: [...written, ...readsScalars("u32", "bases", "limits")],
  uniforms: { rows: "u32", slidingWindow: "u32" },
  body: `
@compute @workgroup_size(${THREADS})
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let i = id.x;
  if (i >= u.rows) { return; }
  let position = min(positions[i] + 1u, limits[i] - 1u);
  let row = bases[i] + position;
  positions[i] = position;
  cache_rows[i] = row;
  starts[i] = row + 1u - min(position + 1u, u.slidingWindow);
  ends[i] = row + 1u;
}`,
}));

/**
 * Moves the first `rows` sequences on.
 *
 * @param slidingWindow Most keys that a token sees; null where it sees all.
 */
export function advance(
  gpu: Gpu,
  { positions, starts, ends, cacheRows, bases, limits, rows, slidingWindow }: {
    positions: Tensor;
    starts: Tensor;
    ends: Tensor;
    cacheRows: Tensor;
    bases: Tensor;
    limits: Tensor;
    rows: number;
    slidingWindow: number | null;
  },
): void {
  const tensors = [positions, starts, ends, cacheRows, bases, limits];
  const uniforms = { rows, slidingWindow: slidingWindow ?? 0xffffffff };
  gpu.run(advanceProgram({}), tensors, uniforms, [Math.ceil(rows / THREADS)]);
}
