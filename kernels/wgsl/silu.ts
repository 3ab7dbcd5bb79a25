/**
 * The sigmoid linear unit, silu(g) = g · σ(g), as WGSL.
 *
 * Source: Hendrycks and Gimpel, "Gaussian Error Linear Units (GELUs)", 2016.
 *
 * @module
 */
import type { ActivationWgsl, LaneType } from "./activation.ts";

/**
 * WGSL `sigmoid(g)`, a struct of σ(g) (`plus`) and σ(−g) (`minus`). Both come from exp(−|g|), which can't overflow;
 * 1 − σ(g) would cancel for large g.
 */
export function sigmoid(type: LaneType): string {
  return `
struct Sigmoid { plus: ${type}, minus: ${type} }
fn sigmoid(g: ${type}) -> Sigmoid {
  let e = exp(-abs(g));
  let large = 1.0 / (1.0 + e);
  let small = e * large;
  let positive = g >= ${type}();
  return Sigmoid(select(small, large, positive), select(large, small, positive));
}`;
}

/** silu. */
export const SILU: ActivationWgsl = {
  name: "silu",
  declare: sigmoid,
  declareFunction: (type) =>
    `${sigmoid(type)}
fn silu(g: ${type}) -> ${type} { return ${SILU.value("g")}; }`,
  value: (g) => `${g} * sigmoid(${g}).plus`,
  gradient: (g) => ({
    statements: `let s = sigmoid(${g});`,
    value: `${g} * s.plus`,
    slope: `s.plus * (1.0 + ${g} * s.minus)`,
  }),
};
