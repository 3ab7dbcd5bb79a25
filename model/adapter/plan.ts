/**
 * What an adapter does to a model, module by module: PEFT 0.21's rules for `adapter_config.json` applied to
 * the names of a Llama's modules. Reading, running, training, writing and merging all follow this plan.
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import { type ModelConfig, weightShapes } from "../families/config.ts";
import { type AdapterConfig, adapterConfig, ALL_LINEAR } from "./adapter_config.ts";
import { brief } from "../files/json_file.ts";
import { endMatch, fromPython, fullMatch, partMatch, PatternProblem } from "./python_pattern.ts";

/** How LoRA adapts one module. */
export interface ModulePlan {
  rank: number;
  /** What the update is multiplied by: α/r, or α/√r. */
  scale: number;
}

/** Rows of an embedding or of the output projection that are trained. */
export interface TokenRows {
  /** `model.embed_tokens` or `lm_head`. */
  module: string;
  /** Tokens in the order of the stored rows. */
  tokens: readonly number[];
}

/** What an adapter does to a model. */
export interface AdapterPlan {
  config: AdapterConfig;
  /** The modules with A and B, by full name (`model.layers.0.self_attn.q_proj`), in the model's order. */
  modules: ReadonlyMap<string, ModulePlan>;
  /** Weights of the model that the adapter has copies of: those of `modules_to_save`. */
  replaced: readonly string[];
  /** Biases of the model that are trained, by parameter name. */
  biases: readonly string[];
  tokens: readonly TokenRows[];
  /** Whether the output projection of a model with tied embeddings becomes a weight of its own. */
  unties: boolean;
}

/** Full name of the token embedding's module, and of the output projection's. */
export const EMBEDDING = "model.embed_tokens", OUTPUT = "lm_head";

/** A module of a model, as PyTorch names it. */
interface Module {
  name: string;
  /** What its weight is; `other`: it has none of two dimensions, or none. */
  kind: "linear" | "embedding" | "other";
}

/** A model's modules, those with submodules before these. */
function modulesOf(model: ModelConfig): Module[] {
  const modules = new Map<string, Module>();
  for (const [weight, shape] of weightShapes(model)) {
    const parts = weight.split(".").slice(0, -1);
    for (let length = 1; length < parts.length; length++) {
      const name = parts.slice(0, length).join(".");
      if (!modules.has(name)) modules.set(name, { name, kind: "other" });
    }
    const name = parts.join(".");
    const kind = name === EMBEDDING ? "embedding" : shape.length === 2 ? "linear" : "other";
    if (!modules.has(name)) modules.set(name, { name, kind });
  }
  modules.set(OUTPUT, { name: OUTPUT, kind: "linear" });
  // Modules without weights: a pattern that matches one is refused.
  const blocks = Array.from({ length: model.num_hidden_layers }, (_, i) => `model.layers.${i}`);
  for (const name of ["model.rotary_emb", ...blocks.map((block) => `${block}.mlp.act_fn`)]) {
    modules.set(name, { name, kind: "other" });
  }
  return [...modules.values()];
}

/** A test of whether names are those of a list, or end in one of them after a dot. */
export function nameMatch(names: readonly string[]): (name: string) => boolean {
  return (name) => names.some((end) => name === end || name.endsWith(`.${end}`));
}

/** A test of names out of a pattern or a list. */
const matcher = (names: string | readonly string[]) =>
  typeof names === "string" ? fullMatch(names) : nameMatch(names);

/** The number of the block that a module is in, as PEFT finds it: undefined outside of blocks. */
function blockIn(patterns: readonly string[] | null): (name: string) => number | undefined {
  const sources = patterns === null
    ? [/^.*?\.[^.]*\.(\d+)\./]
    : patterns.map((pattern) => new RegExp(`^(?:|.*?\\.)${fromPython(pattern)}\\.(\\d+)\\.`));
  return (name) => {
    const found = sources.map((source) => source.exec(name)).find((match) => match !== null);
    const number = found?.at(-1);
    return number === undefined ? undefined : Number(number);
  };
}

/** Which modules are targets. */
function targetTest(config: AdapterConfig, modules: readonly Module[]): (name: string) => boolean {
  const { exclude_modules, layers_to_transform: layers, modules_to_save } = config;
  const everyLinear = typeof config.target_modules === "string" &&
    config.target_modules.toLowerCase() === ALL_LINEAR;
  const targets = everyLinear
    ? modules.filter(({ kind, name }) => kind === "linear" && name !== OUTPUT).map((m) => m.name)
    : config.target_modules;
  const isTarget = matcher(targets);
  const isExcluded = exclude_modules === null ? () => false : matcher(exclude_modules);
  const saved = (modules_to_save ?? []).map(partMatch);
  const block = blockIn(config.layers_pattern);
  return (name) => {
    if (isExcluded(name) || saved.some((is) => is(name)) || !isTarget(name)) return false;
    // Whole names are targets in every block.
    if (layers === null || typeof targets === "string" || targets.includes(name)) return true;
    const number = block(name);
    return number !== undefined && layers.includes(number);
  };
}

/** The value of the first pattern that matches a name's end, or `otherwise`. */
function patternValue(patterns: Readonly<Record<string, number>>, otherwise: number) {
  const tests = Object.entries(patterns).map(([key, value]) => ({ is: endMatch(key), value }));
  return (name: string) => tests.find(({ is }) => is(name))?.value ?? otherwise;
}

/**
 * Applies a configuration to a model.
 *
 * @param file What the configuration is called in messages.
 * @throws UserError that names the field, where it asks for what PEFT or this project can't do.
 */
export function adapterPlan(config: AdapterConfig, model: ModelConfig, file: string): AdapterPlan {
  try {
    return resolve(config, model, file);
  } catch (error) {
    if (!(error instanceof PatternProblem)) throw error;
    throw new UserError(`${file}: a pattern of module names ${error.message}`);
  }
}

function resolve(config: AdapterConfig, model: ModelConfig, file: string): AdapterPlan {
  const fail = (what: string): never => {
    throw new UserError(`${file}: ${what}`);
  };
  const modules = modulesOf(model), isTarget = targetTest(config, modules);
  const rank = patternValue(config.rank_pattern, config.r);
  const alpha = patternValue(config.alpha_pattern, config.lora_alpha);
  const adapted = new Map<string, ModulePlan>();
  for (const { name, kind } of modules) {
    if (!isTarget(name)) continue;
    if (kind === "other") {
      fail(`target_modules matches ${name}, which is no linear layer or embedding`);
    }
    const r = rank(name), divisor = config.use_rslora ? Math.sqrt(r) : r;
    adapted.set(name, { rank: r, scale: alpha(name) / divisor });
  }
  if (adapted.size === 0) {
    fail(`target_modules is ${brief(config.target_modules)}, expected names of the model's layers`);
  }
  const weights = [...weightShapes(model).keys()];
  if (model.tie_word_embeddings) weights.push(`${OUTPUT}.weight`);
  const saved = modules.map(({ name }) => name)
    .filter((name) => config.modules_to_save?.some((end) => name.endsWith(end)));
  const copies = weights.filter((weight) => saved.some((name) => weight.startsWith(`${name}.`)));
  const replaced = ensuresTying(config, model) ? tiedCopies(copies) : copies;
  for (const name of adapted.keys()) {
    if (replaced.includes(`${name}.weight`)) {
      fail(`${name} is matched by both target_modules and modules_to_save, expected one of them`);
    }
  }
  const isTrainedBias = (weight: string) =>
    weight.endsWith(".bias") && !replaced.includes(weight) &&
    (config.bias === "all" ||
      (config.bias === "lora_only" && adapted.has(weight.slice(0, -".bias".length))));
  const plan = {
    config,
    modules: adapted,
    replaced,
    biases: weights.filter(isTrainedBias),
    tokens: tokenRows(config, model, fail),
    unties: false,
  };
  checkEmbeddings(plan, model, fail);
  return { ...plan, unties: unties(plan, model) };
}

function tokenRows(
  { trainable_token_indices: indices }: AdapterConfig,
  model: ModelConfig,
  fail: (what: string) => never,
): TokenRows[] {
  const rows = Object.entries(indices ?? {}).map(([end, tokens]) => {
    const module = [EMBEDDING, OUTPUT].find((name) => name.endsWith(end));
    if (module === undefined) {
      return fail(`trainable_token_indices names ${brief(end)}, expected embed_tokens or lm_head`);
    }
    const outside = tokens.find((token) => token >= model.vocab_size);
    if (outside !== undefined) {
      fail(`trainable_token_indices has ${outside}, expected tokens below ${model.vocab_size}`);
    }
    if (new Set(tokens).size < tokens.length) {
      fail("trainable_token_indices names a token twice, expected different ones");
    }
    return { module, tokens };
  });
  const alike = new Set(rows.map(({ tokens }) => tokens.join())).size === 1;
  if (!model.tie_word_embeddings || rows.length === 1 || !alike) return rows;
  // Rows that are tied are stored once, as the embedding's.
  return rows.filter(({ module }) => module === EMBEDDING);
}

/** Refuses what PEFT does with embeddings and this project does not. */
function checkEmbeddings(
  { config, modules, replaced, tokens }: Omit<AdapterPlan, "unties">,
  model: ModelConfig,
  fail: (what: string) => never,
): void {
  if (modules.has(EMBEDDING)) {
    if (config.lora_bias) fail("lora_bias is true for embed_tokens, which PEFT does not have");
  }
  for (const { module } of tokens) {
    if (replaced.includes(`${module}.weight`)) {
      fail(
        `${module} is in both trainable_token_indices and modules_to_save, expected one of them`,
      );
    }
    if (modules.has(module)) {
      fail(`${module} is in both trainable_token_indices and target_modules, expected one of them`);
    }
  }
  if (!model.tie_word_embeddings) return;
  const touched = [EMBEDDING, OUTPUT].filter((name) =>
    modules.has(name) || replaced.includes(`${name}.weight`)
  );
  if (touched.length > 0 && tokens.length > 0) {
    fail(
      `trainable_token_indices are given beside ${touched[0]}, but the model ties both embeddings`,
    );
  }
  // Whole copies can be tied, see tiedCopies.
  const [untied] = tokens.some(({ module }) => module === OUTPUT)
    ? [OUTPUT]
    : touched.filter((name) => modules.has(name));
  if (untied !== undefined && config.ensure_weight_tying) {
    fail(`ensure_weight_tying is true for ${untied}, expected an adapter that unties it`);
  }
}

/** Whether copies of a tied embedding and of its output projection are to be one. */
export function ensuresTying(config: AdapterConfig, model: ModelConfig): boolean {
  return config.ensure_weight_tying && model.tie_word_embeddings;
}

/** Copies where one of the embedding and one of the output projection are the same: the embedding's. */
function tiedCopies(copies: readonly string[]): string[] {
  const [input, output] = [`${EMBEDDING}.weight`, `${OUTPUT}.weight`];
  const others = copies.filter((weight) => weight !== input && weight !== output);
  return others.length === copies.length ? others : [input, ...others];
}

/** PEFT's copies of a tied embedding and of its output projection are not tied, nor are rows of the output projection alone. */
function unties(
  { config, replaced, tokens }: Pick<AdapterPlan, "config" | "replaced" | "tokens">,
  model: ModelConfig,
): boolean {
  return model.tie_word_embeddings && !ensuresTying(config, model) &&
    ([EMBEDDING, OUTPUT].some((name) => replaced.includes(`${name}.weight`)) ||
      tokens.some(({ module }) => module === OUTPUT));
}

/** The plan of a new adapter. */
export function loraPlan(
  model: ModelConfig,
  { rank, alpha, targets }: { rank: number; alpha: number; targets: string | readonly string[] },
): AdapterPlan {
  const config = adapterConfig({ r: rank, lora_alpha: alpha, target_modules: targets });
  return adapterPlan(config, model, "the adapter");
}

/** The model that an adapter is put on: with an output projection of its own, where the adapter unties it. */
export function adaptedConfig(model: ModelConfig, plan: AdapterPlan | undefined): ModelConfig {
  return plan?.unties ? { ...model, tie_word_embeddings: false } : model;
}
