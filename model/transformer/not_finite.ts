/**
 * Results that are no finite numbers: said where they come up, with what to try.
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";

/** What decides how large numbers may become. */
export interface Numerics {
  precision: "fp32" | "mixed";
  /** Whether products keep f32 in mixed precision. */
  exact?: boolean;
  /** Given where activations are kept for a backward pass: in f16 then, whatever products do. */
  checkpointing?: string;
}

/** A result that is NaN or infinite. Whatever was asked for can't be had this way. */
export class NotFinite extends UserError {
  override name = "NotFinite";

  /**
   * @param what The result: where it came up and what it is.
   * @param cause What else, beside the numbers' range, may have led to it.
   */
  constructor(
    what: string,
    { precision, exact = false, checkpointing }: Numerics,
    cause: string,
  ) {
    const range = "in mixed precision what exceeds f16 (65504) becomes infinite: try ";
    const helps = exact || checkpointing !== undefined ? "" : "--exact-products or ";
    const remedy = precision === "fp32"
      ? `expected finite numbers: ${cause}`
      : `${range}${helps}--precision fp32, unless ${cause}`;
    super(`${what}; ${remedy}`);
  }
}

/** Why a model that is not in training may give results that are not finite. */
export const DAMAGED = "the weights of the model or of its adapter are damaged or diverged";
