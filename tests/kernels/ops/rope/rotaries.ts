/** Ways to rotate a head, and the rotation in float64 straight from the definition. */
import type { Rotary } from "../../../../kernels/ops/rope/rotary.ts";

/** All of a head in halves, as most models do. */
export const whole = (headDim: number): Rotary => ({ dims: headDim, pairs: "halves" });

/** Ways to rotate a head of 16 elements or more. */
export function rotaries(headDim: number): Rotary[] {
  return [
    whole(headDim),
    { dims: headDim, pairs: "neighbours" },
    { dims: headDim / 2, pairs: "halves" },
    { dims: headDim / 2 - 2, pairs: "neighbours" },
    // Halves that begin and end within a vector, and within the same one.
    { dims: headDim - 4 + headDim % 8, pairs: "halves" },
    { dims: 6, pairs: "halves" },
    { dims: 2, pairs: "halves" },
  ];
}

/** Name of a way for a test. */
export const rotaryName = ({ dims, pairs }: Rotary): string => `${dims} in ${pairs}`;

/**
 * A head in place, at element `at` of x, rotated by `angle(i)` of each pair i; by the opposite angle with a `sign` of −1.
 */
export function rotateHead(
  x: Float64Array,
  at: number,
  { dims, pairs }: Rotary,
  angle: (pair: number) => number,
  sign = 1,
): void {
  for (let i = 0; i < dims / 2; i++) {
    const [first, second] = pairs === "halves" ? [i, i + dims / 2] : [2 * i, 2 * i + 1];
    const [a, b] = [x[at + first], x[at + second]];
    const [cos, sin] = [Math.cos(angle(i)), sign * Math.sin(angle(i))];
    x[at + first] = a * cos - b * sin;
    x[at + second] = b * cos + a * sin;
  }
}

/** The angle of a pair at a position, where nothing is scaled. */
export function plainAngle(
  theta: number,
  { dims }: Rotary,
  position: number,
): (pair: number) => number {
  return (pair) => position / theta ** (2 * pair / dims);
}
