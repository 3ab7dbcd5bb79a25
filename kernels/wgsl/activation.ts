/**
 * What a program needs of the activation f of a gated MLP, as WGSL: y = f(gate) · up. One file an activation
 * (silu.ts, gelu.ts); activations.ts lists them.
 *
 * @module
 */

/** A type that functions are declared for, lane by lane. */
export type LaneType = "f32" | "vec4<f32>";

/** An activation as WGSL. */
export interface ActivationWgsl {
  /** What the function that {@linkcode ActivationWgsl.declareFunction} declares is called. */
  readonly name: string;
  /** Declares what `value` and `gradient` call. */
  declare(type: LaneType): string;
  /** Declares `name(g)` too. */
  declareFunction(type: LaneType): string;
  /** An expression of f of a variable. */
  value(g: string): string;
  /** Where both are wanted of a variable: statements, and then expressions of f and f'. */
  gradient(g: string): { statements: string; value: string; slope: string };
}
