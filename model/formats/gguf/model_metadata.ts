/**
 * From a model's configuration to a GGUF file's metadata.
 *
 * @module
 */

import { UserError } from "../../../kernels/errors.ts";
import { ggufArchitecture, type ModelConfig } from "../../families/config.ts";
import { f32, type GgufMetadata, type GgufValue, text, u32 } from "./values.ts";
import type { GgufFormat } from "./quantization_mix.ts";

/** `general.file_type`: what most matrices are in. */
const FILE_TYPES: Readonly<Record<GgufFormat, number>> = {
  F32: 0,
  F16: 1,
  Q4_0: 2,
  Q8_0: 7,
  Q4_K_M: 15,
  BF16: 32,
};

/** The layout of blocks, which has been the same since 2023. */
const QUANTIZATION_VERSION = 2;

/** Scaling of RoPE; Llama 3.1's is a tensor. */
function ropeScaling({ rope_scaling: scaling }: ModelConfig): [string, GgufValue][] {
  switch (scaling?.type) {
    case "linear":
      return [["rope.scaling.type", text("linear")], ["rope.scaling.factor", f32(scaling.factor)]];
    case "dynamic":
      throw new UserError(
        'rope_scaling is "dynamic", which GGUF has no key for; expected a model with linear or llama3 ' +
          "scaling, or none",
      );
    default:
      return [];
  }
}

/**
 * The metadata of a model, its tokenizer apart.
 *
 * @param options `name`: what it is called; `format`: what most matrices are written in.
 * @throws UserError that names the key of a configuration that GGUF can't hold.
 */
export function modelMetadata(
  config: ModelConfig,
  { name, format }: { name: string; format: GgufFormat },
): GgufMetadata {
  const architecture = ggufArchitecture(config);
  const keys: [string, GgufValue][] = [
    ["block_count", u32(config.num_hidden_layers)],
    ["context_length", u32(config.max_position_embeddings)],
    ["embedding_length", u32(config.hidden_size)],
    ["feed_forward_length", u32(config.intermediate_size)],
    ["attention.head_count", u32(config.num_attention_heads)],
    ["attention.head_count_kv", u32(config.num_key_value_heads)],
    ["attention.key_length", u32(config.head_dim)],
    ["attention.value_length", u32(config.head_dim)],
    ["attention.layer_norm_rms_epsilon", f32(config.rms_norm_eps)],
    ["rope.dimension_count", u32(config.head_dim)],
    ["rope.freq_base", f32(config.rope_theta)],
    ["vocab_size", u32(config.vocab_size)],
    ...ropeScaling(config),
  ];
  if (config.sliding_window !== null) {
    keys.push(["attention.sliding_window", u32(config.sliding_window)]);
  }
  return new Map([
    ["general.architecture", text(architecture)],
    ["general.type", text("model")],
    ["general.name", text(name)],
    ["general.file_type", u32(FILE_TYPES[format])],
    ["general.quantization_version", u32(QUANTIZATION_VERSION)],
    ...keys.map(([key, value]): [string, GgufValue] => [`${architecture}.${key}`, value]),
  ]);
}
