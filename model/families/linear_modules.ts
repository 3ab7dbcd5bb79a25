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

/** Linear layers that are several of these in one, and which: their outputs side by side. */
export const FUSED_MODULES = {
  qkv_proj: ["q_proj", "k_proj", "v_proj"],
  gate_up_proj: ["gate_proj", "up_proj"],
} as const satisfies Record<string, readonly (keyof typeof LINEAR_MODULES)[]>;

/** A linear layer of a block that LoRA can adapt. */
export type LinearModule = keyof typeof LINEAR_MODULES | keyof typeof FUSED_MODULES;

/** The four products of a block: each is one of all linear layers that read the same input. */
export type PackedName = "qkv" | "o" | "gateUp" | "down";

/** The linear layers of a block by product, in the order of their columns. */
export type LinearLayers = Readonly<Record<PackedName, readonly LinearModule[]>>;

/** One layer for each of q, k, v, gate and up. */
export const SEPARATE_LAYERS: LinearLayers = {
  qkv: FUSED_MODULES.qkv_proj,
  o: ["o_proj"],
  gateUp: FUSED_MODULES.gate_up_proj,
  down: ["down_proj"],
};

/** One layer for q, k and v, and one for gate and up. */
export const FUSED_LAYERS: LinearLayers = {
  qkv: ["qkv_proj"],
  o: ["o_proj"],
  gateUp: ["gate_up_proj"],
  down: ["down_proj"],
};

function isFused(name: string): name is keyof typeof FUSED_MODULES {
  return Object.hasOwn(FUSED_MODULES, name);
}

/** Whether a word names a linear layer of a block. */
export function isLinearModule(name: unknown): name is LinearModule {
  return typeof name === "string" && (Object.hasOwn(LINEAR_MODULES, name) || isFused(name));
}

/** The submodule of a block that a linear layer belongs to. */
export function submoduleOf(module: LinearModule): "self_attn" | "mlp" {
  return LINEAR_MODULES[isFused(module) ? FUSED_MODULES[module][0] : module];
}

/** The layer of these that is, or holds, a layer of that name; undefined where none does. */
export function layerHolding(
  layers: LinearLayers,
  module: LinearModule,
): LinearModule | undefined {
  const all = Object.values<readonly LinearModule[]>(layers).flat();
  return all.find((layer) =>
    layer === module || isFused(layer) && FUSED_MODULES[layer].some((part) => part === module)
  );
}
