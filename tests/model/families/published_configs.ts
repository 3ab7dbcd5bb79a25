/**
 * config.json of published models, as their repositories on huggingface.co have them.
 *
 * @module
 */

/** What nearly every file says. */
const LLAMA = {
  architectures: ["LlamaForCausalLM"],
  bos_token_id: 1,
  eos_token_id: 2,
  hidden_act: "silu",
  initializer_range: 0.02,
  model_type: "llama",
  pretraining_tp: 1,
  rms_norm_eps: 1e-05,
  rope_scaling: null,
  tie_word_embeddings: false,
  use_cache: true,
};

const LLAMA_2 = {
  ...LLAMA,
  max_position_embeddings: 4096,
  torch_dtype: "float16",
  transformers_version: "4.31.0.dev0",
  vocab_size: 32000,
};

const LLAMA_3_8B = {
  ...LLAMA,
  attention_bias: false,
  attention_dropout: 0.0,
  bos_token_id: 128000,
  eos_token_id: 128001,
  hidden_size: 4096,
  intermediate_size: 14336,
  max_position_embeddings: 8192,
  num_attention_heads: 32,
  num_hidden_layers: 32,
  num_key_value_heads: 8,
  rope_theta: 500000.0,
  torch_dtype: "bfloat16",
  transformers_version: "4.40.0.dev0",
  vocab_size: 128256,
};

const LLAMA_3_SCALING = {
  factor: 8.0,
  low_freq_factor: 1.0,
  high_freq_factor: 4.0,
  original_max_position_embeddings: 8192,
  rope_type: "llama3",
};

const MISTRAL_7B = {
  architectures: ["MistralForCausalLM"],
  bos_token_id: 1,
  eos_token_id: 2,
  hidden_act: "silu",
  hidden_size: 4096,
  initializer_range: 0.02,
  intermediate_size: 14336,
  max_position_embeddings: 32768,
  model_type: "mistral",
  num_attention_heads: 32,
  num_hidden_layers: 32,
  num_key_value_heads: 8,
  rms_norm_eps: 1e-05,
  rope_theta: 10000.0,
  sliding_window: 4096,
  tie_word_embeddings: false,
  torch_dtype: "bfloat16",
  transformers_version: "4.34.0.dev0",
  use_cache: true,
  vocab_size: 32000,
};

const SMOLLM_135M = {
  ...LLAMA,
  attention_bias: false,
  attention_dropout: 0.0,
  bos_token_id: 0,
  eos_token_id: 0,
  hidden_size: 576,
  intermediate_size: 1536,
  max_position_embeddings: 2048,
  mlp_bias: false,
  num_attention_heads: 9,
  num_hidden_layers: 30,
  num_key_value_heads: 3,
  rope_theta: 10000.0,
  tie_word_embeddings: true,
  torch_dtype: "bfloat16",
  transformers_version: "4.42.3",
  vocab_size: 49152,
};

const LLAMA_32_1B = {
  ...LLAMA_3_8B,
  head_dim: 64,
  hidden_size: 2048,
  intermediate_size: 8192,
  max_position_embeddings: 131072,
  mlp_bias: false,
  num_hidden_layers: 16,
  rope_scaling: { ...LLAMA_3_SCALING, factor: 32.0 },
  tie_word_embeddings: true,
  transformers_version: "4.45.0.dev0",
};

/** The same in the spelling of transformers 5. */
function inTransformers5(
  { rope_theta, rope_scaling, torch_dtype: dtype, ...rest }: typeof LLAMA_32_1B,
): Record<string, unknown> {
  return { ...rest, dtype, rope_parameters: { ...rope_scaling, rope_theta } };
}

/** By repository. */
export const PUBLISHED: Record<string, Record<string, unknown>> = {
  "meta-llama/Llama-2-7b-hf": {
    ...LLAMA_2,
    hidden_size: 4096,
    intermediate_size: 11008,
    num_attention_heads: 32,
    num_hidden_layers: 32,
    num_key_value_heads: 32,
  },
  "meta-llama/Llama-2-13b-hf": {
    ...LLAMA_2,
    hidden_size: 5120,
    intermediate_size: 13824,
    num_attention_heads: 40,
    num_hidden_layers: 40,
    num_key_value_heads: 40,
    pad_token_id: 0,
  },
  "meta-llama/Llama-2-70b-hf": {
    ...LLAMA_2,
    hidden_size: 8192,
    intermediate_size: 28672,
    num_attention_heads: 64,
    num_hidden_layers: 80,
    num_key_value_heads: 8,
  },
  "meta-llama/Meta-Llama-3-8B": LLAMA_3_8B,
  "meta-llama/Llama-3.1-8B-Instruct": {
    ...LLAMA_3_8B,
    eos_token_id: [128001, 128008, 128009],
    max_position_embeddings: 131072,
    mlp_bias: false,
    rope_scaling: LLAMA_3_SCALING,
    transformers_version: "4.42.3",
  },
  "meta-llama/Llama-3.2-1B": LLAMA_32_1B,
  "meta-llama/Llama-3.2-1B saved by transformers 5": inTransformers5(LLAMA_32_1B),
  "TinyLlama/TinyLlama-1.1B-Chat-v1.0": {
    ...LLAMA,
    attention_bias: false,
    hidden_size: 2048,
    intermediate_size: 5632,
    max_position_embeddings: 2048,
    num_attention_heads: 32,
    num_hidden_layers: 22,
    num_key_value_heads: 4,
    rope_theta: 10000.0,
    torch_dtype: "bfloat16",
    transformers_version: "4.35.0",
    vocab_size: 32000,
  },
  "HuggingFaceTB/SmolLM-135M": SMOLLM_135M,
  "HuggingFaceTB/SmolLM2-135M": {
    ...SMOLLM_135M,
    initializer_range: 0.041666666666666664,
    is_llama_config: true,
    max_position_embeddings: 8192,
    rope_interleaved: false,
    rope_theta: 100000,
  },
  "mistralai/Mistral-7B-v0.1": MISTRAL_7B,
  "mistralai/Mistral-7B-Instruct-v0.3": {
    ...MISTRAL_7B,
    attention_dropout: 0.0,
    rope_theta: 1000000.0,
    sliding_window: null,
    transformers_version: "4.42.0.dev0",
    vocab_size: 32768,
  },
  "mistralai/Mistral-Nemo-Base-2407": {
    ...MISTRAL_7B,
    attention_dropout: 0.0,
    head_dim: 128,
    hidden_size: 5120,
    max_position_embeddings: 131072,
    num_hidden_layers: 40,
    rope_theta: 1000000.0,
    sliding_window: null,
    transformers_version: "4.43.0.dev0",
    vocab_size: 131072,
  },
};
