/**
 * Partial results of a matrix product, for the next launch to add up while it reads them.
 *
 * @module
 */
import { SPLIT_BYTES } from "./matmul/geometry.ts";
import type { Tensor } from "./tensor.ts";

/**
 * Partial results of a product `[splits, rows, width]` f32, in working memory, to be consumed by the
 * next launch: slot s of row t begins at element (s·rows + t)·width.
 */
export interface Partials {
  readonly tensor: Tensor;
  /** Slots to add up; a launch between the product and its consumer may append one. */
  splits: number;
  readonly rows: number;
  readonly width: number;
}

/** Bytes of working memory for a product's partial results and `spare` further slots. */
export function partialsBytes(rows: number, width: number, spare = 0): number {
  return Math.max(SPLIT_BYTES, (1 + spare) * rows * width * 4);
}

/** A whole result `[≥ rows, width]` f32 as partial sums: the only slot. */
export function wholePartials(tensor: Tensor, rows: number): Partials {
  return { tensor, splits: 1, rows, width: tensor.rowSize };
}
