/** A tiny Gemma 2, by a specification that is written here, on the GPU against transformers and PEFT in float32. */
import assert from "node:assert/strict";
import type { Gpu } from "../../../kernels/gpu/gpu.ts";
import type { Tensor } from "../../../kernels/gpu/tensor.ts";
import { EXACT, type Numerics } from "../../../kernels/ops/numerics.ts";
import { loraPlan } from "../../../model/adapter/plan.ts";
import { cutRows, setParameter } from "../../../model/checkpoint/load.ts";
import { Slots } from "../../../model/engine/slots.ts";
import { archSpec, type ModelConfig } from "../../../model/families/config.ts";
import { presetConfig } from "../../../model/families/presets.ts";
import type { ArchSpec } from "../../../model/families/spec.ts";
import { makeBatch } from "../../../model/transformer/batch.ts";
import { meanNll } from "../../../model/transformer/evaluate.ts";
import { Llama } from "../../../model/transformer/llama.ts";
import {
  generateMode,
  type Mode,
  numericsOf,
  scoreMode,
  trainMode,
} from "../../../model/transformer/modes.ts";
import { readFixture, readTensors, tokenizedSamples } from "../../fixtures.ts";
import { withHardwarePrograms } from "../../kernels/hardware_programs.ts";
import { assertClose, gpuTest } from "../../kernels/harness.ts";

const fixture = readFixture("gemma2/cases.json"), { config: said, samples } = fixture;
const { ids } = samples[0], TOKENS = Uint32Array.from(ids);

/** The sizes; what a Llama of them would compute is not what is tested. */
const CONFIG: ModelConfig = {
  ...presetConfig("tiny"),
  vocab_size: said.vocab_size,
  hidden_size: said.hidden_size,
  intermediate_size: said.intermediate_size,
  num_hidden_layers: said.num_hidden_layers,
  num_attention_heads: said.num_attention_heads,
  num_key_value_heads: said.num_key_value_heads,
  head_dim: said.head_dim,
  max_position_embeddings: said.max_position_embeddings,
  rms_norm_eps: said.rms_norm_eps,
  tie_word_embeddings: true,
};
const LLAMA = archSpec(CONFIG);
const SPEC: ArchSpec = {
  ...LLAMA,
  norm: { eps: said.rms_norm_eps, offset: 1 },
  norms: {
    preAttention: "input_layernorm",
    postAttention: "post_attention_layernorm",
    preMlp: "pre_feedforward_layernorm",
    postMlp: "post_feedforward_layernorm",
  },
  activation: "gelu_pytorch_tanh",
  layers: LLAMA.layers.map((layer, i) => ({
    ...layer,
    window: said.layer_types[i] === "sliding_attention" ? said.sliding_window : null,
    scale: said.query_pre_attn_scalar ** -0.5,
    softcap: said.attn_logit_softcapping,
  })),
  embedding_multiplier: Math.sqrt(said.hidden_size),
  logits_softcap: said.final_logit_softcapping,
};

/** The model; `adapted`: with its adapter. */
function gemma(gpu: Gpu, mode: Mode, adapted: boolean, numerics: Numerics = EXACT): Llama {
  const lora = adapted ? loraPlan(CONFIG, fixture.adapter) : undefined;
  const model = new Llama(gpu.memory, { config: CONFIG, spec: SPEC, numerics, lora, mode });
  model.initialize(gpu);
  const values = new Map([
    ...readTensors("gemma2/model.safetensors"),
    ...readTensors("gemma2/adapter.safetensors"),
  ]);
  for (const parameter of [...model.weights, ...model.adapters]) {
    const { shape, data } = values.get(parameter.name)!;
    assert.deepEqual(shape, parameter.shape, parameter.name);
    setParameter(gpu, parameter, data);
  }
  model.parametersChanged();
  return model;
}

const SIZES = { maxTokens: 32, maxTargets: 32 };

/** Compares rows of logits, whose columns from the vocabulary on are padding. */
async function assertRows(
  gpu: Gpu,
  logits: Tensor,
  expected: readonly number[][],
  limits: { atol: number; rtol: number; what: string },
): Promise<void> {
  const values = await gpu.readF32(logits), width = logits.rowSize;
  expected.forEach((row, i) =>
    assertClose(values.subarray(i * width, i * width + row.length), row, {
      ...limits,
      what: `${limits.what}, row ${i}`,
    })
  );
}

for (const [precision, tolerance] of [["fp32", 1e-4], ["mixed", 5e-2]] as const) {
  gpuTest(`Gemma 2: logits equal transformers' (${precision})`, async (gpu) => {
    const numerics = numericsOf({ precision, exact_products: false });
    for (const adapted of [false, true]) {
      const model = gemma(gpu, scoreMode(SIZES), adapted, numerics);
      const document = { ids: TOKENS, targets: [], weight: 0 };
      const batch = makeBatch([document], model.slidingWindows[0]);
      const targetRows = Uint32Array.from(TOKENS.keys());
      const logits = model.logits(gpu, { ...batch, targetRows, targetCount: ids.length });
      const expected = adapted ? fixture.adapted_logits : fixture.logits;
      const what = adapted ? "with the adapter" : "without";
      await assertRows(gpu, logits, expected, { atol: tolerance, rtol: tolerance, what });
    }
  });
}

gpuTest("Gemma 2: prefill and decoding give transformers' logits", async (own) => {
  await withHardwarePrograms(own, async (gpu) => {
    for (const adapted of [false, true]) {
      const sizes = { sequences: 1, context: ids.length, promptTokens: 9, cache: "f32" } as const;
      const model = gemma(gpu, generateMode(sizes), adapted);
      const slots = new Slots(gpu.memory, model, sizes);
      const expected = adapted ? fixture.adapted_logits : fixture.logits;
      let last: Tensor | undefined;
      const sampler = (logits: Tensor) => last = logits;
      slots.prefill(gpu, [{ slot: 0, ids: [...TOKENS.subarray(0, 9)], cached: 0 }], sampler);
      for (let at = 9; at < ids.length; at++) {
        const limits = { atol: 1e-4, rtol: 1e-4, what: `token ${at}, adapter ${adapted}` };
        await assertRows(gpu, last!, [expected[at - 1]], limits);
        gpu.write(slots.ids, Uint32Array.of(ids[at]));
        slots.step(gpu, 1, sampler);
      }
    }
  });
});

gpuTest("Gemma 2: loss and the adapter's gradients equal PEFT's", async (gpu) => {
  const supervised = samples.map(({ ids, promptLength }) => ids.length - promptLength);
  const weight = 1 / supervised.reduce((a, b) => a + b);
  const documents = tokenizedSamples(samples).map((sample) => ({ ...sample, weight }));
  const expected = readTensors("gemma2/gradients.safetensors");
  for (const checkpointing of ["none", "block"]) {
    const mode = trainMode({ ...SIZES, trained: "adapters", checkpointing });
    const model = gemma(gpu, mode, true);
    model.loss(gpu, makeBatch(documents, model.slidingWindows[0]), { backward: true });
    const [loss] = await gpu.readF32(model.losses);
    assertClose([loss], [fixture.loss], { atol: 0, rtol: 1e-5, what: "loss" });
    assert.deepEqual(model.trained.map((p) => p.name).sort(), [...expected.keys()].sort());
    for (const { name, shape, trained } of model.trained) {
      const { grad } = trained!, { data } = expected.get(name)!;
      const actual = cutRows(await gpu.readF32(grad), shape, grad.shape);
      const difference = Math.hypot(...actual.map((v, i) => v - data[i]));
      assert.ok(difference <= 1e-4 * Math.hypot(...data), `${name}: ${difference}`);
    }
    const scored = documents.map((document) => ({ ...document, truncated: false }));
    assertClose([await meanNll(gpu, model, scored)], [fixture.loss], { atol: 0, rtol: 1e-5 });
  }
});
