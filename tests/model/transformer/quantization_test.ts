/** Which matrices are quantised, what they take, and what is said and refused. */
import assert from "node:assert/strict";
import { UserError } from "../../../kernels/errors.ts";
import { Memory } from "../../../kernels/gpu/memory.ts";
import { openModel } from "../../../model/checkpoint/source.ts";
import { presetConfig } from "../../../model/families/presets.ts";
import type { ModelConfig } from "../../../model/families/config.ts";
import type { WeightSource } from "../../../model/formats/weights.ts";
import { Llama } from "../../../model/transformer/llama.ts";
import { numericsOf, scoreMode } from "../../../model/transformer/modes.ts";
import {
  describeQuantization,
  frozenKinds,
  type QuantizationSettings,
} from "../../../model/transformer/quantization.ts";
import { fixturePath } from "../../fixtures.ts";

const DEFAULTS = { double_quantization: true, quantization_skip: [] };

/** A model's parameters, planned in mixed precision. */
function planned(config: ModelConfig, settings: QuantizationSettings, weights?: WeightSource) {
  return new Llama(new Memory(), {
    config,
    numerics: numericsOf({ precision: "mixed", exact_products: false }),
    frozen: frozenKinds(config, settings, weights),
    mode: scoreMode({ maxTokens: 1, maxTargets: 1 }),
  }).weights;
}

Deno.test("quantization: the seven linear layers of every block, and bits of each weight", () => {
  const config = presetConfig("llama2-7b");
  const bits = { int8: 8.5, nf4: 4 + 264 * 8 / (256 * 64), nf4_f32: 4.5 };
  for (const [kind, expected] of Object.entries(bits)) {
    const quantization = kind === "int8" ? "int8" : "nf4";
    const double_quantization = kind !== "nf4_f32";
    const weights = planned(config, { ...DEFAULTS, quantization, double_quantization });
    const held = weights.filter(({ operand }) => operand.kind.element === undefined);
    assert.equal(held.length, 7 * 32);
    assert.ok(
      held.every(({ name, operand }) =>
        /layers\.\d+\.(self_attn|mlp)\.\w+_proj\.weight$/.test(name) && operand.kind.name === kind
      ),
    );
    const tables = held.reduce((sum, { operand }) => sum + (operand.tensors[2]?.bytes ?? 0), 0);
    const bytes = held.reduce((sum, { operand }) => sum + operand.bytes, 0) - tables;
    const values = held.reduce((sum, { operand }) => sum + operand.values, 0);
    assert.equal(8 * bytes / values, expected, kind);
    assert.ok(tables < 224 * 1200);
  }
});

Deno.test("quantization_skip: layers by name, or by the end of it", () => {
  const config = presetConfig("tiny"), skip = ["k_proj", "mlp.up_proj", "layers.1.mlp.down_proj"];
  const settings = { ...DEFAULTS, quantization: "nf4", quantization_skip: skip } as const;
  const dense = planned(config, settings)
    .filter(({ name, operand }) => /_proj/.test(name) && operand.kind.element !== undefined)
    .map(({ name }) => name);
  const layers = Array.from({ length: config.num_hidden_layers }, (_, i) => `model.layers.${i}`);
  assert.deepEqual(
    dense.sort(),
    layers.flatMap((layer, i) => [
      `${layer}.mlp.up_proj.weight`,
      `${layer}.self_attn.k_proj.weight`,
      ...(i === 1 ? [`${layer}.mlp.down_proj.weight`] : []),
    ]).sort(),
  );
});

Deno.test("quantization: what can't be is refused", () => {
  const config = presetConfig("tiny"); // rows of 176 values
  const refused = (settings: QuantizationSettings, message: RegExp) =>
    assert.throws(() => frozenKinds(config, settings), { name: UserError.name, message });
  refused(
    { ...DEFAULTS, quantization: "int8" },
    /^quantization int8: model\.layers\.0\.mlp\.down_proj\.weight has rows of 176 values, expected a multiple of 32; name down_proj in quantization_skip, or take nf4$/,
  );
  frozenKinds(config, { ...DEFAULTS, quantization: "int8", quantization_skip: ["down_proj"] });
  refused(
    { ...DEFAULTS, quantization: "nf4", quantization_skip: ["kproj"] },
    /^quantization_skip: "kproj" is no quantised module, expected q_proj, .*did you mean "k_proj"\?$/,
  );
  refused(
    { ...DEFAULTS, quantization: "nf4", quantization_skip: ["lm_head"] },
    /^quantization_skip: "lm_head" is no quantised module/,
  );
  refused(
    { ...DEFAULTS, quantization: "none", quantization_skip: ["k_proj"] },
    /^quantization_skip is given but quantization is none; expected quantization int8 or nf4$/,
  );
});

Deno.test("quantization: one line says what is held, and in how much", () => {
  const say = (name: string, settings: QuantizationSettings) => {
    const { config, weights } = openModel(name);
    try {
      return describeQuantization("x", planned(config, settings, weights), weights);
    } finally {
      weights?.close();
    }
  };
  const nf4 = { ...DEFAULTS, quantization: "nf4" } as const;
  assert.equal(
    say("random:llama2-7b", nf4),
    'Model "x": 224 linear layers are quantised to nf4, 3187.7 MB instead of 12352.0 in f16.',
  );
  assert.equal(say("random:llama2-7b", { ...nf4, quantization: "none" }), undefined);
  const before = fixturePath("bnb/nf4_double");
  assert.equal(say(before, { ...nf4, quantization: "none" }), undefined);
  assert.equal(say(before, nf4), undefined);
  assert.match(
    say(before, { ...nf4, double_quantization: false }) ?? "",
    /^Model "x": 14 linear layers are quantised to nf4 with scales in f32, 0\.\d MB instead of 0\.\d in f16\. 14 were quantised before: the errors of both add up\.$/,
  );
  assert.match(
    say(fixturePath("gguf/sentencepiece.gguf"), nf4) ?? "",
    /: 14 linear layers are quantised to nf4, .* in f16\. 10 were quantised before: /,
  );
});
