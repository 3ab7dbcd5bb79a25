/**
 * From the keys of `lora` to what is trained: PEFT's configuration of a new adapter, or that of the adapter a
 * run starts from.
 *
 * @module
 */
import { UsageError } from "../../kernels/errors.ts";
import { type AdapterPlan, adapterPlan } from "../../model/adapter/plan.ts";
import { archSpec, type ModelConfig } from "../../model/families/config.ts";
import {
  type AdapterConfig,
  adapterConfig,
  adapterConfigJson,
  ALL_LINEAR,
  parseAdapterConfig,
} from "../../model/adapter/adapter_config.ts";
import {
  isLinearModule,
  layerHolding,
  type LinearModule,
} from "../../model/families/linear_modules.ts";
import type { LoraSettings } from "./schema.ts";

/** What a run's adapter is called in messages. */
const NAME = "the adapter";
/** Modules outside of blocks, by full name: PEFT then takes them whatever the blocks are. */
const OUTSIDE: Readonly<Record<string, string>> = { embed_tokens: "model.embed_tokens" };

/**
 * `target_modules` as PEFT has it. All linear layers are named: other programs don't know the word for them. A layer that the
 * model has as a part of another stands for that one.
 */
function targetModules({ targets, layers }: LoraSettings, model: ModelConfig): string[] {
  const { linears } = archSpec(model);
  const all = Object.values<readonly LinearModule[]>(linears).flat();
  const ownName = (name: string) =>
    isLinearModule(name) ? layerHolding(linears, name) ?? name : name;
  const names = targets === ALL_LINEAR ? all : [...new Set(Array.from(targets, ownName))];
  return layers === undefined ? names : names.map((name) => OUTSIDE[name] ?? name);
}

/** PEFT's configuration of what is trained. @throws {UserError} for blocks that the model does not have. */
function trainedConfig(lora: LoraSettings, model: ModelConfig): AdapterConfig {
  if (lora.adapter !== undefined) {
    return { ...parseAdapterConfig(lora.adapter, NAME), lora_dropout: lora.dropout };
  }
  const beyond = lora.layers?.find((number) => number >= model.num_hidden_layers);
  if (beyond !== undefined) {
    throw new UsageError(
      `lora.layers has ${beyond}; expected numbers below ${model.num_hidden_layers}, the model's blocks`,
    );
  }
  return adapterConfig({
    r: lora.rank,
    lora_alpha: lora.alpha,
    lora_dropout: lora.dropout,
    target_modules: targetModules(lora, model),
    layers_to_transform: lora.layers ?? null,
    modules_to_save: lora.modules_to_save.length === 0 ? null : lora.modules_to_save,
    use_rslora: lora.rslora,
    use_dora: lora.dora,
  });
}

/** What is trained of a model. @throws {UserError} for what the model does not have. */
export function trainedPlan(lora: LoraSettings, model: ModelConfig): AdapterPlan {
  return adapterPlan(trainedConfig(lora, model), model, NAME);
}

/** What two plans have to have in common, for a key that says something about it. */
const sameModules = (a: AdapterPlan, b: AdapterPlan) =>
  [...a.modules.keys()].join() === [...b.modules.keys()].join();

/** The keys that an adapter has a value for, and whether a given one agrees with it. */
const KEYS: Record<
  "rank" | "alpha" | "rslora" | "dora" | "targets" | "layers" | "modules_to_save",
  {
    has: (config: AdapterConfig) => unknown;
    agrees: (requested: AdapterPlan, has: AdapterPlan) => boolean;
  }
> = {
  rank: { has: (c) => c.r, agrees: (a, b) => a.config.r === b.config.r },
  alpha: {
    has: (c) => c.lora_alpha,
    agrees: (a, b) => a.config.lora_alpha === b.config.lora_alpha,
  },
  rslora: {
    has: (c) => c.use_rslora,
    agrees: (a, b) => a.config.use_rslora === b.config.use_rslora,
  },
  dora: { has: (c) => c.use_dora, agrees: (a, b) => a.config.use_dora === b.config.use_dora },
  targets: { has: (c) => c.target_modules, agrees: sameModules },
  layers: { has: (c) => c.layers_to_transform ?? "unset", agrees: sameModules },
  modules_to_save: {
    has: (c) => c.modules_to_save ?? [],
    agrees: (a, b) => a.replaced.join() === b.replaced.join(),
  },
};

/**
 * The keys of `lora` for a run that starts from an adapter: what is not given is the adapter's.
 *
 * @param from `given`: the keys that are. `what`: what the adapter is called in messages.
 * @throws {UserError} for a key that was given otherwise than the adapter has it.
 */
export function settingsFrom(
  lora: LoraSettings,
  config: AdapterConfig,
  { given, model, what }: { given: ReadonlySet<string>; model: ModelConfig; what: string },
): LoraSettings {
  const plan = adapterPlan(config, model, what);
  for (const [key, { has, agrees }] of Object.entries(KEYS)) {
    if (!given.has(key)) continue;
    // What the key says alone decides: everything else is taken from the adapter.
    const others = { ...config, exclude_modules: null, rank_pattern: {}, alpha_pattern: {} };
    const said: Partial<AdapterConfig> = {
      rank: { r: lora.rank },
      alpha: { lora_alpha: lora.alpha },
      rslora: { use_rslora: lora.rslora },
      dora: { use_dora: lora.dora },
      targets: { target_modules: targetModules(lora, model) },
      layers: { layers_to_transform: lora.layers ?? null },
      modules_to_save: { modules_to_save: lora.modules_to_save },
    }[key as keyof typeof KEYS];
    if (agrees(adapterPlan({ ...others, ...said }, model, what), plan)) continue;
    const [value, requested] = [has(config), lora[key as keyof typeof KEYS]].map((v) =>
      Array.isArray(v) ? v.join(",") : v
    );
    throw new UsageError(
      `adapter ${what} has ${key} ${value}, but lora.${key} is ${requested}; expected the same`,
    );
  }
  return {
    ...lora,
    rank: config.r,
    alpha: config.lora_alpha,
    dropout: given.has("dropout") ? lora.dropout : config.lora_dropout,
    targets: typeof config.target_modules === "string"
      ? config.target_modules
      : [...config.target_modules],
    layers: config.layers_to_transform === null ? undefined : [...config.layers_to_transform],
    modules_to_save: [...config.modules_to_save ?? []],
    rslora: config.use_rslora,
    dora: config.use_dora,
    adapter: adapterConfigJson(config),
  };
}
