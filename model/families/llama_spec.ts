/**
 * What a Llama computes, which other families change in places.
 *
 * @module
 */
import type { BaseConfig } from "./base_config.ts";
import { type LinearModule, SEPARATE_LAYERS } from "./linear_modules.ts";
import type { ArchSpec, LayerSpec } from "./spec.ts";

const ATTENTION_MODULES = ["q_proj", "k_proj", "v_proj", "o_proj"] as const;
const MLP_MODULES = ["gate_proj", "up_proj", "down_proj"] as const;

/**
 * What a Llama with these hyperparameters computes: norms before attention and MLP, every layer alike, with the
 * window where there is one. Families that differ from it change what they get.
 */
export function llamaSpec(config: BaseConfig): ArchSpec {
  const { head_dim, sliding_window: window, attention_bias, mlp_bias } = config;
  const layer: LayerSpec = {
    window,
    rope: {
      theta: config.rope_theta,
      scaling: config.rope_scaling,
      trainedPositions: config.max_position_embeddings,
      rotary: { dims: head_dim, pairs: "halves" },
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
    activation: config.hidden_act,
    layers: Array.from({ length: config.num_hidden_layers }, () => layer),
    norms: { preAttention: "input_layernorm", preMlp: "post_attention_layernorm" },
    qkNorm: null,
    queryGrowth: null,
    linears: SEPARATE_LAYERS,
    biases: new Set<LinearModule>([
      ...attention_bias ? ATTENTION_MODULES : [],
      ...mlp_bias ? MLP_MODULES : [],
    ]),
    embedding_multiplier: 1,
    residual_multiplier: 1,
    logits_multiplier: 1,
    logits_softcap: null,
    longestText: null,
  };
}
