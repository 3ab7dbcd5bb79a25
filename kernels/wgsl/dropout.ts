/**
 * Inverted dropout: x · mask / (1 − p), with mask 0 at probability p, as kernels that read x apply it.
 *
 * The mask is never stored: elements 4i to 4i + 3 of x take the four words of
 * {@linkcode pcg4d}(i, seed, step, subsequence), so backward and recomputed forward passes make it again.
 * Source: Srivastava et al., "Dropout", 2014.
 *
 * @module
 */
import { PCG4D, pcg4d } from "./hash.ts";

/** What a mask depends on: probability in [0, 1), and u32 words. */
export interface DropoutMask {
  p: number;
  seed: number;
  step: number;
  /** Differs between the places in a model that drop out. */
  subsequence: number;
}

/** Words below this are dropped. */
function threshold(p: number): number {
  if (!(p >= 0 && p < 1)) throw new Error(`dropout probability ${p} is not in [0, 1)`);
  return Math.min(Math.round(p * 2 ** 32), 2 ** 32 - 1);
}

/** Uniforms that {@linkcode KEEP_MASK} reads. */
export const MASK_UNIFORMS = { seed: "u32", step: "u32", dropped: "u32" } as const;

/** Values of {@linkcode MASK_UNIFORMS}. */
export function maskUniforms(
  { p, seed, step }: Omit<DropoutMask, "subsequence">,
): { seed: number; step: number; dropped: number } {
  return { seed, step, dropped: threshold(p) };
}

/** WGSL `keepMask(i, subsequence)`: which elements of vector i a subsequence keeps. */
export const KEEP_MASK = `${PCG4D}
fn keepMask(i: u32, subsequence: u32) -> vec4<bool> {
  return pcg4d(vec4<u32>(i, u.seed, u.step, subsequence)) >= vec4<u32>(u.dropped);
}`;

/** The first `count` elements' mask, 1 where kept: what the kernels use, on the host. */
export function dropoutMask(
  count: number,
  { p, seed, step, subsequence }: DropoutMask,
): Uint8Array {
  const mask = new Uint8Array(count);
  const dropped = threshold(p);
  for (let i = 0; i < count; i += 4) {
    const words = pcg4d(i / 4, seed, step, subsequence);
    for (let lane = 0; lane < 4 && i + lane < count; lane++) {
      mask[i + lane] = words[lane] >= dropped ? 1 : 0;
    }
  }
  return mask;
}
