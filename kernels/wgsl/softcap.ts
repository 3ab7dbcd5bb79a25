/**
 * Soft caps as WGSL: c · tanh(x/c), which stays within ±c. c is the uniform `softcap`.
 *
 * WGSL's tanh may be off by 1e-5 and overflow, so it is made of exp(−2|t|), and near 0, where that cancels, of
 * its series; relative error 3e-7.
 *
 * Source: Bello et al., "Neural Combinatorial Optimization with Reinforcement Learning", 2016.
 *
 * @module
 */
import type { LaneType } from "./activation.ts";

/** The uniform of a program with a soft cap. */
export function softcapUniform(softcap: boolean): Record<string, "f32"> {
  return softcap ? { softcap: "f32" } : {};
}

/** Declares `softcapped(x)`, and `softcap_slope(y)`, its derivative where y = softcapped(x); of a program with a cap. */
export function declareSoftcap(softcap: boolean, type: LaneType): string {
  if (!softcap) return "";
  return `
fn softcapped(x: ${type}) -> ${type} {
  let t = x / u.softcap;
  let e = exp(-2.0 * abs(t));
  let far = sign(t) * (1.0 - e) / (1.0 + e);
  let q = t * t;
  let near = t * (1.0 + q * (-1.0 / 3.0 + q * (2.0 / 15.0 + q * (-17.0 / 315.0 + q * (62.0 / 2835.0)))));
  return u.softcap * select(far, near, q < ${type}(0.0625));
}
fn softcap_slope(y: ${type}) -> ${type} {
  let t = y / u.softcap;
  return 1.0 - t * t;
}`;
}

/** A WGSL expression that has gone through the cap of a program with one. */
export function softcapOf(x: string, softcap: boolean): string {
  return softcap ? `softcapped(${x})` : x;
}
