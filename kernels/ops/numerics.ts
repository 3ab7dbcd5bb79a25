/**
 * The precision that a model computes in, as operations take it.
 *
 * @module
 */

/** Element types of floating-point numbers. */
export type Float = "f32" | "f16";

/**
 * The precision of a model's operations. Norms, softmax, losses and all long sums are f32 whatever it says; so are
 * the masters and gradients of what is trained.
 */
export interface Numerics {
  /** Element type that weights and activations are stored in. */
  readonly storage: Float;
  /**
   * Element type that matrix products may round their operands to. With `f16`, products outside of tensor cores also
   * add up short ranges of K in f16 (kernels/ops/matmul/tiled.ts); where a device has no f16 they stay f32.
   */
  readonly operands: Float;
}

/** Everything in f32. */
export const EXACT: Numerics = { storage: "f32", operands: "f32" };
