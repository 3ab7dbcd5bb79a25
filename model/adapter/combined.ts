/**
 * Several adapters of a model as one: their ranks lie side by side, so that one pass may have rows of all of them
 * (kernels/ops/lora/own_ranks.ts).
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import { type ModelConfig, weightShapes } from "../families/config.ts";
import { adapterConfig } from "./adapter_config.ts";
import type { Adapter, AdapterTensor } from "./adapter_folder.ts";
import { type AdapterPlan, EMBEDDING, OUTPUT } from "./plan.ts";
import { loraNames, loraShapes } from "./tensors.ts";

/** An adapter that was read and checked, and what to call it in messages. */
export interface NamedAdapter extends Adapter {
  readonly name: string;
  readonly plan: AdapterPlan;
}

/** Adapters as one. */
export interface CombinedAdapters extends Adapter {
  readonly plan: AdapterPlan;
  /** The adapter of each rank, counted from 1: 0 is the model without one. */
  readonly owners: Uint32Array;
}

/** What an adapter changes besides linear layers, whose update is all that rows can have of their own. */
function otherChange({ config, modules, replaced, biases, tokens }: AdapterPlan) {
  if (config.use_dora) return "use_dora";
  if (config.lora_bias) return "lora_bias";
  if (replaced.length > 0) return "modules_to_save";
  if (biases.length > 0) return `bias "${config.bias}"`;
  if (tokens.length > 0) return "trainable_token_indices";
  return modules.has(EMBEDDING) ? "embed_tokens among its target_modules" : undefined;
}

/** Ranks that an adapter takes: as kernels read them, four at a time. */
function widthOf({ modules }: AdapterPlan): number {
  return 4 * Math.ceil(Math.max(...[...modules.values()].map(({ rank }) => rank)) / 4);
}

/**
 * Puts adapters side by side. Their scales go into B.
 *
 * @param model As the adapters were checked for.
 * @throws {UserError} that names an adapter which changes more than linear layers.
 */
export function combineAdapters(
  adapters: readonly NamedAdapter[],
  model: ModelConfig,
): CombinedAdapters {
  for (const { name, plan } of adapters) {
    const change = otherChange(plan);
    if (change === undefined) continue;
    throw new UserError(
      `adapter ${name} has ${change}, which rows of one pass can't have each on their own; expected an adapter ` +
        "of linear layers alone (merge makes this one a model)",
    );
  }
  const widths = adapters.map(({ plan }) => widthOf(plan));
  const rank = widths.reduce((sum, width) => sum + width, 0);
  const firsts = widths.map((_, i) => widths.slice(0, i).reduce((sum, width) => sum + width, 0));
  const names = [...weightShapes(model).keys(), `${OUTPUT}.weight`]
    .map((weight) => weight.slice(0, -".weight".length))
    .filter((name) => adapters.some(({ plan }) => plan.modules.has(name)));
  const modules = new Map(names.map((name) => [name, { rank, scale: 1 }]));
  const plan: AdapterPlan = {
    config: adapterConfig({ r: rank, lora_alpha: rank, target_modules: [...modules.keys()] }),
    modules,
    replaced: [],
    biases: [],
    tokens: [],
    unties: false,
  };
  const shapes = loraShapes(model, plan), tensors = new Map<string, AdapterTensor>();
  for (const [name, shape] of shapes) {
    tensors.set(name, { shape, data: new Float32Array(shape[0] * shape[1]) });
  }
  for (const [i, { plan: own, tensors: ownTensors }] of adapters.entries()) {
    for (const [module, { rank: ownRank, scale }] of own.modules) {
      const { a, b } = loraNames(module);
      const read = (name: string) => pick(ownTensors, name),
        write = (name: string) => pick(tensors, name);
      const input = write(a).shape[1], output = write(b).shape[0];
      write(a).data.set(read(a).data.subarray(0, ownRank * input), firsts[i] * input);
      for (let row = 0; row < output; row++) {
        const values = read(b).data.subarray(row * ownRank, (row + 1) * ownRank);
        write(b).data.set(values.map((value) => scale * value), row * rank + firsts[i]);
      }
    }
  }
  const owners = Uint32Array.from(widths.flatMap((width, i) => Array(width).fill(i + 1)));
  return { config: plan.config, tensors, plan, owners };
}

function pick(tensors: ReadonlyMap<string, AdapterTensor>, name: string): AdapterTensor {
  const tensor = tensors.get(name);
  if (tensor === undefined) throw new Error(`an adapter that was checked has no ${name}`);
  return tensor;
}
