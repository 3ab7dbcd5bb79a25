/**
 * Which elements of a head are rotated.
 *
 * @module
 */
import type { RotaryPairs } from "../../wgsl/rotate.ts";

/** The first `dims` elements of a head, an even number, in pairs. */
export interface Rotary {
  readonly dims: number;
  readonly pairs: RotaryPairs;
}

/** Whether all elements of a head are rotated. */
export function isWhole({ dims }: Rotary, headDim: number): boolean {
  return dims === headDim;
}
