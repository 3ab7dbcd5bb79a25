/**
 * What the programs of a matrix product share.
 *
 * @module
 */

/** Orientation of A and B: `n` as it is, `t` transposed. */
export type Orientation = "nt" | "nn" | "tn";

/** Sizes in elements; offsets and strides in vectors of four. */
export const UNIFORMS = {
  m: "u32",
  n: "u32",
  k: "u32",
  aOffset: "u32",
  aStride: "u32",
  bOffset: "u32",
  bStride: "u32",
  cOffset: "u32",
  cStride: "u32",
  kPerSplit: "u32",
  alpha: "f32",
} as const;
