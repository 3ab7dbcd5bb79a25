/**
 * Results that are no finite numbers: said where they come up, with what to try.
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import type { Numerics } from "../../kernels/ops/numerics.ts";
import type { Mode } from "./modes.ts";

/** What decides how large numbers may become: of a model. */
export interface NumberRange {
  numerics: Numerics;
  /** Training keeps activations in f16 for its backward pass, whatever products do. */
  mode: Pick<Mode, "kind">;
}

/** A result that is NaN or infinite. Whatever was asked for can't be had this way. */
export class NotFinite extends UserError {
  override name = "NotFinite";

  /**
   * @param what The result: where it came up and what it is.
   * @param cause What may have led to it besides the numbers' range.
   */
  constructor(
    what: string,
    { numerics: { storage, operands }, mode }: NumberRange,
    cause: string,
  ) {
    const range = "in mixed precision what exceeds f16 (65504) becomes infinite: try ";
    const helps = operands === "f32" || mode.kind === "train" ? "" : "--exact-products or ";
    const remedy = storage === "f32"
      ? `expected finite numbers: ${cause}`
      : `${range}${helps}--precision fp32, unless ${cause}`;
    super(`${what}; ${remedy}`);
  }
}

/** Why a model that is not in training may give results that are not finite. */
export const DAMAGED = "the weights of the model or of its adapter are damaged or diverged";
