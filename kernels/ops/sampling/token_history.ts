/**
 * The history of sampled tokens on the GPU, for later passes: history[places[i]] = ids[i], and ids[i] =
 * history[ids[i]], where ids are places before and tokens after.
 *
 * Shapes: ids and places `[at least rows]` u32, history u32, every place within it and used once.
 *
 * @module
 */
import { elementGrid, elementMain } from "../../gpu/elementwise.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { programFamily, readsScalars, writesScalars } from "../../gpu/program.ts";
import type { Tensor } from "../../gpu/tensor.ts";

const uniforms = { vectors: "u32" } as const;

const put = programFamily("put_tokens", () => ({
  bindings: [...readsScalars("u32", "ids", "places"), ...writesScalars("u32", "history")],
  uniforms,
  body: elementMain("history[places[i]] = ids[i];"),
}));

const take = programFamily("take_tokens", () => ({
  bindings: [...readsScalars("u32", "history"), ...writesScalars("u32", "ids")],
  uniforms,
  body: elementMain("ids[i] = history[ids[i]];"),
}));

/** Puts the first `rows` tokens into their places. */
export function putTokens(
  gpu: Gpu,
  { ids, places, history, rows }: { ids: Tensor; places: Tensor; history: Tensor; rows: number },
): void {
  const cost = { flops: 0, bytes: 12 * rows };
  gpu.run(put({}), [ids, places, history], { vectors: rows }, elementGrid(rows), cost);
}

/** Replaces the first `rows` places by the tokens that are there. */
export function takeTokens(
  gpu: Gpu,
  { ids, history, rows }: { ids: Tensor; history: Tensor; rows: number },
): void {
  const cost = { flops: 0, bytes: 12 * rows };
  gpu.run(take({}), [history, ids], { vectors: rows }, elementGrid(rows), cost);
}
