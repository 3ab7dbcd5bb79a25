/**
 * A model's parameters put together: which of them share a buffer, and which make up a block.
 *
 * @module
 */
import type { ActivationSizes, GroupName } from "./activations.ts";
import type { Block } from "./block.ts";
import { type LlamaConfig, weightShapes } from "./config.ts";
import {
  type Adapter,
  adapterShapes,
  adapterTensorName,
  isLinearModule,
  LINEAR_MODULES,
  type LinearModule,
} from "./files/adapter.ts";
import { isPlain, type Linear, type LinearGroup, linearGroup } from "./linear.ts";
import type { Parameter, ParameterSpec } from "./parameters.ts";

/** Adapters of a model. */
export interface LoraOptions {
  rank: number;
  alpha: number;
  targets: readonly LinearModule[];
}

/** What makes room for an adapter. */
export function loraOptions({ config }: Adapter): LoraOptions {
  return { rank: config.r, alpha: config.lora_alpha, targets: config.target_modules };
}

/** Weights that share a buffer: each block's, and each of the rest. */
export function weightGroups(config: LlamaConfig, trained: boolean): Map<string, ParameterSpec[]> {
  const groups = new Map<string, ParameterSpec[]>();
  for (const [name, shape] of weightShapes(config)) {
    const label = /^model\.layers\.\d+/.exec(name)?.[0] ?? name;
    if (!groups.has(label)) groups.set(label, []);
    groups.get(label)!.push({ name, shape, trained });
  }
  // Matrices of one input are to lie side by side, with no bias in between.
  for (const specs of groups.values()) {
    specs.sort((a, b) => Number(/bias$/.test(a.name)) - Number(/bias$/.test(b.name)));
  }
  return groups;
}

/** The tensors of an adapter, layers in order. */
export function loraSpecs(
  config: LlamaConfig,
  lora: LoraOptions,
  trained: boolean,
): ParameterSpec[] {
  const shapes = adapterShapes(config, { r: lora.rank, target_modules: [...lora.targets] });
  return Array.from(shapes, ([name, shape]) => ({ name, shape, trained }));
}

/** Block `layer`. */
export function makeBlock(
  layer: number,
  weights: Map<string, Parameter>,
  adapters: Map<string, Parameter>,
  lora?: LoraOptions,
): Block {
  const modules = Object.keys(LINEAR_MODULES).filter(isLinearModule);
  const linearOf = (module: LinearModule): Linear => {
    const a = adapters.get(adapterTensorName(layer, module, "A"));
    const b = adapters.get(adapterTensorName(layer, module, "B"));
    const stream = layer * modules.length + modules.indexOf(module);
    const pair = a && b && lora ? { a, b, scale: lora.alpha / lora.rank, stream } : undefined;
    const name = `model.layers.${layer}.${LINEAR_MODULES[module]}.${module}`;
    const [weight, bias] = [weights.get(`${name}.weight`)!, weights.get(`${name}.bias`)];
    return { weight, bias, lora: pair };
  };
  const normOf = (name: string) => weights.get(`model.layers.${layer}.${name}.weight`)!;
  const groupOf = (...group: LinearModule[]) => linearGroup(group.map(linearOf));
  return {
    input_layernorm: normOf("input_layernorm"),
    qkv: groupOf("q_proj", "k_proj", "v_proj"),
    o: groupOf("o_proj"),
    post_attention_layernorm: normOf("post_attention_layernorm"),
    gateUp: groupOf("gate_proj", "up_proj"),
    down: groupOf("down_proj"),
  };
}

/** What buffers the groups of a block ask for; all blocks are alike. */
export function groupSizes(
  { qkv, o, gateUp, down }: Block,
): Pick<ActivationSizes, "low" | "projected" | "stacked"> {
  const low = ({ lora }: LinearGroup) =>
    lora === undefined ? 0 : lora.modules.reduce((sum, { a }) => sum + a.shape[0], 0);
  const sizes: Record<GroupName, number> = {
    ...{ qkv: low(qkv), o: low(o), gateUp: low(gateUp), down: low(down) },
  };
  return {
    low: sizes,
    projected: ![o, down].every(isPlain),
    stacked: [qkv, gateUp].every(({ weight }) => weight !== undefined),
  };
}

/** Whether the block has adapters that are trained. */
export function isTrained({ qkv, o, gateUp, down }: Block): boolean {
  return [qkv, o, gateUp, down].some(({ lora }) => lora?.modules[0].gradA !== undefined);
}
