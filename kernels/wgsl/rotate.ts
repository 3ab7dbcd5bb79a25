/**
 * The rotation of rotary position embedding as WGSL: two elements of a head are the coordinates of a point, which is
 * rotated by an angle. Programs handle two vectors of four elements at once, half a head apart, with two vectors of
 * RoPE's table (kernels/ops/rope/frequencies.ts).
 *
 * Source: Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021.
 *
 * @module
 */

/**
 * Which elements of a head's first D are a pair: `halves` has i and i + D/2 (Hugging Face's rotate_half), `neighbours`
 * 2i and 2i + 1 (interleaved, as in the paper).
 */
export type RotaryPairs = "halves" | "neighbours";

/** WGSL names of two vectors, and of the two of the table: cosines and sines of `halves`, else one for each vector. */
export interface Rotation {
  first: string;
  second: string;
  cos: string;
  sin: string;
}

/** WGSL expressions of two vectors. */
export interface Rotated {
  first: string;
  second: string;
}

/** A vector's two pairs turned by 90 degrees. */
const turned = (x: string) => `vec4<f32>(-${x}.y, ${x}.x, -${x}.w, ${x}.z)`;

/** A vector of two neighbouring pairs, rotated or, with `sign` -, rotated back. */
const neighbours = (x: string, angles: string, sign: "+" | "-") =>
  `${x} * ${angles}.xxyy ${sign} ${turned(x)} * ${angles}.zzww`;

/** The points rotated by the angles. */
export function rotate(
  { first, second, cos, sin }: Rotation,
  pairs: RotaryPairs,
): Rotated {
  if (pairs === "neighbours") {
    return { first: neighbours(first, cos, "+"), second: neighbours(second, sin, "+") };
  }
  return {
    first: `${first} * ${cos} - ${second} * ${sin}`,
    second: `${second} * ${cos} + ${first} * ${sin}`,
  };
}

/** The points rotated by the opposite angles, which undoes {@linkcode rotate}; so gradients go back. */
export function rotateBack(
  { first, second, cos, sin }: Rotation,
  pairs: RotaryPairs,
): Rotated {
  if (pairs === "neighbours") {
    return { first: neighbours(first, cos, "-"), second: neighbours(second, sin, "-") };
  }
  return {
    first: `${first} * ${cos} + ${second} * ${sin}`,
    second: `${second} * ${cos} - ${first} * ${sin}`,
  };
}
