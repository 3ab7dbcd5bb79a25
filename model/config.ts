/**
 * The shape of a Llama: Hugging Face's `config.json` read strictly, presets of real sizes, and the
 * name and shape of every weight that follows from them.
 *
 * @module
 */

import { didYouMean, UserError } from "../kernels/errors.ts";
import { brief, isObject } from "./weights.ts";

/** A Llama's hyperparameters, named as in Hugging Face's `config.json`. */
export interface LlamaConfig {
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
  /** Width of one head: a multiple of 4, at most 256. `hidden_size / num_attention_heads` by default. */
  head_dim: number;
  /** Longest context the model was made for, in tokens. */
  max_position_embeddings: number;
  rms_norm_eps: number;
  /** Base of the rotary frequencies. */
  rope_theta: number;
  /** Whether the output projection is the embedding matrix itself. */
  tie_word_embeddings: boolean;
  bos_token_id: number;
  eos_token_id: number;
}

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
} as const;

/**
 * What `config.json` may say that changes the computation and is not built: each key with the
 * values that leave a plain Llama as it is. An absent key and `null` always do.
 */
const PLAIN_LLAMA: Record<string, readonly unknown[]> = {
  hidden_act: ["silu"],
  attention_bias: [false],
  mlp_bias: [false],
  attention_dropout: [0],
  partial_rotary_factor: [1],
  rope_interleaved: [false],
  sliding_window: [],
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

/** Reads fields of one `config.json`, and words its errors. */
class Fields {
  constructor(readonly json: Record<string, unknown>, readonly file: string) {}

  fail(field: string, expected: string): never {
    const value = this.json[field];
    const has = value === undefined ? "is missing" : `is ${brief(value)}`;
    throw new UserError(`${this.file}: ${field} ${has}, expected ${expected}`);
  }

  /** A field that is neither absent nor null. */
  has(field: string): boolean {
    return this.json[field] !== undefined && this.json[field] !== null;
  }

  count(field: keyof typeof LIMITS): number {
    const value = this.json[field], max = LIMITS[field];
    if (!Number.isSafeInteger(value) || (value as number) < 1 || (value as number) > max) {
      this.fail(field, `a whole number from 1 to ${max}`);
    }
    return value as number;
  }

  number(field: string, ok: (value: number) => boolean, expected: string): number {
    const value = this.json[field];
    if (typeof value !== "number" || !ok(value)) this.fail(field, expected);
    return value as number;
  }

  boolean(field: string, absent: boolean): boolean {
    if (!this.has(field)) return absent;
    if (typeof this.json[field] !== "boolean") this.fail(field, "true or false");
    return this.json[field] as boolean;
  }

  /** A token id below `vocab_size`; of a list (several ways to end a text) the first. */
  tokenId(field: string, absent: number, vocabSize: number): number {
    const given = this.json[field];
    const value = given === undefined ? absent : Array.isArray(given) ? given[0] : given;
    if (!Number.isSafeInteger(value) || value < 0 || value >= vocabSize) {
      const unset = given === undefined ? ` (${absent} where the file says nothing)` : "";
      this.fail(field, `a token id below vocab_size ${vocabSize}${unset}`);
    }
    return value;
  }
}

/**
 * The base of RoPE. `transformers` 5 writes `rope_parameters`, older releases `rope_theta` beside
 * `rope_scaling`; scaled variants (linear, dynamic, yarn, llama3) are refused.
 */
function ropeTheta(fields: Fields): number {
  const positive = (value: number) => value > 0 && Number.isFinite(value);
  let theta = fields.has("rope_theta")
    ? fields.number("rope_theta", positive, "a positive number")
    : undefined;
  for (const field of ["rope_scaling", "rope_parameters"]) {
    if (!fields.has(field)) continue;
    const value = fields.json[field];
    const plain = isObject(value) &&
      Object.keys(value).every((key) => ["rope_type", "type", "rope_theta"].includes(key)) &&
      [value.rope_type, value.type].every((type) => type === undefined || type === "default");
    if (!plain) fields.fail(field, `none or type "default": scaled RoPE is not supported`);
    const inner = (value as Record<string, unknown>).rope_theta;
    if (inner === undefined) continue;
    if (typeof inner !== "number" || !positive(inner) || (theta !== undefined && theta !== inner)) {
      fields.fail(field, "a positive rope_theta, the same wherever the file gives it");
    }
    theta = inner;
  }
  return theta ?? 10000;
}

/**
 * Reads a Hugging Face `config.json`.
 *
 * @param json The parsed file.
 * @param file Its name, for messages.
 * @throws UserError that names the field, for everything that is missing, malformed or not honoured
 *   (another architecture, scaled RoPE, biases, a sliding window, quantized weights ...).
 */
export function parseLlamaConfig(json: unknown, file: string): LlamaConfig {
  if (!isObject(json)) throw new UserError(`${file}: expected a JSON object`);
  const fields = new Fields(json, file);
  if (json.model_type !== "llama") fields.fail("model_type", `"llama"`);
  if (fields.has("architectures")) {
    const names = json.architectures;
    if (!Array.isArray(names) || !names.includes("LlamaForCausalLM")) {
      fields.fail("architectures", `["LlamaForCausalLM"]`);
    }
  }
  for (const [field, plain] of Object.entries(PLAIN_LLAMA)) {
    if (!fields.has(field) || plain.includes(json[field])) continue;
    fields.fail(field, `${plain.length > 0 ? brief(plain[0]) : "none"}: nothing else is supported`);
  }
  if (fields.has("layer_types")) {
    const types = json.layer_types;
    if (!Array.isArray(types) || types.some((type) => type !== "full_attention")) {
      fields.fail("layer_types", `"full_attention" in every layer`);
    }
  }

  const hidden = fields.count("hidden_size"), heads = fields.count("num_attention_heads");
  if (!fields.has("head_dim") && hidden % heads !== 0) {
    fields.fail("num_attention_heads", `a divisor of hidden_size ${hidden}`);
  }
  const vocab = fields.count("vocab_size");
  const config: LlamaConfig = {
    vocab_size: vocab,
    hidden_size: hidden,
    intermediate_size: fields.count("intermediate_size"),
    num_hidden_layers: fields.count("num_hidden_layers"),
    num_attention_heads: heads,
    num_key_value_heads: fields.has("num_key_value_heads")
      ? fields.count("num_key_value_heads")
      : heads,
    head_dim: fields.has("head_dim") ? fields.count("head_dim") : hidden / heads,
    max_position_embeddings: fields.count("max_position_embeddings"),
    rms_norm_eps: fields.number("rms_norm_eps", (v) => v > 0 && v < 1, "a number between 0 and 1"),
    rope_theta: ropeTheta(fields),
    tie_word_embeddings: fields.boolean("tie_word_embeddings", false),
    bos_token_id: fields.tokenId("bos_token_id", 1, vocab),
    eos_token_id: fields.tokenId("eos_token_id", 2, vocab),
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
 * A `config.json` for `transformers`; `parseLlamaConfig` reads it back unchanged.
 *
 * The dtype of the weights is not part of the shape: whoever writes them adds `torch_dtype`.
 */
export function configJson(config: LlamaConfig): Record<string, unknown> {
  return {
    architectures: ["LlamaForCausalLM"],
    model_type: "llama",
    attention_bias: false,
    attention_dropout: 0,
    bos_token_id: config.bos_token_id,
    eos_token_id: config.eos_token_id,
    head_dim: config.head_dim,
    hidden_act: "silu",
    hidden_size: config.hidden_size,
    initializer_range: 0.02,
    intermediate_size: config.intermediate_size,
    max_position_embeddings: config.max_position_embeddings,
    mlp_bias: false,
    num_attention_heads: config.num_attention_heads,
    num_hidden_layers: config.num_hidden_layers,
    num_key_value_heads: config.num_key_value_heads,
    pretraining_tp: 1,
    rms_norm_eps: config.rms_norm_eps,
    rope_scaling: null,
    rope_theta: config.rope_theta,
    tie_word_embeddings: config.tie_word_embeddings,
    use_cache: true,
    vocab_size: config.vocab_size,
  };
}

/** A Llama with the given sizes, and Llama 2's values for everything else. */
function preset(
  sizes: Omit<
    LlamaConfig,
    | "head_dim"
    | "rms_norm_eps"
    | "rope_theta"
    | "tie_word_embeddings"
    | "bos_token_id"
    | "eos_token_id"
  >,
): LlamaConfig {
  return {
    ...sizes,
    head_dim: sizes.hidden_size / sizes.num_attention_heads,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    tie_word_embeddings: false,
    bos_token_id: 1,
    eos_token_id: 2,
  };
}

/** Llama 2: https://arxiv.org/abs/2307.09288; 1b is TinyLlama: https://arxiv.org/abs/2401.02385. */
const PRESETS: Record<string, LlamaConfig> = {
  "llama2-7b": preset({
    vocab_size: 32000,
    hidden_size: 4096,
    intermediate_size: 11008,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    num_key_value_heads: 32,
    max_position_embeddings: 4096,
  }),
  "llama2-13b": preset({
    vocab_size: 32000,
    hidden_size: 5120,
    intermediate_size: 13824,
    num_hidden_layers: 40,
    num_attention_heads: 40,
    num_key_value_heads: 40,
    max_position_embeddings: 4096,
  }),
  "llama-1b": preset({
    vocab_size: 32000,
    hidden_size: 2048,
    intermediate_size: 5632,
    num_hidden_layers: 22,
    num_attention_heads: 32,
    num_key_value_heads: 4,
    max_position_embeddings: 2048,
  }),
  tiny: preset({
    vocab_size: 512,
    hidden_size: 64,
    intermediate_size: 176,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    max_position_embeddings: 256,
  }),
};

/**
 * The shape of a known model: `llama2-7b`, `llama2-13b`, `llama-1b` or `tiny`.
 *
 * @throws UserError (exit code 2) that lists them and names the nearest.
 */
export function presetConfig(name: string): LlamaConfig {
  const names = Object.keys(PRESETS);
  if (!names.includes(name)) {
    const known = names.join(", ");
    throw new UserError(
      `unknown model size "${name}", expected one of ${known}${didYouMean(name, names)}`,
      2,
    );
  }
  return { ...PRESETS[name] };
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
    throw new UserError(
      `layers is ${layers}, expected a whole number from 1 to the ${most} of ${what}`,
      2,
    );
  }
  return { ...config, num_hidden_layers: layers };
}

/**
 * Every weight of a model in load order, with its shape: `[out, in]` for matrices, `[hidden]` for
 * norms. Names are Hugging Face's. `lm_head.weight` is absent where the embedding is tied.
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
    for (const [name, shape] of block) shapes.set(`model.layers.${layer}.${name}.weight`, shape);
  }
  shapes.set("model.norm.weight", [hidden]);
  if (!config.tie_word_embeddings) shapes.set("lm_head.weight", [vocab, hidden]);
  return shapes;
}
