/** What a config.json of each family means, and what of it is refused. */
import assert from "node:assert/strict";
import {
  archSpec,
  configJson,
  contextLength,
  parseConfig,
  weightShapes,
  withLayers,
} from "../../../model/families/config.ts";
import { readFixture } from "../../fixtures.ts";

const SIZES = {
  vocab_size: 64,
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 16,
  bos_token_id: 1,
  eos_token_id: 2,
};
const LOCAL = "sliding_attention", GLOBAL = "full_attention";

/** What a file of these sizes means, with more keys. */
const parse = (model_type: string, keys: Record<string, unknown> = {}) =>
  parseConfig({ ...SIZES, model_type, ...keys }, "c.json");

/** The windows of the layers. */
const windows = (model_type: string, keys: Record<string, unknown> = {}) =>
  archSpec(parse(model_type, keys)).layers.map(({ window }) => window);

/** The modules of a block with biases. */
const biases = (model_type: string, keys: Record<string, unknown> = {}) =>
  [...archSpec(parse(model_type, keys)).biases].join(" ");

/** config.json of published models, without what doesn't say anything, and their numbers of weights. */
const PUBLISHED: [repository: string, weights: number, json: Record<string, unknown>][] = [
  ["Qwen/Qwen2.5-7B-Instruct", 7_615_616_512, {
    architectures: ["Qwen2ForCausalLM"],
    attention_dropout: 0.0,
    bos_token_id: 151643,
    eos_token_id: 151645,
    hidden_act: "silu",
    hidden_size: 3584,
    initializer_range: 0.02,
    intermediate_size: 18944,
    max_position_embeddings: 32768,
    max_window_layers: 28,
    model_type: "qwen2",
    num_attention_heads: 28,
    num_hidden_layers: 28,
    num_key_value_heads: 4,
    rms_norm_eps: 1e-06,
    rope_theta: 1000000.0,
    sliding_window: 131072,
    tie_word_embeddings: false,
    use_sliding_window: false,
    vocab_size: 152064,
  }],
  ["Qwen/Qwen3-8B", 8_190_735_360, {
    architectures: ["Qwen3ForCausalLM"],
    attention_bias: false,
    attention_dropout: 0.0,
    bos_token_id: 151643,
    eos_token_id: 151645,
    head_dim: 128,
    hidden_act: "silu",
    hidden_size: 4096,
    intermediate_size: 12288,
    max_position_embeddings: 40960,
    max_window_layers: 36,
    model_type: "qwen3",
    num_attention_heads: 32,
    num_hidden_layers: 36,
    num_key_value_heads: 8,
    rms_norm_eps: 1e-06,
    rope_scaling: null,
    rope_theta: 1000000,
    sliding_window: null,
    tie_word_embeddings: false,
    use_sliding_window: false,
    vocab_size: 151936,
  }],
  ["google/gemma-2-2b", 2_614_341_888, {
    architectures: ["Gemma2ForCausalLM"],
    attention_bias: false,
    attention_dropout: 0.0,
    attn_logit_softcapping: 50.0,
    bos_token_id: 2,
    cache_implementation: "hybrid",
    eos_token_id: 1,
    final_logit_softcapping: 30.0,
    head_dim: 256,
    hidden_act: "gelu_pytorch_tanh",
    hidden_activation: "gelu_pytorch_tanh",
    hidden_size: 2304,
    intermediate_size: 9216,
    max_position_embeddings: 8192,
    model_type: "gemma2",
    num_attention_heads: 8,
    num_hidden_layers: 26,
    num_key_value_heads: 4,
    pad_token_id: 0,
    query_pre_attn_scalar: 256,
    rms_norm_eps: 1e-06,
    rope_theta: 10000.0,
    sliding_window: 4096,
    vocab_size: 256000,
  }],
  ["google/gemma-3-1b-it", 999_885_952, {
    architectures: ["Gemma3ForCausalLM"],
    attention_bias: false,
    attn_logit_softcapping: null,
    bos_token_id: 2,
    cache_implementation: "hybrid",
    eos_token_id: [1, 106],
    final_logit_softcapping: null,
    head_dim: 256,
    hidden_activation: "gelu_pytorch_tanh",
    hidden_size: 1152,
    intermediate_size: 6912,
    max_position_embeddings: 32768,
    model_type: "gemma3_text",
    num_attention_heads: 4,
    num_hidden_layers: 26,
    num_key_value_heads: 1,
    pad_token_id: 0,
    query_pre_attn_scalar: 256,
    rms_norm_eps: 1e-06,
    rope_local_base_freq: 10000,
    rope_scaling: null,
    rope_theta: 1000000,
    sliding_window: 512,
    sliding_window_pattern: 6,
    vocab_size: 262144,
  }],
];

Deno.test("parseConfig: published files of other families have the published numbers of weights", () => {
  for (const [repository, weights, json] of PUBLISHED) {
    const config = parseConfig(json, repository), shapes = [...weightShapes(config).values()];
    const count = shapes.reduce((sum, shape) => sum + shape.reduce((a, b) => a * b), 0);
    assert.equal(count, weights, repository);
    assert.deepEqual(configJson(config).architectures, json.architectures);
  }
});

Deno.test("configJson of every family is read back unchanged", () => {
  for (const { name, config: json } of readFixture("families.json").cases) {
    const config = parseConfig(json, name);
    const written = JSON.parse(JSON.stringify(configJson(config)));
    assert.deepEqual(parseConfig(written, "written"), config, name);
  }
});

Deno.test("configJson: a soft cap is a float, which transformers asks for", () => {
  const config = parse("gemma2", { final_logit_softcapping: 30.0, attn_logit_softcapping: 2.5 });
  const text = JSON.stringify(configJson(config));
  assert.match(text, /"final_logit_softcapping":30\.0,/);
  assert.match(text, /"attn_logit_softcapping":2\.5[,}]/);
});

Deno.test("parseConfig: windows by layer, and what leaves them out", () => {
  assert.deepEqual(windows("qwen2"), [null, null, null, null]);
  const used = { use_sliding_window: true, sliding_window: 8 };
  assert.deepEqual(windows("qwen2", used), [null, null, null, null]);
  assert.deepEqual(windows("qwen3", { ...used, max_window_layers: 1 }), [null, 8, 8, 8]);
  const off = { sliding_window: 8, max_window_layers: 0 };
  assert.deepEqual(windows("qwen3", off), [null, null, null, null]);
  const smol = { ...used, no_rope_layer_interval: 2 };
  assert.deepEqual(windows("smollm3", smol), [null, 8, null, 8]);
  assert.deepEqual(windows("olmo3"), [4096, 4096, 4096, null]);
  assert.deepEqual(windows("exaone4"), [4096, 4096, 4096, null]);
  assert.deepEqual(windows("exaone4", { sliding_window: null }), [null, null, null, null]);
  assert.deepEqual(windows("gemma2"), [4096, null, 4096, null]);
  assert.deepEqual(windows("gemma3_text"), [4096, 4096, 4096, 4096]);
  const three = { sliding_window: 9, sliding_window_pattern: 3 };
  assert.deepEqual(windows("gemma3_text", three), [9, 9, null, 9]);
  assert.deepEqual(windows("ministral"), [4096, 4096, 4096, 4096]);
  const layer_types = [GLOBAL, LOCAL, GLOBAL, LOCAL];
  for (const family of ["ministral", "gemma2", "gemma3_text", "exaone4", "olmo3"]) {
    assert.deepEqual(windows(family, { sliding_window: 7, layer_types }), [null, 7, null, 7]);
  }
});

Deno.test("withLayers cuts what is said by layer", () => {
  const no_rope_layers = [0, 1, 1, 0];
  const config = withLayers(parse("smollm3", { no_rope_layers }), 2, "c");
  assert.equal(archSpec(config).layers.length, 2);
  const json = configJson(config);
  assert.deepEqual(json.no_rope_layers, [0, 1]);
  assert.deepEqual(json.layer_types, [GLOBAL, GLOBAL]);
});

Deno.test("parseConfig: biases of Seed-OSS, each by its key", () => {
  assert.equal(biases("seed_oss"), "q_proj k_proj v_proj");
  assert.equal(biases("seed_oss", { attention_bias: false }), "");
  const out = { attention_bias: false, attention_out_bias: true };
  assert.equal(biases("seed_oss", out), "o_proj");
  assert.equal(
    biases("seed_oss", { ...out, mlp_bias: true }),
    "gate_proj up_proj down_proj o_proj",
  );
  assert.equal(biases("qwen2"), "q_proj k_proj v_proj");
  assert.equal(biases("qwen3", { attention_bias: true }), "q_proj k_proj v_proj o_proj");
});

Deno.test("parseConfig: layers of EXAONE 4 that don't encode positions", () => {
  const rotated = (model_type: string, keys: Record<string, unknown>) =>
    archSpec(parse(model_type, keys)).layers.map(({ rope }) => rope !== null);
  const layer_types = [GLOBAL, GLOBAL, GLOBAL, GLOBAL];
  assert.deepEqual(rotated("exaone4", {}), [true, true, true, false]);
  assert.deepEqual(rotated("exaone4", { layer_types }), [false, false, false, false]);
  const whole = { layer_types, sliding_window: null };
  assert.deepEqual(rotated("exaone4", whole), [true, true, true, true]);
  assert.deepEqual(rotated("smollm3", {}), [true, true, true, false]);
  const no_rope_layers = [1, 0, 0, 1, 0];
  assert.deepEqual(rotated("smollm3", { no_rope_layers }), [true, false, false, true]);
});

Deno.test("parseConfig: RoPE of Gemma 3's layers, in the keys of releases 4 and 5", () => {
  const ropes = (keys: Record<string, unknown>) => {
    const { layers } = archSpec(parse("gemma3_text", { layer_types, ...keys }));
    return layers.slice(0, 2).map(({ rope }) => [rope!.theta, rope!.scaling]);
  };
  const layer_types = [GLOBAL, LOCAL, GLOBAL, LOCAL], scaling = { type: "linear", factor: 8 };
  assert.deepEqual(ropes({}), [[1e6, null], [1e4, null]]);
  const older = { rope_theta: 5e5, rope_local_base_freq: 70, rope_scaling: scaling };
  assert.deepEqual(ropes(older), [[5e5, scaling], [70, null]]);
  const rope_parameters = {
    full_attention: { rope_type: "default", rope_theta: 300 },
    sliding_attention: { rope_type: "linear", factor: 8, rope_theta: 40 },
  };
  assert.deepEqual(ropes({ rope_parameters }), [[300, null], [40, scaling]]);
  assert.deepEqual(ropes({ rope_parameters: { full_attention: { rope_type: "default" } } }), [
    [1e6, null],
    [1e4, null],
  ]);
});

Deno.test("parseConfig: how a Ministral 3's queries grow, and its RoPE where the file has none", () => {
  const rope = { rope_type: "yarn", factor: 4, original_max_position_embeddings: 512 };
  const growth = (keys: Record<string, unknown>) => {
    const rope_parameters = { ...rope, ...keys };
    return archSpec(parse("ministral3", { max_position_embeddings: 2048, rope_parameters }))
      .queryGrowth;
  };
  assert.deepEqual(growth({ llama_4_scaling_beta: 0.2 }), { beta: 0.2, period: 512 });
  assert.equal(growth({ llama_4_scaling_beta: 0 }), null);
  const plain = parse("ministral3");
  assert.deepEqual(archSpec(plain).queryGrowth, { beta: 0.1, period: 16384 });
  assert.deepEqual([plain.rope_theta, plain.rope_scaling?.type], [1e6, "yarn"]);
  assert.equal(contextLength(plain), 262144);
  const rope_parameters = {
    rope_type: "linear",
    factor: 2,
    original_max_position_embeddings: 512,
    llama_4_scaling_beta: 0.2,
  };
  const linear = parse("ministral3", { max_position_embeddings: 2048, rope_parameters });
  assert.deepEqual(archSpec(linear).queryGrowth, { beta: 0.2, period: 512 });
  const written = JSON.parse(JSON.stringify(configJson(linear)));
  assert.deepEqual(parseConfig(written, "written"), linear);
});

Deno.test("contextLength: a Gemma 3's has the factor of its RoPE already", () => {
  const rope_scaling = { rope_type: "linear", factor: 8 };
  const config = parse("gemma3_text", { max_position_embeddings: 1024, rope_scaling });
  assert.equal(contextLength(config), 1024);
});

Deno.test("parseConfig: the scale of Gemma's embeddings is rounded as a float32", () => {
  const { embedding_multiplier } = archSpec(parse("gemma2", { hidden_size: 60, head_dim: 16 }));
  assert.equal(embedding_multiplier, Math.fround(Math.sqrt(60)));
});

Deno.test("parseConfig: families refuse by name what they don't honour", () => {
  const two = [GLOBAL, LOCAL], used = { use_sliding_window: true };
  const refused: [family: string, field: string, value: unknown, more?: Record<string, unknown>][] =
    [
      ["qwen2", "attention_bias", false],
      ["qwen2", "mlp_bias", true],
      ["qwen2", "layer_types", two, { ...used, sliding_window: 8 }],
      ["qwen2", "use_sliding_window", false, { layer_types: [...two, ...two] }],
      ["qwen3", "max_window_layers", -1, used],
      ["qwen3", "layer_types", [...two, GLOBAL, "chunked_attention"], {
        ...used,
        sliding_window: 8,
      }],
      ["qwen3", "sliding_window", 0, used],
      ["qwen3", "embedding_multiplier", 2],
      ["smollm3", "no_rope_layers", [1, 0, 1]],
      ["smollm3", "no_rope_layers", [1, 0, 2, 1]],
      ["smollm3", "no_rope_layer_interval", 0],
      ["smollm3", "use_sliding_window", undefined, { layer_types: [...two, ...two] }],
      ["granite", "logits_scaling", 0],
      ["granite", "attention_multiplier", "0.1"],
      ["granite", "no_rope_layers", [1, 1, 1, 1]],
      ["olmo2", "mlp_bias", true],
      ["olmo2", "clip_qkv", 8],
      ["olmo3", "rope_theta", 10000],
      ["olmo3", "rope_parameters", { rope_type: "default", rope_theta: 1e6 }],
      ["olmo3", "sliding_window", null],
      ["seed_oss", "attention_out_bias", "yes"],
      ["exaone4", "sliding_window_pattern", "LLLG"],
      ["exaone4", "sliding_window", null, { layer_types: [...two, ...two] }],
      ["exaone4", "attention_bias", true],
      ["gemma2", "hidden_activation", "gelu"],
      ["gemma2", "query_pre_attn_scalar", 0],
      ["gemma2", "final_logit_softcapping", -1],
      ["gemma2", "use_bidirectional_attention", true],
      ["gemma3_text", "use_bidirectional_attention", true],
      ["gemma3_text", "sliding_window_pattern", 0],
      ["gemma3_text", "rope_local_base_freq", 0],
      ["gemma3_text", "rope_parameters", { rope_theta: 1e4 }],
      ["ministral", "attention_bias", true],
      ["ministral3", "sliding_window", 0],
      ["mistral", "attention_dropout", 0.1],
      ["phi3", "auto_map", { AutoModelForCausalLM: "modeling_phi3_small.Phi3SmallForCausalLM" }],
      ["phi3", "resid_pdrop", 0.1],
      ["phi3", "rope_scaling", { type: "yarn", factor: 4 }],
      ["phi3", "lm_head_bias", true],
      ["llama", "per_layer_config", { 0: { head_dim: 8 } }],
      ["llama", "residual_dropout", 0.1],
    ];
  for (const [family, field, value, more] of refused) {
    const message = new RegExp(`^c\\.json: ${field} is .*expected `);
    const what = `${family} ${field}: ${JSON.stringify(value)}`;
    const refusal = { name: "UserError", message };
    assert.throws(() => parse(family, { ...more, [field]: value }), refusal, what);
  }
  assert.throws(() => parse("ministral3", { rope_parameters: { rope_type: "default" } }), {
    message:
      "c.json: rope_parameters: llama_4_scaling_beta is missing, expected a number from 0 on",
  });
});
