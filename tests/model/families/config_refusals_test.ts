/** Each config.json that is refused, and the field that the refusal names. */
import assert from "node:assert/strict";
import { parseConfig } from "../../../model/families/config.ts";
import { LLAMA_3_SCALING, mistral, parse } from "./tiny_config.ts";

Deno.test("parseConfig: a Mistral that contradicts itself is refused by name", () => {
  const refused: [field: string, value: unknown, others?: Record<string, unknown>][] = [
    ["architectures", ["LlamaForCausalLM"]],
    ["sliding_window", 0],
    ["sliding_window", "4096"],
    ["attention_bias", true],
    ["mlp_bias", true],
    ["use_sliding_window", false],
    ["max_window_layers", 1],
    ["layer_types", ["full_attention", "sliding_attention"]],
    ["layer_types", ["full_attention", "full_attention"]],
    ["layer_types", ["sliding_attention", "sliding_attention"], { sliding_window: null }],
  ];
  for (const [field, value, others] of refused) {
    assert.throws(() => mistral({ sliding_window: 100, ...others, [field]: value }), {
      name: "UserError",
      message: new RegExp(`^c\\.json: ${field} is .*expected `),
    }, `${field}: ${JSON.stringify(value)}`);
  }
});

Deno.test("parseConfig: unknown kinds of scaling are refused by their name", () => {
  for (const type of ["mrope", "proportional", "3d"]) {
    assert.throws(() => parse({ rope_scaling: { rope_type: type, factor: 4 } }), {
      name: "UserError",
      message:
        `c.json: rope_scaling is {"rope_type":"${type}","factor":4}, expected type "default", ` +
        `"linear", "dynamic", "llama3", "yarn" or "longrope": "${type}" is not supported`,
    });
  }
});

const LONGROPE = {
  type: "longrope",
  short_factor: Array(8).fill(1),
  long_factor: Array(8).fill(2),
  original_max_position_embeddings: 64,
};

const REFUSED: [field: string, value: unknown][] = [
  ["model_type", "gpt2"],
  ["model_type", undefined],
  ["architectures", ["LlamaForSequenceClassification"]],
  ["hidden_act", "gelu"],
  ["attention_bias", "yes"],
  ["mlp_bias", 1],
  ["attention_dropout", 0.1],
  ["rope_scaling", { type: "linear" }],
  ["rope_scaling", { type: "linear", factor: 0.5 }],
  ["rope_scaling", { type: "linear", factor: "2" }],
  ["rope_scaling", { type: "linear", rope_type: "dynamic", factor: 2 }],
  ["rope_scaling", { type: "linear", factor: 2, beta_fast: 32 }],
  ["rope_scaling", { type: "dynamic", factor: 2, original_max_position_embeddings: 128 }],
  ["rope_scaling", { factor: 2 }],
  ["rope_scaling", { type: 7, factor: 2 }],
  ["rope_scaling", { type: "constructor" }],
  ["rope_scaling", { rope_type: "llama3", factor: 8 }],
  ["rope_scaling", { ...LLAMA_3_SCALING, low_freq_factor: 4 }],
  ["rope_scaling", { ...LLAMA_3_SCALING, low_freq_factor: 0 }],
  ["rope_scaling", { ...LLAMA_3_SCALING, original_max_position_embeddings: 0.5 }],
  ["rope_scaling", { rope_type: "yarn", factor: 0.5 }],
  ["rope_scaling", { rope_type: "yarn", factor: 4, truncate: 1 }],
  ["rope_scaling", { rope_type: "yarn", factor: 4, finetuned: true }],
  ["rope_scaling", { rope_type: "yarn", factor: 4, attention_factor: -1 }],
  ["rope_scaling", { ...LONGROPE, long_factor: undefined }],
  ["rope_scaling", { ...LONGROPE, long_factor: [1, 0, 1, 1, 1, 1, 1, 1] }],
  ["rope_scaling", { ...LONGROPE, short_factor: [1, 1] }],
  ["rope_scaling", { ...LONGROPE, original_max_position_embeddings: "64" }],
  ["rope_scaling", "linear"],
  ["rope_parameters", { rope_type: "yarn" }],
  ["rope_parameters", { full_attention: { rope_type: "default" } }],
  ["rope_parameters", { rope_type: "default", partial_rotary_factor: 0.5 }],
  ["rope_parameters", { rope_type: "default", rope_theta: 1 }],
  ["rope_parameters", { rope_type: "default", rope_theta: "10000" }],
  ["rope_theta", 0],
  ["rope_theta", "1e4"],
  ["partial_rotary_factor", 0.5],
  ["rope_interleaved", true],
  ["sliding_window", 4096],
  ["use_sliding_window", 0],
  ["layer_types", ["full_attention", "sliding_attention"]],
  ["quantization_config", "gptq"],
  ["quantization_config", {}],
  ["quantization_config", { quant_method: "bitsandbytes" }],
  ["compression_config", { format: "pack-quantized" }],
  ["auto_map", { AutoModelForCausalLM: "modeling.Custom" }],
  ["final_logit_softcapping", 30],
  ["vocab_size", undefined],
  ["vocab_size", "512"],
  ["vocab_size", 0],
  ["vocab_size", 1e12],
  ["hidden_size", 64.5],
  ["hidden_size", null],
  ["hidden_size", 66],
  ["intermediate_size", -4],
  ["intermediate_size", 178],
  ["num_hidden_layers", []],
  ["num_hidden_layers", 1e9],
  ["num_key_value_heads", 3],
  ["num_key_value_heads", true],
  ["head_dim", 12],
  ["head_dim", 15],
  ["head_dim", 18],
  ["head_dim", 260],
  ["max_position_embeddings", 0],
  ["rms_norm_eps", 0],
  ["rms_norm_eps", "1e-5"],
  ["tie_word_embeddings", "yes"],
  ["bos_token_id", 512],
  ["eos_token_id", [2, 512]],
  ["eos_token_id", ["2"]],
  ["eos_token_id", [-1]],
  ["bos_token_id", -2],
];

Deno.test("parseConfig: refuses by name what it does not honour", () => {
  for (const [field, value] of REFUSED) {
    assert.throws(
      () => parse({ [field]: value, ...(field === "hidden_size" ? { head_dim: 16 } : {}) }),
      { name: "UserError", message: new RegExp(`^c\\.json: ${field} is .*expected `) },
      `${field}: ${JSON.stringify(value)}`,
    );
  }
});

Deno.test("parseConfig: a derived head_dim obeys the same limits", () => {
  const refuse = (changes: Record<string, unknown>, message: RegExp) =>
    assert.throws(() => parse({ head_dim: undefined, ...changes }), { name: "UserError", message });
  refuse({ num_attention_heads: 3 }, /num_attention_heads is 3, expected a divisor of hidden_size/);
  refuse({ num_attention_heads: 32 }, /head_dim is 2, expected a multiple of 8/);
  refuse({ hidden_size: 2048 }, /head_dim is 512, expected at most 256/);
});

Deno.test("parseConfig: what is no object is refused", () => {
  for (const json of [null, [], "llama", 7]) {
    assert.throws(() => parseConfig(json, "c.json"), {
      name: "UserError",
      message: "c.json: expected a JSON object",
    });
  }
});
