/**
 * Biases of linear layers: the keys of `config.json` by which some families have them, and the adapters that bring
 * some.
 *
 * @module
 */
import type { Fields } from "../files/json_fields.ts";
import type { BaseConfig } from "./base_config.ts";
import { type LinearModule, submoduleOf } from "./linear_modules.ts";

/**
 * A key that a family has no use for, and that must not say otherwise.
 *
 * @param what The family, for the message.
 * @throws UserError that names the field.
 */
export function refuseBias(
  fields: Fields,
  field: "attention_bias" | "mlp_bias",
  what: string,
): false {
  const where = field === "attention_bias" ? "its attention" : "its MLP";
  if (fields.boolean(field, false)) fields.fail(field, `false: ${what} has no biases in ${where}`);
  return false;
}

/** The model with biases in attention or MLP, where `config.json` has a key for both. */
export function withKeyedBias<C extends BaseConfig>(config: C, module: LinearModule): C {
  return submoduleOf(module) === "self_attn"
    ? { ...config, attention_bias: true }
    : { ...config, mlp_bias: true };
}

/** The same where it has one for attention only; undefined for a module of the MLP. */
export function withAttentionBias<C extends BaseConfig>(
  config: C,
  module: LinearModule,
): C | undefined {
  return submoduleOf(module) === "self_attn" ? { ...config, attention_bias: true } : undefined;
}
