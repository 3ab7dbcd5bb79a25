/**
 * The rotation of rotary position embeddings in WGSL, which every program that rotates heads, or undoes it in
 * gradients, is made of. Source: Su et al., "RoFormer", 2021.
 *
 * @module
 */

/** WGSL for both elements of a rotated pair. */
export interface RotatedPair {
  first: string;
  second: string;
}

/** WGSL for the elements of a pair and for the cosine and sine of its angle: expressions without side effects. */
export interface Rotation {
  first: string;
  second: string;
  cos: string;
  sin: string;
}

/** The pair rotated by its angle: (a cos − b sin, b cos + a sin). */
export function rotated({ first, second, cos, sin }: Rotation): RotatedPair {
  return {
    first: `${first} * ${cos} - ${second} * ${sin}`,
    second: `${second} * ${cos} + ${first} * ${sin}`,
  };
}

/** The pair rotated by the opposite angle, as its gradient asks for: (a cos + b sin, b cos − a sin). */
export function rotatedBack({ first, second, cos, sin }: Rotation): RotatedPair {
  return {
    first: `${first} * ${cos} + ${second} * ${sin}`,
    second: `${second} * ${cos} - ${first} * ${sin}`,
  };
}
