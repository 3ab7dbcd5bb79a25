/**
 * What the families have in common: the hyperparameters of Hugging Face's `config.json`, read strictly and
 * written.
 *
 * @module
 */

import { UserError } from "../../kernels/errors.ts";
import type { Activation } from "../../kernels/ops/activation/swiglu.ts";
import type { RopeScaling } from "../../kernels/ops/rope/frequencies.ts";
import type { LinearModule } from "./linear_modules.ts";
import type { Fields } from "../files/json_fields.ts";
import type { GgufFamily } from "./gguf.ts";
import { readActivation, refuseOthers } from "./honoured_keys.ts";
import { readRope, ropeScalingJson } from "./rope_scaling.ts";
import type { ArchSpec } from "./spec.ts";

/** Hyperparameters of any family, named as in Hugging Face's `config.json`. */
export interface BaseConfig {
  /** The family, by which `transformers` chooses its class. */
  model_type: string;
  /** Rows of the embedding and of the output projection. */
  vocab_size: number;
  /** Width of the residual stream; a multiple of 4. */
  hidden_size: number;
  /** Width inside the gated MLP; a multiple of 4. */
  intermediate_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  /** Divides `num_attention_heads`; each key/value head serves that many query heads. */
  num_key_value_heads: number;
  /** Width of one head: a multiple of 8, at most 256. */
  head_dim: number;
  /** The activation of the gated MLP. */
  hidden_act: Activation;
  /** Longest context the model was made for, in tokens. */
  max_position_embeddings: number;
  rms_norm_eps: number;
  /** Base of the rotary frequencies, of the layers without a window where they differ. */
  rope_theta: number;
  /** How these frequencies are changed for longer contexts; null where they are not. */
  rope_scaling: RopeScaling | null;
  /**
   * Keys that a query attends to, its own included, in the layers that have such a window; null where none has. Which
   * have one the specification says ({@linkcode ArchSpec}).
   */
  sliding_window: number | null;
  /** Whether the attention's projections have biases; which of them the specification says. */
  attention_bias: boolean;
  /** Whether the gate, up and down projections have biases. */
  mlp_bias: boolean;
  /** Whether the output projection is the embedding matrix itself. */
  tie_word_embeddings: boolean;
  /** Null where the model has none. */
  bos_token_id: number | null;
  /** The first of `eos_token_ids`; null where there is none. */
  eos_token_id: number | null;
  /** Every token that ends a text, as far as the configuration says it. */
  eos_token_ids: number[];
}

/** What every family reads alike. */
export type CommonKeys = Exclude<
  keyof BaseConfig,
  "model_type" | "sliding_window" | "attention_bias" | "mlp_bias"
>;

/** A family's configuration without what every family reads alike. */
export type OwnConfig<C extends BaseConfig> = C extends BaseConfig ? Omit<C, CommonKeys> : never;

/** What a family's `config.json` means where it leaves these out, as `transformers` has it. */
export interface FamilyDefaults {
  readonly max_position_embeddings: number;
  /** Null where it is `num_attention_heads`. */
  readonly num_key_value_heads: number | null;
  /** Null where it is `hidden_size / num_attention_heads`. */
  readonly head_dim: number | null;
  readonly hidden_act: Activation;
  readonly rms_norm_eps: number;
  readonly rope_theta: number;
  /** Null where the family's files have it with the scaling of RoPE alone. */
  readonly original_max_position_embeddings: number | null;
  readonly tie_word_embeddings: boolean;
  readonly bos_token_id: number | null;
  readonly eos_token_id: number | null;
}

/** The defaults of `transformers`' LlamaConfig, which most families share. */
export const LLAMA_DEFAULTS: FamilyDefaults = {
  max_position_embeddings: 2048,
  num_key_value_heads: null,
  head_dim: null,
  hidden_act: "silu",
  rms_norm_eps: 1e-6,
  rope_theta: 10000,
  original_max_position_embeddings: null,
  tie_word_embeddings: false,
  bos_token_id: 1,
  eos_token_id: 2,
};

/** One family of models. */
export interface Family<C extends BaseConfig> {
  readonly model_type: C["model_type"];
  /** Its class in `transformers`. */
  readonly architecture: string;
  /** How llama.cpp has it; null where it does not. */
  readonly gguf: GgufFamily | null;
  readonly defaults: FamilyDefaults;
  /** The fields that say how the layers without a window are rotated, among those of the file. */
  ropeFields(fields: Fields): Fields;
  /** The key of the activation. */
  readonly activationKey: "hidden_act" | "hidden_activation";
  /** Keys that {@linkcode refuseOthers} must not: it reads them, or its class in `transformers` has no use for them. */
  readonly reads: readonly string[];
  /** Keys of its configuration that are lists with an entry for each layer. */
  readonly byLayer: readonly ("layer_types" | "no_rope_layers")[];
  /** What the base doesn't read. @throws UserError that names the field. */
  read(fields: Fields, common: Pick<BaseConfig, CommonKeys>): OwnConfig<C>;
  /** What such a model computes. */
  spec(config: C): ArchSpec;
  /** Keys of `config.json` besides those of every family, or with another value. */
  json(config: C): Record<string, unknown>;
  /** The model with a bias in a module; undefined where it has no place for it. */
  withBias(config: C, module: LinearModule): C | undefined;
}

/** Largest values taken from a file: beyond any model, and small enough that no product overflows. */
const LIMITS = {
  vocab_size: 2 ** 24,
  hidden_size: 2 ** 20,
  intermediate_size: 2 ** 22,
  num_hidden_layers: 4096,
  num_attention_heads: 2 ** 16,
  num_key_value_heads: 2 ** 16,
  head_dim: 256,
  max_position_embeddings: 2 ** 31,
} as const;

/** Largest window taken from a file. */
export const MOST_WINDOW = 2 ** 31;

/** The context before RoPE was scaled, where the family's files have it beside the scaling. */
function readOriginal(fields: Fields, absent: number | null): number | null {
  const field = "original_max_position_embeddings";
  if (absent === null || !fields.has(field)) return absent;
  return fields.count(field, LIMITS.max_position_embeddings);
}

/** Reads the configuration of a model of this family. @throws UserError that names the field. */
export function readConfig<C extends BaseConfig>(
  fields: Fields,
  family: Family<C>,
): OwnConfig<C> & Pick<BaseConfig, CommonKeys> {
  const { json } = fields, { defaults } = family;
  refuseOthers(fields, family);

  const count = (field: keyof typeof LIMITS) => fields.count(field, LIMITS[field]);
  const hidden = count("hidden_size"), heads = count("num_attention_heads");
  // A null is not the family's default: `transformers` then takes what follows from the other sizes.
  const headDim = json.head_dim === undefined ? defaults.head_dim : null;
  if (!fields.has("head_dim") && headDim === null && hidden % heads !== 0) {
    fields.fail("num_attention_heads", `a divisor of hidden_size ${hidden}`);
  }
  const vocab = count("vocab_size");
  const context = fields.has("max_position_embeddings")
    ? count("max_position_embeddings")
    : defaults.max_position_embeddings;
  const keyHeads = json.num_key_value_heads === undefined ? defaults.num_key_value_heads : null;
  const eosIds = fields.tokenIds("eos_token_id", defaults.eos_token_id, vocab);
  const common: Pick<BaseConfig, CommonKeys> = {
    vocab_size: vocab,
    hidden_size: hidden,
    intermediate_size: count("intermediate_size"),
    num_hidden_layers: count("num_hidden_layers"),
    num_attention_heads: heads,
    num_key_value_heads: fields.has("num_key_value_heads")
      ? count("num_key_value_heads")
      : keyHeads ?? heads,
    head_dim: fields.has("head_dim") ? count("head_dim") : headDim ?? hidden / heads,
    hidden_act: readActivation(fields, family.activationKey, defaults.hidden_act),
    max_position_embeddings: context,
    rms_norm_eps: fields.has("rms_norm_eps")
      ? fields.number("rms_norm_eps", (v) => v > 0 && v < 1, "a number between 0 and 1")
      : defaults.rms_norm_eps,
    ...readRope(family.ropeFields(fields), {
      context,
      theta: defaults.rope_theta,
      original: readOriginal(fields, defaults.original_max_position_embeddings),
      partial: family.reads.includes("partial_rotary_factor"),
    }),
    tie_word_embeddings: fields.boolean("tie_word_embeddings", defaults.tie_word_embeddings),
    bos_token_id: fields.tokenIds("bos_token_id", defaults.bos_token_id, vocab).at(0) ?? null,
    eos_token_id: eosIds.at(0) ?? null,
    eos_token_ids: eosIds,
  };
  checkKernelShapes(common, fields.file);
  const config = { ...common, ...family.read(fields, common) };
  checkRotation(family.spec(config as unknown as C), fields);
  return config;
}

/** That pairs are rotated, as many as there are factors for. */
function checkRotation({ layers, head_dim }: ArchSpec, fields: Fields): void {
  for (const { rope } of layers) {
    if (rope === null) continue;
    const { rotary: { dims }, scaling } = rope;
    if (dims < 2 || dims % 2 !== 0 || dims > head_dim) {
      fields.fail("partial_rotary_factor", `an even part of head_dim ${head_dim}`);
    }
    if (scaling?.type !== "longrope") continue;
    const lists = [scaling.short_factor, scaling.long_factor];
    if (lists.every(({ length }) => length === dims / 2)) continue;
    const field = fields.has("rope_scaling") ? "rope_scaling" : "rope_parameters";
    fields.fail(field, `lists of ${dims / 2} factors, one for each pair that is rotated`);
  }
}

/** The constraints of the kernels: vec4 loads along every row, one head in a workgroup's memory. */
function checkKernelShapes(config: Pick<BaseConfig, CommonKeys>, file: string): void {
  if (config.num_attention_heads % config.num_key_value_heads !== 0) {
    throw new UserError(
      `${file}: num_key_value_heads is ${config.num_key_value_heads}, ` +
        `expected a divisor of num_attention_heads ${config.num_attention_heads}`,
    );
  }
  const units = { hidden_size: 4, intermediate_size: 4, head_dim: 8 } as const;
  for (const [field, unit] of Object.entries(units) as [keyof typeof units, number][]) {
    if (config[field] % unit === 0) continue;
    throw new UserError(`${file}: ${field} is ${config[field]}, expected a multiple of ${unit}`);
  }
  if (config.head_dim > LIMITS.head_dim) {
    throw new UserError(
      `${file}: head_dim is ${config.head_dim}, expected at most ${LIMITS.head_dim}`,
    );
  }
}

/** Keys of `config.json` that every family has, in the spelling that `transformers` 4 and 5 read. */
export function baseJson(config: BaseConfig, architecture: string): Record<string, unknown> {
  const { eos_token_ids } = config;
  return {
    architectures: [architecture],
    model_type: config.model_type,
    attention_dropout: 0,
    bos_token_id: config.bos_token_id,
    eos_token_id: eos_token_ids.length > 1 ? eos_token_ids : config.eos_token_id,
    head_dim: config.head_dim,
    hidden_act: config.hidden_act,
    hidden_size: config.hidden_size,
    initializer_range: 0.02,
    intermediate_size: config.intermediate_size,
    max_position_embeddings: config.max_position_embeddings,
    num_attention_heads: config.num_attention_heads,
    num_hidden_layers: config.num_hidden_layers,
    num_key_value_heads: config.num_key_value_heads,
    rms_norm_eps: config.rms_norm_eps,
    rope_scaling: ropeScalingJson(config.rope_scaling),
    rope_theta: config.rope_theta,
    tie_word_embeddings: config.tie_word_embeddings,
    use_cache: true,
    vocab_size: config.vocab_size,
  };
}
