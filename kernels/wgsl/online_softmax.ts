/**
 * Softmax over keys that arrive a few at a time, in WGSL: a running maximum m of the scores and the denominator
 * l = Σ e^(s − m) beside the weighted sum of values. Where a later key raises m, what was summed up so far is
 * corrected by a factor. Source: Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018.
 *
 * @module
 */

/** Which power scores are exponents of; `exp2` takes scores that were multiplied by log2(e). */
export type Power = "exp" | "exp2";

/** Declares the score of a key that is not attended to, with which a running maximum begins. */
export const DECLARE_MASKED =
  `// A score that is no score. A true one may be NaN or infinite and must stay so.
const MASKED = -3.4028234e38;`;

/** The factor that brings what was summed up under the maximum \`from\` to the maximum \`to\`; a score's weight. */
export function relativeWeight(from: string, to: string, power: Power = "exp2"): string {
  return `${power}(${from} - ${to})`;
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
