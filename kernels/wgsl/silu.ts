/**
 * The sigmoid linear unit, silu(g) = g · σ(g), as WGSL.
 *
 * Source: Hendrycks and Gimpel, "Gaussian Error Linear Units (GELUs)", 2016.
 *
 * @module
 */

/** A type that the functions below are declared for, lane by lane. */
export type SiluType = "f32" | "vec4<f32>";

/**
 * WGSL `sigmoid(g)`, a struct of σ(g) (`plus`) and σ(−g) (`minus`). Both come from exp(−|g|), which can't overflow;
 * 1 − σ(g) would cancel for large g.
 */
export function sigmoid(type: SiluType): string {
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

/** A WGSL expression of silu of a variable, where {@linkcode sigmoid} is declared. */
export function siluOf(g: string): string {
  return `${g} * sigmoid(${g}).plus`;
}

/** WGSL `silu(g)` and {@linkcode sigmoid}. */
export function silu(type: SiluType): string {
  return `${sigmoid(type)}
fn silu(g: ${type}) -> ${type} { return ${siluOf("g")}; }`;
}
