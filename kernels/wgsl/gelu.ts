/**
 * The Gaussian error linear unit by tanh, gelu(g) = g/2 · (1 + tanh(√(2/π) (g + 0.044715 g³))), as WGSL.
 *
 * It is g · σ(z) with z = 2√(2/π) (g + 0.044715 g³), which does not cancel for negative g; then
 * gelu'(g) = σ(z) (1 + g · σ(−z) · z').
 *
 * Source: Hendrycks and Gimpel, "Gaussian Error Linear Units (GELUs)", 2016.
 *
 * @module
 */
import type { ActivationWgsl, LaneType } from "./activation.ts";
import { sigmoid } from "./silu.ts";

/** z is g · (LINEAR + CUBIC · g²). */
const LINEAR = 2 * Math.sqrt(2 / Math.PI), CUBIC = 0.044715 * LINEAR;

const declare = (type: LaneType) =>
  `${sigmoid(type)}
fn gelu_argument(g: ${type}) -> ${type} { return g * (${LINEAR} + ${CUBIC} * g * g); }
fn gelu_argument_slope(g: ${type}) -> ${type} { return ${LINEAR} + ${3 * CUBIC} * g * g; }`;

/** gelu by tanh. */
export const GELU_TANH: ActivationWgsl = {
  name: "gelu",
  declare,
  declareFunction: (type) =>
    `${declare(type)}
fn gelu(g: ${type}) -> ${type} { return ${GELU_TANH.value("g")}; }`,
  value: (g) => `${g} * sigmoid(gelu_argument(${g})).plus`,
  gradient: (g) => ({
    statements: `let s = sigmoid(gelu_argument(${g}));`,
    value: `${g} * s.plus`,
    slope: `s.plus * (1.0 + ${g} * s.minus * gelu_argument_slope(${g}))`,
  }),
};
