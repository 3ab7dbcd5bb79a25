/** What a config.json means, and the presets. */
import assert from "node:assert/strict";
import {
  configJson,
  contextLength,
  type ModelConfig,
  parseConfig,
  weightShapes,
  withLayers,
} from "../../../model/families/config.ts";
import { presetConfig } from "../../../model/families/presets.ts";
import { PUBLISHED } from "./published_configs.ts";
import { LLAMA_3_SCALING, mistral, parse } from "./tiny_config.ts";

function weightCount(name: string): number {
  const shapes = [...weightShapes(presetConfig(name)).values()];
  return shapes.reduce((sum, shape) => sum + shape.reduce((a, b) => a * b), 0);
}

Deno.test("presets have the published numbers of weights", () => {
  assert.equal(weightCount("llama2-7b"), 6_738_415_616);
  assert.equal(weightCount("llama2-13b"), 13_015_864_320);
  assert.equal(weightCount("llama2-70b"), 68_976_648_192);
  assert.equal(weightCount("llama-1b"), 1_100_048_384);
  assert.equal(weightCount("llama3-8b"), 8_030_261_248);
  assert.equal(weightCount("llama3.2-1b"), 1_235_814_400);
  assert.equal(weightCount("mistral-7b"), 7_241_732_096);
  assert.equal(weightCount("smollm-135m"), 134_515_008);
  assert.equal(weightCount("qwen2.5-7b"), 7_615_616_512);
  assert.equal(weightCount("qwen3-8b"), 8_190_735_360);
  assert.equal(weightCount("smollm3-3b"), 3_075_098_624);
  assert.equal(weightCount("phi4-mini"), 3_836_021_760);
  // Of 4,300,079,472 that the published one has, the others are its picture encoder's.
  assert.equal(weightCount("gemma3-4b"), 3_880_263_168);
});

/** What published files mean: a preset, and what differs from it. */
const MEANINGS: Record<string, [preset: string, changes?: Partial<ModelConfig>]> = {
  "meta-llama/Llama-2-7b-hf": ["llama2-7b"],
  "meta-llama/Llama-2-13b-hf": ["llama2-13b"],
  "meta-llama/Llama-2-70b-hf": ["llama2-70b"],
  "meta-llama/Meta-Llama-3-8B": ["llama3-8b"],
  "meta-llama/Llama-3.1-8B-Instruct": ["llama3-8b", {
    eos_token_ids: [128001, 128008, 128009],
    max_position_embeddings: 131072,
    rope_scaling: LLAMA_3_SCALING,
  }],
  "meta-llama/Llama-3.2-1B": ["llama3.2-1b"],
  "meta-llama/Llama-3.2-1B saved by transformers 5": ["llama3.2-1b"],
  "TinyLlama/TinyLlama-1.1B-Chat-v1.0": ["llama-1b"],
  "HuggingFaceTB/SmolLM-135M": ["smollm-135m"],
  "HuggingFaceTB/SmolLM2-135M": ["smollm-135m", {
    max_position_embeddings: 8192,
    rope_theta: 1e5,
  }],
  "mistralai/Mistral-7B-v0.1": ["mistral-7b"],
  "mistralai/Mistral-7B-Instruct-v0.3": ["mistral-7b", {
    rope_theta: 1e6,
    sliding_window: null,
    vocab_size: 32768,
  }],
  "mistralai/Mistral-Nemo-Base-2407": ["mistral-7b", {
    hidden_size: 5120,
    max_position_embeddings: 131072,
    num_hidden_layers: 40,
    rope_theta: 1e6,
    sliding_window: null,
    vocab_size: 131072,
  }],
  "microsoft/Phi-4-mini-instruct": ["phi4-mini"],
};

Deno.test("parseConfig: published files mean what they say, and are written back", () => {
  assert.deepEqual(Object.keys(MEANINGS), Object.keys(PUBLISHED));
  for (const [repository, [name, changes]] of Object.entries(MEANINGS)) {
    const config = parseConfig(PUBLISHED[repository], repository);
    assert.deepEqual(config, { ...presetConfig(name), ...changes }, repository);
    const written = JSON.parse(JSON.stringify(configJson(config)));
    assert.deepEqual(parseConfig(written, "written"), config, repository);
    for (const field of ["architectures", "model_type", "eos_token_id", "sliding_window"]) {
      assert.deepEqual(written[field], PUBLISHED[repository][field], `${repository} ${field}`);
    }
  }
});

Deno.test("presetConfig: an unknown size names the nearest", () => {
  const message = /^unknown model size "llama2-7", expected .*; did you mean "llama2-7b"\?$/;
  assert.throws(() => presetConfig("llama2-7"), { name: "UsageError", message });
  assert.throws(() => presetConfig("constructor"), { name: "UsageError" });
});

Deno.test("presetConfig: changing what it gave does not change the preset", () => {
  const changed = presetConfig("tiny");
  changed.hidden_size = 1;
  changed.eos_token_ids.push(3);
  assert.equal(presetConfig("tiny").hidden_size, 64);
  assert.deepEqual(presetConfig("tiny").eos_token_ids, [2]);
});

Deno.test("configJson is read back unchanged", () => {
  for (const name of ["llama2-7b", "llama2-70b", "llama3.2-1b", "mistral-7b", "tiny"]) {
    const config = { ...presetConfig(name), rope_theta: 5e5, tie_word_embeddings: true };
    assert.deepEqual(parseConfig(configJson(config), "c.json"), config);
  }
  for (const type of ["linear", "dynamic"] as const) {
    const config: ModelConfig = {
      ...presetConfig("tiny"),
      rope_scaling: { type, factor: 2.5 },
      attention_bias: true,
      mlp_bias: true,
      eos_token_ids: [2, 7],
    };
    assert.deepEqual(parseConfig(configJson(config), "c.json"), config);
    // As releases before 4.43 want it: these two fields and no other.
    assert.deepEqual(configJson(config).rope_scaling, { type, factor: 2.5 });
  }
});

Deno.test("configJson: a Mistral has no fields that its class in transformers does not know", () => {
  const json = configJson(presetConfig("mistral-7b"));
  assert.deepEqual(json.architectures, ["MistralForCausalLM"]);
  assert.equal(json.model_type, "mistral");
  assert.equal(json.sliding_window, 4096);
  for (const field of ["attention_bias", "mlp_bias", "pretraining_tp"]) {
    assert.ok(!(field in json), field);
  }
  assert.ok(!("sliding_window" in configJson(presetConfig("tiny"))));
});

Deno.test("contextLength: linear and dynamic scaling stretch it, llama3 is stretched already", () => {
  const config = presetConfig("tiny");
  assert.equal(contextLength(config), 256);
  assert.equal(contextLength({ ...config, rope_scaling: { type: "linear", factor: 2.5 } }), 640);
  assert.equal(contextLength({ ...config, rope_scaling: { type: "dynamic", factor: 4 } }), 1024);
  assert.equal(contextLength({ ...config, rope_scaling: LLAMA_3_SCALING }), 256);
});

Deno.test("parseConfig: defaults are those of transformers", () => {
  const config = parse({
    num_key_value_heads: undefined,
    head_dim: undefined,
    rope_theta: undefined,
    tie_word_embeddings: undefined,
    bos_token_id: undefined,
    eos_token_id: undefined,
    hidden_act: undefined,
    architectures: undefined,
  });
  assert.deepEqual(config, { ...presetConfig("tiny"), num_key_value_heads: 4 });
});

Deno.test("parseConfig: several eos ids are kept, the first of them apart", () => {
  const { eos_token_id, eos_token_ids } = parse({ eos_token_id: [7, 8] });
  assert.equal(eos_token_id, 7);
  assert.deepEqual(eos_token_ids, [7, 8]);
  assert.deepEqual(parse({ eos_token_id: 9 }).eos_token_ids, [9]);
});

Deno.test("parseConfig: rope_parameters of transformers 5", () => {
  const rope_parameters = { rope_type: "default", rope_theta: 5e5 };
  assert.equal(parse({ rope_theta: undefined, rope_parameters }).rope_theta, 5e5);
  assert.equal(parse({ rope_scaling: { type: "default" } }).rope_theta, 10000);
  const inert = { partial_rotary_factor: 1, attention_factor: null };
  assert.equal(
    parse({ rope_parameters: { ...rope_parameters, ...inert }, rope_theta: 5e5 }).rope_theta,
    5e5,
  );
});

Deno.test("parseConfig: scaled RoPE in every spelling", () => {
  const scaled = (json: Record<string, unknown>) => parse(json).rope_scaling;
  const linear = { type: "linear", factor: 4 };
  const { type: _, ...rules } = LLAMA_3_SCALING;
  assert.deepEqual(scaled({ rope_scaling: linear }), linear);
  assert.deepEqual(scaled({ rope_scaling: { rope_type: "linear", factor: 4 } }), linear);
  assert.deepEqual(scaled({ rope_scaling: { ...linear, rope_type: "linear" } }), linear);
  assert.deepEqual(scaled({ rope_scaling: { ...linear, rope_type: null } }), linear);
  assert.deepEqual(scaled({ rope_scaling: linear, rope_parameters: linear }), linear);
  const dynamic = { type: "dynamic", factor: 2 };
  assert.deepEqual(scaled({ rope_scaling: dynamic }), dynamic);
  const trained = { ...dynamic, original_max_position_embeddings: 256 };
  assert.deepEqual(scaled({ rope_scaling: trained }), dynamic);
  const rope_parameters = { rope_type: "llama3", ...rules, rope_theta: 10000 };
  assert.deepEqual(scaled({ rope_parameters }), LLAMA_3_SCALING);
});

Deno.test("parseConfig: a Mistral's window, and its defaults of transformers", () => {
  assert.equal(mistral({ sliding_window: 100 }).sliding_window, 100);
  assert.equal(mistral({ sliding_window: null }).sliding_window, null);
  assert.equal(mistral({}).sliding_window, 4096);
  const heads = { num_attention_heads: 8, head_dim: 8, num_key_value_heads: undefined };
  assert.equal(mistral(heads).num_key_value_heads, 8);
  assert.equal(mistral({ ...heads, num_attention_heads: 16 }).num_key_value_heads, 8);
  const inert = { use_sliding_window: true, max_window_layers: 0 };
  const layer_types = ["sliding_attention", "sliding_attention"];
  assert.equal(mistral({ sliding_window: 100, ...inert, layer_types }).sliding_window, 100);
  const off = { sliding_window: null, use_sliding_window: false, max_window_layers: 1 };
  const everywhere = ["full_attention", "full_attention"];
  assert.equal(mistral({ ...off, layer_types: everywhere }).sliding_window, null);
  // A Llama has none, which is what switching it off says too.
  assert.equal(parse({ sliding_window: 4096, use_sliding_window: false }).sliding_window, null);
});

Deno.test("weightShapes: a bias follows its matrix where config.json announces it", () => {
  const biases = (changes: Record<string, unknown>) =>
    [...weightShapes(parse(changes))].filter(([name]) => name.endsWith(".bias"));
  assert.deepEqual(biases({}), []);
  assert.deepEqual(biases({ attention_bias: true, num_hidden_layers: 1 }), [
    ["model.layers.0.self_attn.q_proj.bias", [64]],
    ["model.layers.0.self_attn.k_proj.bias", [32]],
    ["model.layers.0.self_attn.v_proj.bias", [32]],
    ["model.layers.0.self_attn.o_proj.bias", [64]],
  ]);
  assert.deepEqual(biases({ mlp_bias: true, num_hidden_layers: 1 }), [
    ["model.layers.0.mlp.gate_proj.bias", [176]],
    ["model.layers.0.mlp.up_proj.bias", [176]],
    ["model.layers.0.mlp.down_proj.bias", [64]],
  ]);
  const names = [...weightShapes(parse({ attention_bias: true })).keys()];
  const at = names.indexOf("model.layers.1.self_attn.q_proj.weight");
  assert.equal(names[at + 1], "model.layers.1.self_attn.q_proj.bias");
});

Deno.test("parseConfig: an explicit head_dim need not be hidden_size / heads", () => {
  const shapes = weightShapes(parse({ head_dim: 8 }));
  assert.deepEqual(shapes.get("model.layers.0.self_attn.q_proj.weight"), [32, 64]);
  assert.deepEqual(shapes.get("model.layers.0.self_attn.k_proj.weight"), [16, 64]);
  assert.deepEqual(shapes.get("model.layers.0.self_attn.o_proj.weight"), [64, 32]);
});

Deno.test("parseConfig: what the file leaves out is what transformers takes", () => {
  const gone = { max_position_embeddings: undefined, rms_norm_eps: undefined };
  const llama = parse(gone);
  assert.deepEqual([llama.max_position_embeddings, llama.rms_norm_eps], [2048, 1e-6]);
  const mistral = parse({ ...gone, model_type: "mistral", architectures: ["MistralForCausalLM"] });
  assert.deepEqual([mistral.max_position_embeddings, mistral.rms_norm_eps], [131072, 1e-6]);
  const ids = ({ bos_token_id, eos_token_id, eos_token_ids }: ReturnType<typeof parse>) => [
    bos_token_id,
    eos_token_id,
    eos_token_ids,
  ];
  const none = parse({ bos_token_id: undefined, eos_token_id: undefined, pad_token_id: -1 });
  assert.deepEqual(ids(none), [1, 2, [2]]);
  for (const absent of [null, -1, []]) {
    const config = parse({ bos_token_id: absent, eos_token_id: absent, pad_token_id: 99999 });
    assert.deepEqual(ids(config), [null, null, []]);
    assert.deepEqual(parseConfig(configJson(config), "c.json"), config);
  }
});

Deno.test("parseConfig: the first conversions of LLaMA, with the ids of their tokenizer", () => {
  const old = {
    architectures: ["LLaMAForCausalLM"],
    bos_token_id: 0,
    eos_token_id: 1,
    max_position_embeddings: undefined,
    max_sequence_length: 1024,
    pad_token_id: -1,
  };
  const config = parse(old);
  assert.equal(config.max_position_embeddings, 1024);
  assert.deepEqual([config.bos_token_id, config.eos_token_ids], [1, [2]]);
  assert.equal(parse({ ...old, model_type: undefined }).model_type, "llama");
  // Ids that are right, and the same ids in other files, stay.
  assert.equal(parse({ ...old, bos_token_id: 1, eos_token_id: 2 }).eos_token_id, 2);
  assert.deepEqual(parse({ bos_token_id: 0, eos_token_id: 1 }).eos_token_ids, [1]);
  assert.equal(parse({ max_sequence_length: 7 }).max_position_embeddings, 256);
});

Deno.test("withLayers keeps the first blocks, and no more than there are", () => {
  const config = withLayers(presetConfig("llama2-7b"), 1, "llama2-7b");
  assert.equal(config.num_hidden_layers, 1);
  assert.equal(weightShapes(config).size, 12);
  for (const layers of [0, 33, 1.5, NaN]) {
    assert.throws(() => withLayers(presetConfig("llama2-7b"), layers, "llama2-7b"), {
      name: "UsageError",
      message: /expected a whole number from 1 to the 32 of llama2-7b/,
    });
  }
});

Deno.test("weightShapes: names in load order, lm_head only where it is not tied", () => {
  const names = [...weightShapes(parse({})).keys()];
  assert.deepEqual(names.slice(0, 4), [
    "model.embed_tokens.weight",
    "model.layers.0.input_layernorm.weight",
    "model.layers.0.self_attn.q_proj.weight",
    "model.layers.0.self_attn.k_proj.weight",
  ]);
  assert.deepEqual(names.slice(-2), ["model.norm.weight", "lm_head.weight"]);
  assert.equal(names.length, 2 * 9 + 3);
  assert.ok(!weightShapes(parse({ tie_word_embeddings: true })).has("lm_head.weight"));
});
