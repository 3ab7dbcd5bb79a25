import assert from "node:assert/strict";
import {
  configJson,
  parseLlamaConfig,
  presetConfig,
  weightShapes,
  withLayers,
} from "../../model/config.ts";

/** The tiny model's file with some fields changed; `undefined` removes one. */
function tinyJson(changes: Record<string, unknown> = {}): Record<string, unknown> {
  return JSON.parse(JSON.stringify({ ...configJson(presetConfig("tiny")), ...changes }));
}

const parse = (changes: Record<string, unknown>) => parseLlamaConfig(tinyJson(changes), "c.json");

function weightCount(name: string): number {
  const shapes = [...weightShapes(presetConfig(name)).values()];
  return shapes.reduce((sum, shape) => sum + shape.reduce((a, b) => a * b), 0);
}

Deno.test("presets have the published numbers of weights", () => {
  assert.equal(weightCount("llama2-7b"), 6_738_415_616);
  assert.equal(weightCount("llama2-13b"), 13_015_864_320);
  assert.equal(weightCount("llama-1b"), 1_100_048_384);
});

Deno.test("presetConfig: an unknown size names the nearest", () => {
  const message = /^unknown model size "llama2-7", expected .*; did you mean "llama2-7b"\?$/;
  assert.throws(() => presetConfig("llama2-7"), { name: "UserError", message, exitCode: 2 });
  assert.throws(() => presetConfig("constructor"), { name: "UserError" });
});

Deno.test("presetConfig: changing what it gave does not change the preset", () => {
  presetConfig("tiny").hidden_size = 1;
  assert.equal(presetConfig("tiny").hidden_size, 64);
});

Deno.test("configJson is read back unchanged", () => {
  for (const name of ["llama2-7b", "llama2-13b", "llama-1b", "tiny"]) {
    const config = { ...presetConfig(name), rope_theta: 5e5, tie_word_embeddings: true };
    assert.deepEqual(parseLlamaConfig(configJson(config), "c.json"), config);
  }
});

Deno.test("parseLlamaConfig: defaults are those of transformers", () => {
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

Deno.test("parseLlamaConfig: of several eos ids the first counts", () => {
  assert.equal(parse({ eos_token_id: [7, 8] }).eos_token_id, 7);
});

Deno.test("parseLlamaConfig: rope_parameters of transformers 5", () => {
  const rope_parameters = { rope_type: "default", rope_theta: 5e5 };
  assert.equal(parse({ rope_theta: undefined, rope_parameters }).rope_theta, 5e5);
  assert.equal(parse({ rope_scaling: { type: "default" } }).rope_theta, 10000);
});

Deno.test("parseLlamaConfig: an explicit head_dim need not be hidden_size / heads", () => {
  const shapes = weightShapes(parse({ head_dim: 8 }));
  assert.deepEqual(shapes.get("model.layers.0.self_attn.q_proj.weight"), [32, 64]);
  assert.deepEqual(shapes.get("model.layers.0.self_attn.k_proj.weight"), [16, 64]);
  assert.deepEqual(shapes.get("model.layers.0.self_attn.o_proj.weight"), [64, 32]);
});

const REFUSED: [field: string, value: unknown][] = [
  ["model_type", "mistral"],
  ["model_type", undefined],
  ["architectures", ["LlamaForSequenceClassification"]],
  ["hidden_act", "gelu"],
  ["attention_bias", true],
  ["mlp_bias", true],
  ["attention_dropout", 0.1],
  ["rope_scaling", { type: "linear", factor: 2 }],
  ["rope_scaling", { rope_type: "llama3", factor: 8 }],
  ["rope_scaling", "linear"],
  ["rope_parameters", { rope_type: "yarn" }],
  ["rope_parameters", { rope_type: "default", partial_rotary_factor: 0.5 }],
  ["rope_parameters", { rope_type: "default", rope_theta: 1 }],
  ["rope_parameters", { rope_type: "default", rope_theta: "10000" }],
  ["rope_theta", 0],
  ["rope_theta", "1e4"],
  ["partial_rotary_factor", 0.5],
  ["rope_interleaved", true],
  ["sliding_window", 4096],
  ["layer_types", ["full_attention", "sliding_attention"]],
  ["quantization_config", { quant_method: "gptq" }],
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
  ["max_position_embeddings", undefined],
  ["rms_norm_eps", undefined],
  ["rms_norm_eps", 0],
  ["rms_norm_eps", "1e-5"],
  ["tie_word_embeddings", "yes"],
  ["bos_token_id", null],
  ["bos_token_id", 512],
  ["eos_token_id", []],
  ["eos_token_id", -1],
];

Deno.test("parseLlamaConfig: refuses by name what it does not honour", () => {
  for (const [field, value] of REFUSED) {
    assert.throws(
      () => parse({ [field]: value, ...(field === "hidden_size" ? { head_dim: 16 } : {}) }),
      { name: "UserError", message: new RegExp(`^c\\.json: ${field} is .*expected `) },
      `${field}: ${JSON.stringify(value)}`,
    );
  }
});

Deno.test("parseLlamaConfig: a derived head_dim obeys the same limits", () => {
  const refuse = (changes: Record<string, unknown>, message: RegExp) =>
    assert.throws(() => parse({ head_dim: undefined, ...changes }), { name: "UserError", message });
  refuse({ num_attention_heads: 3 }, /num_attention_heads is 3, expected a divisor of hidden_size/);
  refuse({ num_attention_heads: 32 }, /head_dim is 2, expected a multiple of 8/);
  refuse({ hidden_size: 2048 }, /head_dim is 512, expected at most 256/);
});

Deno.test("parseLlamaConfig: what is no object is refused", () => {
  for (const json of [null, [], "llama", 7]) {
    assert.throws(() => parseLlamaConfig(json, "c.json"), {
      name: "UserError",
      message: "c.json: expected a JSON object",
    });
  }
});

Deno.test("withLayers keeps the first blocks, and no more than there are", () => {
  const config = withLayers(presetConfig("llama2-7b"), 1, "llama2-7b");
  assert.equal(config.num_hidden_layers, 1);
  assert.equal(weightShapes(config).size, 12);
  for (const layers of [0, 33, 1.5, NaN]) {
    assert.throws(() => withLayers(presetConfig("llama2-7b"), layers, "llama2-7b"), {
      name: "UserError",
      message: /expected a whole number from 1 to the 32 of llama2-7b/,
      exitCode: 2,
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
