/**
 * Online softmax as WGSL: Σ exp(s) of scores that come one after the other, each relative to the highest score so
 * far, so that nothing overflows. Where the maximum grows, what was summed is corrected by
 * exp(old maximum − new maximum).
 *
 * Source: Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018.
 *
 * @module
 */

/** WGSL's function of the powers: `exp2` for scores that were multiplied by log₂ e. */
export type Power = "exp" | "exp2";

/**
 * A WGSL expression of a score's weight relative to a maximum; of an old maximum it is the factor that corrects
 * what was summed relative to it.
 */
export function weightOf(score: string, maximum: string, power: Power = "exp2"): string {
  return `${power}(${score} - ${maximum})`;
}

/** Declares the score of a key that is not attended to, with which a running maximum begins. */
export const DECLARE_MASKED =
  `// A score that is no score. A true one may be NaN or infinite and must stay so.
const MASKED = -3.4028234e38;`;

/** A WGSL expression of a score's weight relative to a maximum, 0 where the score is MASKED. */
export function maskedWeight(score: string, maximum: string): string {
  return `select(${weightOf(score, maximum)}, 0.0, ${score} == MASKED)`;
}

/** A WGSL expression of a sum (of weights, or of weighted values) that is corrected and added to. */
export function corrected(sum: string, correction: string, added: string): string {
  return `${sum} * ${correction} + ${added}`;
}
