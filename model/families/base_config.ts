/**
 * What the families have in common: the hyperparameters of Hugging Face's `config.json`, read strictly and
 * written.
 *
 * @module
 */

import { UserError } from "../../kernels/errors.ts";
import type { RopeScaling } from "../../kernels/ops/rope/rope.ts";
import { isLinearModule, type LinearModule } from "./linear_modules.ts";
import type { Fields } from "../files/json_fields.ts";
import { brief } from "../files/json_file.ts";
import { readQuantization } from "./quantization_config.ts";
import { readRope } from "./rope_scaling.ts";
import type { ArchSpec, LayerSpec } from "./spec.ts";

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
  /** Width of one head: a multiple of 8, at most 256. `hidden_size / num_attention_heads` by default. */
  head_dim: number;
  /** Longest context the model was made for, in tokens. */
  max_position_embeddings: number;
  rms_norm_eps: number;
  /** Base of the rotary frequencies. */
  rope_theta: number;
  /** How the rotary frequencies are changed for longer contexts; null where they are not. */
  rope_scaling: RopeScaling | null;
  /** Keys that a query attends to, its own included; null where it is all from the text's start. */
  sliding_window: number | null;
  /** Whether the q, k, v and o projections have biases. */
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

/** What each family reads in its own way. */
export type FamilyKeys = "model_type" | "sliding_window" | "attention_bias" | "mlp_bias";

/** One family of models. */
export interface Family<C extends BaseConfig> {
  readonly model_type: C["model_type"];
  /** Its class in `transformers`. */
  readonly architecture: string;
  /** What its `config.json` means where it leaves these out, as `transformers` has it. */
  readonly defaults: {
    readonly max_position_embeddings: number;
    /** Absent where it is `num_attention_heads`. */
    readonly num_key_value_heads?: number;
  };
  /** Keys of {@linkcode NOT_BUILT} that it reads itself. */
  readonly reads: readonly string[];
  /** What the base doesn't read. @throws UserError that names the field. */
  read(fields: Fields): Omit<C, keyof BaseConfig> & Pick<C, FamilyKeys>;
  /** What such a model computes. */
  spec(config: C): ArchSpec;
  /** Keys of `config.json` besides those of every family. */
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

const RMS_NORM_EPS_DEFAULT = 1e-6;

/**
 * What `config.json` may say that changes the computation and that a family has to read itself: each key with the
 * values that leave a Llama as it is. An absent key and `null` always do.
 */
const NOT_BUILT: Record<string, readonly unknown[]> = {
  hidden_act: ["silu"],
  attention_dropout: [0],
  partial_rotary_factor: [1],
  rope_interleaved: [false],
  auto_map: [],
  is_encoder_decoder: [false],
  add_cross_attention: [false],
  final_logit_softcapping: [],
  attn_logit_softcapping: [],
  embedding_multiplier: [1],
  residual_multiplier: [1],
  logits_scaling: [1],
};

/** Reads the configuration of a model of this family. @throws UserError that names the field. */
export function readConfig<C extends BaseConfig>(
  fields: Fields,
  family: Family<C>,
): Omit<C, keyof BaseConfig> & Pick<C, FamilyKeys> & Omit<BaseConfig, FamilyKeys> {
  const { json } = fields, { architecture, defaults } = family;
  if (fields.has("architectures")) {
    const names = json.architectures;
    if (!Array.isArray(names) || !names.includes(architecture)) {
      fields.fail("architectures", `["${architecture}"]`);
    }
  }
  for (const [field, plain] of Object.entries(NOT_BUILT)) {
    if (family.reads.includes(field)) continue;
    if (!fields.has(field) || plain.includes(json[field])) continue;
    fields.fail(field, `${plain.length > 0 ? brief(plain[0]) : "none"}: nothing else is supported`);
  }
  // What it says is read with the weights (model/formats/huggingface.ts).
  readQuantization(fields);

  const count = (field: keyof typeof LIMITS) => fields.count(field, LIMITS[field]);
  const hidden = count("hidden_size"), heads = count("num_attention_heads");
  if (!fields.has("head_dim") && hidden % heads !== 0) {
    fields.fail("num_attention_heads", `a divisor of hidden_size ${hidden}`);
  }
  const vocab = count("vocab_size");
  const context = fields.has("max_position_embeddings")
    ? count("max_position_embeddings")
    : defaults.max_position_embeddings;
  // A null is not the family's default: `transformers` then takes as many as there are heads.
  const keyHeads = json.num_key_value_heads === undefined
    ? defaults.num_key_value_heads ?? heads
    : heads;
  const eosIds = fields.tokenIds("eos_token_id", 2, vocab);
  const config = {
    vocab_size: vocab,
    hidden_size: hidden,
    intermediate_size: count("intermediate_size"),
    num_hidden_layers: count("num_hidden_layers"),
    num_attention_heads: heads,
    num_key_value_heads: fields.has("num_key_value_heads")
      ? count("num_key_value_heads")
      : keyHeads,
    head_dim: fields.has("head_dim") ? count("head_dim") : hidden / heads,
    max_position_embeddings: context,
    rms_norm_eps: fields.has("rms_norm_eps")
      ? fields.number("rms_norm_eps", (v) => v > 0 && v < 1, "a number between 0 and 1")
      : RMS_NORM_EPS_DEFAULT,
    ...readRope(fields, context),
    ...family.read(fields),
    tie_word_embeddings: fields.boolean("tie_word_embeddings", false),
    bos_token_id: fields.tokenIds("bos_token_id", 1, vocab).at(0) ?? null,
    eos_token_id: eosIds.at(0) ?? null,
    eos_token_ids: eosIds,
  };
  checkKernelShapes(config, fields.file);
  return config;
}

/** The constraints of the kernels: vec4 loads along every row, one head in a workgroup's memory. */
function checkKernelShapes(config: Omit<BaseConfig, FamilyKeys>, file: string): void {
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

/**
 * That `layer_types` says the same of every layer as the window does.
 *
 * @throws UserError that names the field.
 */
export function checkLayerTypes(fields: Fields, window: number | null): void {
  if (!fields.has("layer_types")) return;
  const types = fields.json.layer_types;
  const expected = window === null ? "full_attention" : "sliding_attention";
  if (!Array.isArray(types) || types.some((type) => type !== expected)) {
    fields.fail("layer_types", `"${expected}" in every layer`);
  }
}

/**
 * What a Llama with these hyperparameters computes: norms before attention and MLP, every layer alike. Families
 * that differ from it change what they get.
 */
export function llamaSpec(config: BaseConfig): ArchSpec {
  const { head_dim, sliding_window: window, attention_bias, mlp_bias } = config;
  const layer: LayerSpec = {
    window,
    rope: {
      theta: config.rope_theta,
      scaling: config.rope_scaling,
      trainedPositions: config.max_position_embeddings,
    },
    scale: 1 / Math.sqrt(head_dim),
    softcap: null,
  };
  return {
    vocab_size: config.vocab_size,
    hidden_size: config.hidden_size,
    intermediate_size: config.intermediate_size,
    num_attention_heads: config.num_attention_heads,
    num_key_value_heads: config.num_key_value_heads,
    head_dim,
    tie_word_embeddings: config.tie_word_embeddings,
    norm: { eps: config.rms_norm_eps, offset: 0 },
    activation: "silu",
    layers: Array.from({ length: config.num_hidden_layers }, () => layer),
    norms: { preAttention: "input_layernorm", preMlp: "post_attention_layernorm" },
    qkNorm: null,
    biases: new Set([
      ...attention_bias ? ATTENTION_MODULES : [],
      ...mlp_bias ? MLP_MODULES : [],
    ]),
    embedding_multiplier: 1,
    residual_multiplier: 1,
    logits_multiplier: 1,
    logits_softcap: null,
  };
}

const ATTENTION_MODULES = ["q_proj", "k_proj", "v_proj", "o_proj"].filter(isLinearModule);
const MLP_MODULES = ["gate_proj", "up_proj", "down_proj"].filter(isLinearModule);

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
    hidden_act: "silu",
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

/** Releases that know `llama3` call its type `rope_type`; the others are older than that name. */
function ropeScalingJson(scaling: RopeScaling | null): Record<string, unknown> | null {
  if (scaling?.type !== "llama3") return scaling;
  const { type: rope_type, ...rest } = scaling;
  return { ...rest, rope_type };
}
