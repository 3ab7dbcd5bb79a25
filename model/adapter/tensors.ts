/**
 * The tensors of an adapter by PEFT's names, with their shapes.
 *
 * @module
 */
import { type ModelConfig, weightShapes } from "../families/config.ts";
import { type AdapterPlan, EMBEDDING, ensuresTying, OUTPUT } from "./plan.ts";

/** What stands before a module's name in PEFT's files. */
export const PREFIX = "base_model.model.";

/** PEFT's names of what LoRA adds to a module. */
export interface LoraNames {
  /** `[r, in]`; of an embedding `[r, vocabulary]`. */
  a: string;
  /** `[out, r]`; of an embedding `[hidden, r]`. */
  b: string;
  /** Bias of B `[out]`. */
  bias: string;
  /** DoRA's magnitudes `[out]`. */
  magnitude: string;
}

/** The names of a module, by its full name in the model. */
export function loraNames(module: string): LoraNames {
  const name = PREFIX + module;
  const pair = (matrix: "A" | "B") =>
    module === EMBEDDING ? `${name}.lora_embedding_${matrix}` : `${name}.lora_${matrix}.weight`;
  return {
    a: pair("A"),
    b: pair("B"),
    bias: `${name}.lora_B.bias`,
    magnitude: `${name}.lora_magnitude_vector`,
  };
}

/** Name of the trained rows of an embedding `[tokens, hidden]`. */
export function tokenRowsName(module: string): string {
  return `${PREFIX}${module}.token_adapter.trainable_tokens_delta`;
}

/** What tells `[out, in]` of a module with A and B; of the embedding `[hidden, vocabulary]`. */
function moduleShapes(model: ModelConfig): (module: string) => readonly number[] {
  const { vocab_size: vocab, hidden_size: hidden } = model, weights = weightShapes(model);
  return (module) => {
    if (module === EMBEDDING) return [hidden, vocab];
    if (module === OUTPUT) return [vocab, hidden];
    const shape = weights.get(`${module}.weight`);
    if (shape === undefined) throw new Error(`the model has no module ${module}`);
    return shape;
  };
}

/** Every tensor that LoRA adds to a model, by name, with its shape; modules in order, A before B. */
export function loraShapes(model: ModelConfig, plan: AdapterPlan): Map<string, number[]> {
  const shapes = new Map<string, number[]>();
  const { use_dora, lora_bias } = plan.config, shapeOf = moduleShapes(model);
  for (const [module, { rank }] of plan.modules) {
    const [out, input] = shapeOf(module);
    const names = loraNames(module);
    shapes.set(names.a, [rank, input]);
    shapes.set(names.b, [out, rank]);
    if (lora_bias) shapes.set(names.bias, [out]);
    if (use_dora) shapes.set(names.magnitude, [out]);
  }
  for (const { module, tokens } of plan.tokens) {
    shapes.set(tokenRowsName(module), [tokens.length, model.hidden_size]);
  }
  return shapes;
}

/** Shape of one of the model's own weights; a tied output projection has its embedding's. */
export function weightShape(model: ModelConfig, name: string): number[] | undefined {
  const shapes = weightShapes(model);
  return shapes.get(
    name === `${OUTPUT}.weight` ? shapes.has(name) ? name : `${EMBEDDING}.weight` : name,
  );
}

/**
 * The weight of the model that a tensor of an adapter is a copy of, where it is one: a whole copy, or the bias
 * or the base of a module with A and B, which PEFT keeps as `base_layer`.
 */
export function copiedWeight(tensor: string): string | undefined {
  const match = /^base_model\.model\.(.+?)(?:\.base_layer)?\.(weight|bias)$/.exec(tensor);
  if (match === null || /\.lora_[AB]$/.test(match[1])) return undefined;
  return `${match[1]}.${match[2]}`;
}

/** Name in PEFT's files of the model's own weight `name`, which an adapter has a copy of. */
export function copyName({ modules }: AdapterPlan, name: string): string {
  const dot = name.lastIndexOf("."), module = name.slice(0, dot);
  return `${PREFIX}${module}${modules.has(module) ? ".base_layer" : ""}${name.slice(dot)}`;
}

/** All names that PEFT's files have the weight under: a copy that is tied is stored for both embeddings. */
export function copyNames(plan: AdapterPlan, name: string, model: ModelConfig): string[] {
  const own = copyName(plan, name);
  const tied = name === `${EMBEDDING}.weight` && ensuresTying(plan.config, model);
  return tied ? [own, `${PREFIX}${OUTPUT}.weight`] : [own];
}
