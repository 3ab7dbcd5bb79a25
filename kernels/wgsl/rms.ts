/**
 * RMSNorm as WGSL: the scale 1/rms(x), rms(x) = √(mean(x²) + ε), and the weight.
 *
 * Source: Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019.
 *
 * @module
 */

/**
 * A WGSL expression of the scale of a row. ε is the uniform `eps`.
 *
 * @param squares WGSL of the sum of the row's squares.
 * @param width WGSL of the row's elements, an f32.
 */
export function rmsScale(squares: string, width: string): string {
  return `inverseSqrt(${squares} / ${width} + u.eps)`;
}

/** What is added to a norm's weight before it multiplies: 1 where a model keeps the weights' distance from one. */
export type NormOffset = 0 | 1;

/** How a norm is computed: ε, and what is added to its weight. */
export interface NormKind {
  readonly eps: number;
  readonly offset: NormOffset;
}

/** A WGSL expression of what a norm multiplies by, of an expression of its weight. */
export function normWeight(weight: string, offset: NormOffset): string {
  return offset === 0 ? weight : `(1.0 + ${weight})`;
}
