/**
 * Meta's `params.json`: the part of a model's configuration that Meta's releases write down, and what
 * follows for the rest.
 *
 * @module
 */

import { UserError } from "../../kernels/errors.ts";
import { type ModelConfig, parseConfig } from "../families/config.ts";
import { Fields } from "../files/json_fields.ts";
import { isObject, readJson } from "../files/json_file.ts";

/** Sizes beyond any Llama, small enough that no product overflows. */
const MAX_SIZE = 2 ** 20, MAX_LAYERS = 4096, MAX_VOCABULARY = 2 ** 24, MAX_CONTEXT = 2 ** 31;

/** What a `params.json` may say; `multiple_of` and the next only served to choose the width of w1. */
const KNOWN = [
  "dim",
  "n_layers",
  "n_heads",
  "n_kv_heads",
  "vocab_size",
  "multiple_of",
  "ffn_dim_multiplier",
  "norm_eps",
  "rope_theta",
  "use_scaled_rope",
  "rope_scaling_factor",
  "high_freq_factor",
  "max_seq_len",
  "max_batch_size",
];

/** A `params.json`, read and checked. */
export interface MetaParams {
  file: string;
  dim: number;
  n_layers: number;
  n_heads: number;
  n_kv_heads: number;
  /** Absent where the file leaves it to the tokenizer (-1). */
  vocab_size?: number;
  norm_eps: number;
  rope_theta: number;
  /** Factors of Llama 3.1's scaled RoPE, where `use_scaled_rope` is true. */
  scaled_rope?: { factor: number; high_freq_factor: number };
  max_seq_len?: number;
}

/**
 * Reads `params.json`.
 *
 * @throws UserError that names the file and the field, also for a field that is no part of a plain Llama
 *   (mixture of experts, quantization, vision ...).
 */
export function readParams(file: string): MetaParams {
  const json = readJson(file);
  if (!isObject(json)) throw new UserError(`${file}: expected a JSON object`);
  const fields = new Fields(json, file);
  for (const field of Object.keys(json)) {
    if (!KNOWN.includes(field) && fields.has(field)) {
      fields.fail(field, "none: no Llama up to 3.1 that reads text has this field");
    }
  }
  const positive = (value: number) => value > 0 && Number.isFinite(value);
  const optional = <T>(field: string, read: (field: string) => T): T | undefined => {
    return fields.has(field) ? read(field) : undefined;
  };
  const factor = (field: string) => fields.number(field, positive, "a positive number");
  const dim = fields.count("dim", MAX_SIZE), n_heads = fields.count("n_heads", MAX_SIZE);
  if (dim % n_heads !== 0) fields.fail("n_heads", `a divisor of dim ${dim}`);
  return {
    file,
    dim,
    n_layers: fields.count("n_layers", MAX_LAYERS),
    n_heads,
    n_kv_heads: optional("n_kv_heads", (field) => fields.count(field, n_heads)) ?? n_heads,
    vocab_size: json.vocab_size === -1
      ? undefined
      : optional("vocab_size", (field) => fields.count(field, MAX_VOCABULARY)),
    norm_eps: fields.number("norm_eps", (v) => v > 0 && v < 1, "a number between 0 and 1"),
    rope_theta: optional("rope_theta", factor) ?? 10000,
    scaled_rope: fields.boolean("use_scaled_rope", false)
      ? {
        factor: optional("rope_scaling_factor", factor) ?? 8,
        high_freq_factor: optional("high_freq_factor", factor) ?? 4,
      }
      : undefined,
    max_seq_len: optional("max_seq_len", (field) => fields.count(field, MAX_CONTEXT)),
  };
}

/** Llama 3's vocabulary, by which its releases are told from the others. */
const LLAMA3_VOCABULARY = 128256;

/**
 * The longest context of a release that doesn't say it: 131,072 with Llama 3.1's scaled RoPE, 8,192 for
 * Llama 3, 16,384 for Code Llama (a larger `rope_theta`), and else Llama 2's 4,096. Llama 1 (2,048) has the
 * same `params.json` as Llama 2.
 */
function contextLength(params: MetaParams, vocabulary: number): number {
  if (params.max_seq_len !== undefined) return params.max_seq_len;
  if (params.scaled_rope !== undefined) return 131072;
  if (vocabulary === LLAMA3_VOCABULARY) return 8192;
  return params.rope_theta > 10000 ? 16384 : 4096;
}

/**
 * The whole configuration of a model.
 *
 * BOS and EOS are Llama 3's where the vocabulary is (of EOS all that its chat models end with), else
 * Llama 2's.
 *
 * @param sizes What only the tensors say.
 * @throws UserError where a size doesn't suit the kernels; it names the file, and the field as
 *   Hugging Face calls it.
 */
export function metaConfig(
  params: MetaParams,
  { vocab_size, intermediate_size }: { vocab_size: number; intermediate_size: number },
): ModelConfig {
  const isLlama3 = vocab_size === LLAMA3_VOCABULARY;
  const scaled = params.scaled_rope;
  return parseConfig({
    model_type: "llama",
    vocab_size,
    hidden_size: params.dim,
    intermediate_size,
    num_hidden_layers: params.n_layers,
    num_attention_heads: params.n_heads,
    num_key_value_heads: params.n_kv_heads,
    max_position_embeddings: contextLength(params, vocab_size),
    rms_norm_eps: params.norm_eps,
    rope_theta: params.rope_theta,
    rope_scaling: scaled && {
      rope_type: "llama3",
      ...scaled,
      low_freq_factor: 1,
      original_max_position_embeddings: 8192,
    },
    tie_word_embeddings: false,
    bos_token_id: isLlama3 ? 128000 : 1,
    eos_token_id: isLlama3 ? [128001, 128008, 128009] : 2,
  }, params.file);
}
