/**
 * Whether a model can run with its adapter off.
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import type { AdapterPlan } from "./plan.ts";

/** What trains weights that are the model's own, which hold what they were before no more; undefined for nothing. */
function trainsInPlace(plan: AdapterPlan | undefined): string | undefined {
  if (plan === undefined) return "lora: off";
  if (plan.replaced.length > 0) return "modules_to_save";
  if (plan.biases.length > 0) return `bias: ${plan.config.bias}`;
  return plan.tokens.length > 0 ? "trainable_token_indices" : undefined;
}

/**
 * Refuses a run that has no model with its adapter off, as there is none or parts of it are not beside the weights.
 *
 * @throws {UserError} that names the setting.
 */
export function checkTurnsOff(plan: AdapterPlan | undefined): void {
  const what = trainsInPlace(plan);
  if (what === undefined) return;
  throw new UserError(
    `objective: its reference is the model with the adapter off, but ${what} trains weights of the model itself`,
  );
}
