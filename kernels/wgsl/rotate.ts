/**
 * The rotation of rotary position embedding as WGSL, in Hugging Face's convention (rotate_half): elements i and
 * i + D/2 of a head are the two coordinates of a point, which is rotated by an angle.
 *
 * Source: Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021.
 *
 * @module
 */

/** WGSL names of a point's coordinates and of an angle's cosine and sine. */
export interface Rotation {
  first: string;
  second: string;
  cos: string;
  sin: string;
}

/** WGSL expressions of a point's coordinates. */
export interface Rotated {
  first: string;
  second: string;
}

/** The point rotated by the angle. */
export function rotate({ first, second, cos, sin }: Rotation): Rotated {
  return {
    first: `${first} * ${cos} - ${second} * ${sin}`,
    second: `${second} * ${cos} + ${first} * ${sin}`,
  };
}

/** The point rotated by the opposite angle, which undoes {@linkcode rotate}; so gradients go back. */
export function rotateBack({ first, second, cos, sin }: Rotation): Rotated {
  return {
    first: `${first} * ${cos} + ${second} * ${sin}`,
    second: `${second} * ${cos} - ${first} * ${sin}`,
  };
}
