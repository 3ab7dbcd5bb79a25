import assert from "node:assert/strict";
import { Memory } from "../../../kernels/gpu/memory.ts";
import { EXACT } from "../../../kernels/ops/numerics.ts";
import { adapterConfig } from "../../../model/adapter/adapter_config.ts";
import { type Adapter, adapterShapes } from "../../../model/adapter/adapter_folder.ts";
import { adapterPlan } from "../../../model/adapter/plan.ts";
import { loadAdapter } from "../../../model/checkpoint/load.ts";
import { openGguf } from "../../../model/formats/gguf/weights.ts";
import { Llama } from "../../../model/transformer/llama.ts";
import { scoreMode } from "../../../model/transformer/modes.ts";
import { frozenKinds, type QuantizationSettings } from "../../../model/transformer/quantization.ts";
import { fixturePath } from "../../fixtures.ts";
import { gpuTest } from "../../kernels/harness.ts";

/** A model of which each type holds something: see tests/fixtures/make_gguf.py. */
const PATH = fixturePath("gguf/sentencepiece.gguf");

/** The kinds of the model's matrices, by the ends of their names. */
function kindsOf(
  settings: Partial<QuantizationSettings>,
  adapter?: Parameters<typeof adapterConfig>[0],
): (name: string) => string {
  const source = openGguf(PATH), { config } = source;
  try {
    const all = { quantization: "none", double_quantization: true, quantization_skip: [] } as const;
    const { weights } = new Llama(new Memory(), {
      config,
      numerics: EXACT,
      mode: scoreMode({ maxTokens: 8, maxTargets: 8 }),
      frozen: frozenKinds(config, { ...all, ...settings }, source),
      lora: adapter && adapterPlan(adapterConfig(adapter), config, "the adapter"),
    });
    const kinds = new Map(weights.map(({ name, operand: { kind } }) => [name, kind.name]));
    return (name) => {
      const [found, ...others] = [...kinds].filter(([key]) => key.endsWith(`${name}.weight`));
      assert.equal(others.length, 0, name);
      return found[1];
    };
  } finally {
    source.close();
  }
}

Deno.test("linear layers of blocks are held as their file has them, other matrices dense", () => {
  const kind = kindsOf({});
  const [q, k, v, o, gate, up, down] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
  ].map((module) => kind(`layers.0.${module}`));
  assert.deepEqual([q, k, v, o], ["q4_k", "f32", "q6_k", "int8"]);
  assert.deepEqual([gate, up, down], ["q4_0", "f32", "int8"]);
  // Of Q5_1 and IQ4_NL; the second would be kept of a linear layer of a block.
  assert.deepEqual([kind("embed_tokens"), kind("lm_head")], ["f32", "f32"]);
});

Deno.test("quantization holds linear layers in another kind than their file, but for those to skip", () => {
  const kind = kindsOf({
    quantization: "int8",
    quantization_skip: ["q_proj", "layers.0.mlp.gate_proj"],
  });
  assert.deepEqual(
    ["0.self_attn.q_proj", "0.mlp.gate_proj", "1.mlp.gate_proj", "0.self_attn.k_proj"].map(kind),
    ["q4_k", "q4_0", "int8", "int8"],
  );
});

Deno.test("a matrix that an adapter has a copy of is dense", () => {
  const kind = kindsOf({}, { r: 4, target_modules: ["v_proj"], modules_to_save: ["q_proj"] });
  assert.equal(kind("layers.0.self_attn.q_proj"), "f32");
  assert.equal(kind("layers.0.self_attn.v_proj"), "q6_k");
});

gpuTest("a copy of a matrix that only a file holds so is refused", (gpu) => {
  const source = openGguf(PATH), { config: model } = source;
  const settings = { double_quantization: true, quantization_skip: [] } as const;
  const config = adapterConfig({ r: 4, target_modules: ["q_proj"] });
  const llama = new Llama(gpu.memory, {
    config: model,
    numerics: EXACT,
    mode: scoreMode({ maxTokens: 8, maxTargets: 8 }),
    frozen: frozenKinds(model, { quantization: "none", ...settings }, source),
    lora: adapterPlan(config, model, "the adapter"),
  });
  source.close();
  const tensors: Adapter["tensors"] = new Map(
    [...adapterShapes(model, config)].map(([name, shape]) => {
      return [name, { shape, data: new Float32Array(shape.reduce((a, b) => a * b)) }];
    }),
  );
  const name = "base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight";
  tensors.set(name, { shape: [32, 256], data: new Float32Array(32 * 256) });
  assert.throws(() => loadAdapter(gpu, llama, { config, tensors }), {
    name: "UserError",
    message:
      "the adapter has a copy of model.layers.0.self_attn.q_proj.weight, which the model's " +
      "file holds as q4_k and values can't become; expected --quantization int8 or nf4, or an " +
      "adapter without the copy",
  });
  return Promise.resolve();
});
