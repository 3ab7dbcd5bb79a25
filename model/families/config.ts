/**
 * The shape of a Llama or a Mistral: Hugging Face's `config.json` read strictly and written, and the
 * name and shape of every weight that follows from it.
 *
 * @module
 */

import { UsageError, UserError } from "../../kernels/errors.ts";
import type { RopeScaling } from "../../kernels/ops/rope/rope.ts";
import { modernConfig } from "../formats/first_conversions.ts";
import { Fields } from "../formats/json_fields.ts";
import { brief, isObject } from "../formats/json_file.ts";
import { readRope } from "./rope_scaling.ts";

/** A model's hyperparameters, named as in Hugging Face's `config.json`. */
export interface LlamaConfig {
  /** The class that `transformers` loads; a Mistral differs in its sliding window alone. */
  model_type: keyof typeof ARCHITECTURES;
  /** Rows of the embedding and of the output projection. */
  vocab_size: number;
  /** Width of the residual stream; a multiple of 4. */
  hidden_size: number;
  /** Width inside the SwiGLU; a multiple of 4. */
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

/** The class in `transformers` of each model type. */
const ARCHITECTURES = { llama: "LlamaForCausalLM", mistral: "MistralForCausalLM" } as const;

/** Largest values taken from a file: beyond any Llama, and small enough that no product overflows. */
const LIMITS = {
  vocab_size: 2 ** 24,
  hidden_size: 2 ** 20,
  intermediate_size: 2 ** 22,
  num_hidden_layers: 4096,
  num_attention_heads: 2 ** 16,
  num_key_value_heads: 2 ** 16,
  head_dim: 256,
  max_position_embeddings: 2 ** 31,
  sliding_window: 2 ** 31,
} as const;

/**
 * What `config.json` may say that changes the computation and is not built: each key with the
 * values that leave the model as it is. An absent key and `null` always do.
 */
const NOT_BUILT: Record<string, readonly unknown[]> = {
  hidden_act: ["silu"],
  attention_dropout: [0],
  partial_rotary_factor: [1],
  rope_interleaved: [false],
  quantization_config: [],
  auto_map: [],
  is_encoder_decoder: [false],
  add_cross_attention: [false],
  final_logit_softcapping: [],
  attn_logit_softcapping: [],
  embedding_multiplier: [1],
  residual_multiplier: [1],
  logits_scaling: [1],
};

/** What a Mistral's `config.json` means where it leaves these out: `transformers`' MistralConfig. */
const MISTRAL_DEFAULTS = { sliding_window: 4096, num_key_value_heads: 8 };

/** The same of what both families leave out, in LlamaConfig and MistralConfig. */
const CONTEXT_DEFAULTS = { llama: 2048, mistral: 131072 }, RMS_NORM_EPS_DEFAULT = 1e-6;

/**
 * Keys that a query attends to. `layer_types` must say the same of every layer, and keys by which other
 * families switch the window off, wholly or for some layers, must not contradict it.
 */
function readSlidingWindow(fields: Fields, modelType: LlamaConfig["model_type"]): number | null {
  const { json } = fields;
  const used = fields.boolean("use_sliding_window", true);
  let window = fields.has("sliding_window")
    ? fields.count("sliding_window", LIMITS.sliding_window)
    : null;
  if (modelType === "mistral") {
    if (json.sliding_window === undefined) window = MISTRAL_DEFAULTS.sliding_window;
    if (window !== null && !used) fields.fail("use_sliding_window", "true beside sliding_window");
    if (window !== null && fields.has("max_window_layers") && json.max_window_layers !== 0) {
      fields.fail("max_window_layers", "0: a window in some layers only is not supported");
    }
  } else {
    if (window !== null && used) {
      fields.fail("sliding_window", `none: a window with model_type "llama" is not supported`);
    }
    window = null;
  }
  if (fields.has("layer_types")) {
    const types = json.layer_types;
    const expected = window === null ? "full_attention" : "sliding_attention";
    if (!Array.isArray(types) || types.some((type) => type !== expected)) {
      fields.fail("layer_types", `"${expected}" in every layer`);
    }
  }
  return window;
}

function readBias(
  fields: Fields,
  field: "attention_bias" | "mlp_bias",
  modelType: LlamaConfig["model_type"],
): boolean {
  const bias = fields.boolean(field, false);
  if (bias && modelType === "mistral") fields.fail(field, "false: a Mistral has no biases");
  return bias;
}

/**
 * Reads a Hugging Face `config.json` of model type `llama` or `mistral`, as `transformers` 4 and 5
 * write it, and as the first conversions of LLaMA have it (model/formats/first_conversions.ts). What the file
 * leaves out is what `transformers` takes, but for the five sizes of the model: those are never guessed.
 *
 * The dtype of the weights (`torch_dtype`, `dtype`) is not read: the files with the weights say it.
 *
 * @param json The parsed file.
 * @param file Its name, for messages.
 * @throws UserError that names the field, for everything that is missing, malformed or not honoured
 *   (another architecture, YaRN, a window in some layers only, quantized weights ...).
 */
export function parseLlamaConfig(json: unknown, file: string): LlamaConfig {
  if (!isObject(json)) throw new UserError(`${file}: expected a JSON object`);
  return parseFields(new Fields(modernConfig(json), file));
}

function parseFields(fields: Fields): LlamaConfig {
  const { json } = fields;
  const modelType = json.model_type;
  if (modelType !== "llama" && modelType !== "mistral") {
    return fields.fail("model_type", `"llama" or "mistral"`);
  }
  if (fields.has("architectures")) {
    const names = json.architectures, architecture = ARCHITECTURES[modelType];
    if (!Array.isArray(names) || !names.includes(architecture)) {
      fields.fail("architectures", `["${architecture}"]`);
    }
  }
  for (const [field, plain] of Object.entries(NOT_BUILT)) {
    if (!fields.has(field) || plain.includes(json[field])) continue;
    fields.fail(field, `${plain.length > 0 ? brief(plain[0]) : "none"}: nothing else is supported`);
  }

  const count = (field: keyof typeof LIMITS) => fields.count(field, LIMITS[field]);
  const hidden = count("hidden_size"), heads = count("num_attention_heads");
  if (!fields.has("head_dim") && hidden % heads !== 0) {
    fields.fail("num_attention_heads", `a divisor of hidden_size ${hidden}`);
  }
  const vocab = count("vocab_size");
  const context = fields.has("max_position_embeddings")
    ? count("max_position_embeddings")
    : CONTEXT_DEFAULTS[modelType];
  const keyHeads = modelType === "mistral" && json.num_key_value_heads === undefined
    ? MISTRAL_DEFAULTS.num_key_value_heads
    : heads;
  const ends = fields.tokenIds("eos_token_id", 2, vocab);
  const config: LlamaConfig = {
    model_type: modelType,
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
    sliding_window: readSlidingWindow(fields, modelType),
    attention_bias: readBias(fields, "attention_bias", modelType),
    mlp_bias: readBias(fields, "mlp_bias", modelType),
    tie_word_embeddings: fields.boolean("tie_word_embeddings", false),
    bos_token_id: fields.tokenIds("bos_token_id", 1, vocab).at(0) ?? null,
    eos_token_id: ends.at(0) ?? null,
    eos_token_ids: ends,
  };
  checkKernelShapes(config, fields);
  return config;
}

/** The constraints of the kernels: vec4 loads along every row, one head in a workgroup's memory. */
function checkKernelShapes(config: LlamaConfig, { file }: Fields): void {
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
 * A `config.json` for `transformers`, in the spelling that releases 4 and 5 read; `parseLlamaConfig`
 * reads it back unchanged.
 *
 * The dtype of the weights is not part of the shape: whoever writes them adds `torch_dtype`.
 */
export function configJson(config: LlamaConfig): Record<string, unknown> {
  const { model_type, eos_token_ids } = config;
  return {
    architectures: [ARCHITECTURES[model_type]],
    model_type,
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
    ...(model_type === "mistral" ? { sliding_window: config.sliding_window } : {
      attention_bias: config.attention_bias,
      mlp_bias: config.mlp_bias,
      pretraining_tp: 1,
    }),
  };
}

/** Releases that know `llama3` call its type `rope_type`; the others are older than that name. */
function ropeScalingJson(scaling: RopeScaling | null): Record<string, unknown> | null {
  if (scaling?.type !== "llama3") return scaling;
  const { type: rope_type, ...rest } = scaling;
  return { ...rest, rope_type };
}

/**
 * Most tokens of a text that the model can be given: `max_position_embeddings`, times the factor where
 * RoPE is scaled as `linear` or `dynamic`. With `llama3` the factor is in max_position_embeddings already.
 */
export function contextLength(
  { max_position_embeddings: trained, rope_scaling: scaling }: LlamaConfig,
): number {
  const stretched = scaling?.type === "linear" || scaling?.type === "dynamic";
  return stretched ? Math.floor(trained * scaling.factor) : trained;
}

/**
 * The model cut after its first `layers` blocks.
 *
 * @param what What the model is called, for the message.
 * @throws UserError (exit code 2) where it has fewer blocks.
 */
export function withLayers(config: LlamaConfig, layers: number, what: string): LlamaConfig {
  const most = config.num_hidden_layers;
  if (!Number.isSafeInteger(layers) || layers < 1 || layers > most) {
    throw new UsageError(
      `layers is ${layers}, expected a whole number from 1 to the ${most} of ${what}`,
    );
  }
  return { ...config, num_hidden_layers: layers };
}

/**
 * Every weight of a model in load order, with its shape: `[out, in]` for matrices, `[hidden]` for
 * norms, `[out]` for biases, each after its matrix. Names are Hugging Face's. `lm_head.weight` is absent
 * where the embedding is tied.
 */
export function weightShapes(config: LlamaConfig): Map<string, number[]> {
  const { hidden_size: hidden, intermediate_size: inner, vocab_size: vocab } = config;
  const queries = config.num_attention_heads * config.head_dim;
  const keys = config.num_key_value_heads * config.head_dim;
  const shapes = new Map<string, number[]>([["model.embed_tokens.weight", [vocab, hidden]]]);
  for (let layer = 0; layer < config.num_hidden_layers; layer++) {
    const block: [string, number[]][] = [
      ["input_layernorm", [hidden]],
      ["self_attn.q_proj", [queries, hidden]],
      ["self_attn.k_proj", [keys, hidden]],
      ["self_attn.v_proj", [keys, hidden]],
      ["self_attn.o_proj", [hidden, queries]],
      ["post_attention_layernorm", [hidden]],
      ["mlp.gate_proj", [inner, hidden]],
      ["mlp.up_proj", [inner, hidden]],
      ["mlp.down_proj", [hidden, inner]],
    ];
    for (const [name, shape] of block) {
      const module = `model.layers.${layer}.${name}`;
      shapes.set(`${module}.weight`, shape);
      const bias = name.startsWith("mlp.") ? config.mlp_bias : config.attention_bias;
      if (bias && shape.length === 2) shapes.set(`${module}.bias`, [shape[0]]);
    }
  }
  shapes.set("model.norm.weight", [hidden]);
  if (!config.tie_word_embeddings) shapes.set("lm_head.weight", [vocab, hidden]);
  return shapes;
}
