/**
 * The linear layers of a block, in their order, by the names that they have in all families.
 *
 * @module
 */

/** The linear layers of a block, and the submodule that each belongs to. */
export const LINEAR_MODULES = {
  q_proj: "self_attn",
  k_proj: "self_attn",
  v_proj: "self_attn",
  o_proj: "self_attn",
  gate_proj: "mlp",
  up_proj: "mlp",
  down_proj: "mlp",
} as const;

/** A linear layer of a block that LoRA can adapt. */
export type LinearModule = keyof typeof LINEAR_MODULES;

/** Whether a word names one of the seven linear layers. */
export function isLinearModule(name: unknown): name is LinearModule {
  return typeof name === "string" && Object.hasOwn(LINEAR_MODULES, name);
}
