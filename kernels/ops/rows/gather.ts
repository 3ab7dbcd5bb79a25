/**
 * Picking rows and putting them back: y[s] = x[index[s]], and dx[index[s]] = dy[s].
 *
 * Shapes: x, dx `[T, H]` f32, y, dy `[S, H]` f32, index `[S]` u32, strictly increasing and below T.
 * H is a multiple of 4.
 *
 * @module
 */
import { elementGrid, elementMain } from "../../gpu/elementwise.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { programFamily } from "../../gpu/program.ts";
import type { Tensor } from "../../gpu/tensor.ts";

const move = programFamily("indexed_rows", ({ direction }: { direction: "gather" | "scatter" }) => {
  const from = direction === "gather" ? "index[row] * u.width + i % u.width" : "i";
  const to = direction === "gather" ? "i" : "index[row] * u.width + i % u.width";
  return {
    bindings: [
      { name: "x", dtype: "f32", access: "read" },
      { name: "index", dtype: "u32", access: "read", scalar: true },
      { name: "y", dtype: "f32", access: "write" },
    ],
    uniforms: { vectors: "u32", width: "u32" },
    body: elementMain(`
  let row = i / u.width;
  store_y(${to}, load_x(${from}));`),
  };
});

/** Writes the first `rows` rows of y. */
export function gatherRows(
  gpu: Gpu,
  { x, index, y, rows }: { x: Tensor; index: Tensor; y: Tensor; rows: number },
): void {
  const width = x.rowSize / 4, vectors = rows * width;
  gpu.run(move({ direction: "gather" }), [x, index, y], { vectors, width }, elementGrid(vectors), {
    flops: 0,
    bytes: 32 * vectors,
  });
}

/** Writes the first `rows` rows of dy into dx; dx's other rows stay as they are (clear it first). */
export function scatterRows(
  gpu: Gpu,
  { dy, index, dx, rows }: { dy: Tensor; index: Tensor; dx: Tensor; rows: number },
): void {
  const width = dy.rowSize / 4, vectors = rows * width;
  gpu.run(
    move({ direction: "scatter" }),
    [dy, index, dx],
    { vectors, width },
    elementGrid(vectors),
    {
      flops: 0,
      bytes: 32 * vectors,
    },
  );
}
