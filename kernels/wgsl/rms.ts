/**
 * The scale of RMSNorm as WGSL: 1/rms(x), rms(x) = √(mean(x²) + ε).
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
