/** What a specification may say besides a Llama's, against a forward pass in float64 that reads the same specification. */
import assert from "node:assert/strict";
import { Memory } from "../../../kernels/gpu/memory.ts";
import { adapterPlan } from "../../../model/adapter/plan.ts";
import { adapterConfig } from "../../../model/adapter/adapter_config.ts";
import type { Gpu } from "../../../kernels/gpu/gpu.ts";
import type { Tensor } from "../../../kernels/gpu/tensor.ts";
import { EXACT } from "../../../kernels/ops/numerics.ts";
import type { RopeScaling } from "../../../kernels/ops/rope/frequencies.ts";
import { DENSE } from "../../../kernels/ops/weights/dense.ts";
import type { WeightKind } from "../../../kernels/ops/weights/kind.ts";
import { loadWeights, setParameter } from "../../../model/checkpoint/load.ts";
import { Slots } from "../../../model/engine/slots.ts";
import { archSpec, type ModelConfig } from "../../../model/families/config.ts";
import { presetConfig } from "../../../model/families/presets.ts";
import { FUSED_LAYERS } from "../../../model/families/linear_modules.ts";
import { type ArchSpec, type RopeSpec, specShapes } from "../../../model/families/spec.ts";
import { makeBatch } from "../../../model/transformer/batch.ts";
import { Llama } from "../../../model/transformer/llama.ts";
import { generateMode, type Mode, scoreMode, trainMode } from "../../../model/transformer/modes.ts";
import { withHardwarePrograms } from "../../kernels/hardware_programs.ts";
import { assertClose, gpuTest, randomArray } from "../../kernels/harness.ts";
import { forwardLogits, meanLoss } from "./spec_reference.ts";
import { targetsAfter } from "../../../model/text/targets.ts";

const CONFIG: ModelConfig = {
  ...presetConfig("tiny"),
  vocab_size: 40,
  hidden_size: 16,
  intermediate_size: 24,
  num_hidden_layers: 3,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 8,
};
const LLAMA = archSpec(CONFIG), [LAYER] = LLAMA.layers;
const ROPE: RopeSpec = {
  theta: 100,
  scaling: null,
  trainedPositions: 64,
  rotary: { dims: 8, pairs: "halves" },
};
/** The last layer's rotations, in as many layers. */
const rotated = (...ropes: RopeSpec[]): ArchSpec => ({
  ...LLAMA,
  layers: ropes.map((rope) => ({ ...LAYER, rope })),
});
const YARN: RopeScaling = {
  type: "yarn",
  factor: 4,
  original_max_position_embeddings: 10,
  beta_fast: 2,
  beta_slow: 0.5,
  truncate: false,
  attention_factor: 1.3,
};
const LONGROPE: RopeScaling = {
  type: "longrope",
  original_max_position_embeddings: 13,
  short_factor: [1, 1.5, 2],
  long_factor: [1, 3, 5],
  attention_factor: 1.2,
};

/** Specifications in the manner of published families. */
const SPECS: Record<string, ArchSpec> = {
  "q/k norms over heads": {
    ...LLAMA,
    qkNorm: { over: "head", q: "self_attn.q_norm", k: "self_attn.k_norm" },
  },
  "norms after attention and MLP alone, q/k norms over rows": {
    ...LLAMA,
    norms: { postAttention: "post_attention_layernorm", postMlp: "post_feedforward_layernorm" },
    qkNorm: { over: "row", q: "self_attn.q_norm", k: "self_attn.k_norm" },
  },
  "norms before and after": {
    ...LLAMA,
    norms: {
      preAttention: "input_layernorm",
      postAttention: "post_attention_layernorm",
      preMlp: "pre_feedforward_layernorm",
      postMlp: "post_feedforward_layernorm",
    },
    embedding_multiplier: 4,
    tie_word_embeddings: true,
  },
  "multipliers and biases of q, k and v": {
    ...LLAMA,
    biases: new Set(["q_proj", "k_proj", "v_proj"]),
    embedding_multiplier: 12,
    residual_multiplier: 0.22,
    logits_multiplier: 0.125,
  },
  "norms of one and more, gelu and soft caps": {
    ...LLAMA,
    norm: { eps: 1e-6, offset: 1 },
    norms: {
      preAttention: "input_layernorm",
      postAttention: "post_attention_layernorm",
      preMlp: "pre_feedforward_layernorm",
      postMlp: "post_feedforward_layernorm",
    },
    qkNorm: { over: "head", q: "self_attn.q_norm", k: "self_attn.k_norm" },
    activation: "gelu_pytorch_tanh",
    layers: [{ ...LAYER, window: 7, softcap: 1.5 }, { ...LAYER, scale: 0.5, softcap: 0.7 }, LAYER],
    embedding_multiplier: 4,
    logits_multiplier: 2,
    logits_softcap: 3,
    tie_word_embeddings: true,
  },
  "windows and rotations by layer": {
    ...LLAMA,
    layers: [{ ...LAYER, window: 4 }, { ...LAYER, rope: null }, {
      ...LAYER,
      window: 7,
      rope: ROPE,
    }],
  },
  "fused linear layers": { ...LLAMA, linears: FUSED_LAYERS },
  "neighbours": rotated({ ...ROPE, rotary: { dims: 8, pairs: "neighbours" } }, ROPE),
  "parts of each head": rotated(
    { ...ROPE, rotary: { dims: 4, pairs: "halves" } },
    { ...ROPE, rotary: { dims: 6, pairs: "halves" } },
    { ...ROPE, rotary: { dims: 6, pairs: "neighbours" } },
  ),
  "yarn": rotated({ ...ROPE, scaling: YARN }, {
    ...ROPE,
    scaling: YARN,
    rotary: { dims: 6, pairs: "halves" },
  }),
};

/** Specifications whose rotation depends on a text's length. */
const LONG_TEXTS: Record<string, ArchSpec> = {
  "longrope": rotated(
    ...Array(3).fill({
      ...ROPE,
      scaling: LONGROPE,
      rotary: { dims: 6, pairs: "halves" },
    }),
  ),
  "longrope of neighbours, and another rotation": rotated(ROPE, {
    ...ROPE,
    scaling: LONGROPE,
    rotary: { dims: 6, pairs: "neighbours" },
  }),
};

const IDS = Uint32Array.from({ length: 19 }, (_, i) => (7 * i + 3) % CONFIG.vocab_size);

/** Weights for a specification, by name. */
function weightsOf(spec: ArchSpec): Map<string, Float64Array> {
  return new Map([...specShapes(spec)].map(([name, shape], i) => {
    const size = shape.reduce((a, b) => a * b), values = randomArray(size, i + 1);
    // Norms are about 1.
    const centre = shape.length === 1 && !name.endsWith(".bias") ? 1 - spec.norm.offset : 0;
    return [name, Float64Array.from(values, (v) => Math.fround(centre + 0.4 * v))];
  }));
}

function modelOf(
  gpu: Gpu,
  spec: ArchSpec,
  weights: ReadonlyMap<string, Float64Array>,
  mode: Mode,
  frozen?: WeightKind,
): Llama {
  const model = new Llama(gpu.memory, {
    config: CONFIG,
    spec,
    numerics: EXACT,
    mode,
    frozen: frozen && (() => frozen),
  });
  model.initialize(gpu);
  for (const parameter of model.weights) {
    setParameter(gpu, parameter, Float32Array.from(weights.get(parameter.name)!));
  }
  return model;
}

const SIZES = { maxTokens: IDS.length, maxTargets: IDS.length },
  LIMITS = { atol: 1e-4, rtol: 1e-4 };

for (const [what, spec] of Object.entries(LONG_TEXTS)) {
  gpuTest(
    `specification: ${what}: texts of every length, side by side and as they grow`,
    async (own) => {
      await withHardwarePrograms(own, async (gpu) => {
        const weights = weightsOf(spec), vocab = spec.vocab_size;
        /** Logits after a text. */
        const after = (ids: Uint32Array) => forwardLogits(spec, weights, ids).slice(-vocab);
        const lengths = [12, 13, 14, 19, 1];
        const texts = lengths.map((length) => IDS.subarray(0, length));
        const tokens = lengths.reduce((a, b) => a + b);
        const sizes = { maxTokens: tokens, maxTargets: tokens, maxPosition: IDS.length };
        const model = modelOf(gpu, spec, weights, scoreMode(sizes));
        const batch = makeBatch(texts.map((ids) => ({ ids, targets: [], weight: 0 })));
        let row = -1;
        const targetRows = Uint32Array.from(lengths, (length) => row += length);
        const logits = model.logits(gpu, { ...batch, targetRows, targetCount: lengths.length });
        const expected = texts.flatMap((ids) => [...after(ids)]);
        assertClose(
          (await gpu.readF32(logits)).subarray(0, expected.length),
          expected,
          { ...LIMITS, what: "one pass" },
        );
        for (const cache of ["f32", undefined] as const) {
          const sizes = { sequences: 2, context: IDS.length, promptTokens: 24, cache };
          const generating = modelOf(gpu, spec, weights, generateMode(sizes));
          const slots = new Slots(gpu.memory, generating, sizes);
          let last: Tensor | undefined;
          const sampler = (logits: Tensor) => last = logits;
          // One of them is longer by three tokens.
          const prompts = [12, 9].map((length, slot) => ({
            slot,
            ids: [...IDS.subarray(0, length)],
            cached: 0,
          }));
          slots.prefill(gpu, prompts, sampler);
          for (let step = 0; step < 7; step++) {
            const values = await gpu.readF32(last!.rows(0, 2));
            for (const { slot, ids } of prompts) {
              const own = values.subarray(slot * vocab, (slot + 1) * vocab);
              const what = `cache ${cache}, ${ids.length} tokens`;
              assertClose(own, after(Uint32Array.from(ids)), { ...LIMITS, what });
            }
            const outgrown = prompts.filter(({ slot }) => slots.outgrows(slot));
            slots.rotateAsLong(gpu, outgrown);
            for (const { ids } of prompts) ids.push(IDS[ids.length]);
            gpu.write(slots.ids, Uint32Array.from(prompts, ({ ids }) => ids[ids.length - 1]));
            slots.step(gpu, 2, sampler);
          }
        }
      });
    },
  );
}

for (const [what, spec] of Object.entries(SPECS)) {
  gpuTest(`specification: ${what}: logits of a pass, of prefill and decoding`, async (own) => {
    await withHardwarePrograms(own, async (gpu) => {
      const weights = weightsOf(spec), expected = forwardLogits(spec, weights, IDS);
      const vocab = spec.vocab_size;
      const row = (i: number) => expected.subarray(i * vocab, (i + 1) * vocab);
      const model = modelOf(gpu, spec, weights, scoreMode(SIZES));
      const batch = makeBatch(
        [{ ids: IDS, targets: [], weight: 0 }],
        model.slidingWindows[0],
      );
      const targetRows = Uint32Array.from(IDS.keys());
      const logits = model.logits(gpu, { ...batch, targetRows, targetCount: IDS.length });
      assertClose(await gpu.readF32(logits), expected, { ...LIMITS, what: "one pass" });
      for (const cache of ["f32", undefined] as const) {
        const sizes = { sequences: 1, context: IDS.length, promptTokens: 9, cache };
        const generating = modelOf(gpu, spec, weights, generateMode(sizes));
        const slots = new Slots(gpu.memory, generating, sizes);
        let last: Tensor | undefined;
        const sampler = (logits: Tensor) => last = logits;
        slots.prefill(gpu, [{ slot: 0, ids: Array.from(IDS.subarray(0, 9)), cached: 0 }], sampler);
        for (let at = 9; at < IDS.length; at++) {
          assertClose(await gpu.readF32(last!.rows(0, 1)), row(at - 1), {
            ...LIMITS,
            what: `cache ${cache}, token ${at}`,
          });
          gpu.write(slots.ids, Uint32Array.of(IDS[at]));
          slots.step(gpu, 1, sampler);
        }
      }
    });
  });
}

for (const [what, spec] of Object.entries({ ...SPECS, ...LONG_TEXTS })) {
  gpuTest(`specification: ${what}: loss and gradients`, async (gpu) => {
    const weights = weightsOf(spec), weight = 1 / (IDS.length - 1);
    const made: Map<string, Float32Array>[] = [];
    for (const checkpointing of ["none", "block", "attention"]) {
      const mode = trainMode({ ...SIZES, trained: "weights", checkpointing });
      const model = modelOf(gpu, spec, weights, mode);
      const document = { ids: IDS, targets: targetsAfter(1, IDS), weight };
      const batch = makeBatch([document], model.slidingWindows[0]);
      model.loss(gpu, batch, { backward: true });
      const [loss] = await gpu.readF32(model.losses);
      assertClose([loss], [meanLoss(spec, weights, IDS)], { atol: 0, rtol: 1e-5, what: "loss" });
      const gradients = new Map<string, Float32Array>();
      for (const { name, trained } of model.trained) {
        gradients.set(name, (await gpu.readF32(trained!.grad)).slice());
      }
      made.push(gradients);
    }
    const [gradients, ...others] = made;
    for (const other of others) assert.deepEqual(other, gradients);
    for (const [name, gradient] of gradients) {
      // Along the gradient the loss' slope is the gradient's length.
      const length = Math.hypot(...gradient), value = weights.get(name)!;
      const at = (step: number) =>
        meanLoss(
          spec,
          new Map([...weights, [
            name,
            value.map((v, i) => v + step * gradient[i] / length),
          ]]),
          IDS,
        );
      const step = 1e-4, slope = (at(step) - at(-step)) / (2 * step);
      assertClose([length], [slope], { atol: 1e-6, rtol: 1e-3, what: name });
    }
  });
}

gpuTest("frozen matrices may be of another kind than what is stored", async (own) => {
  await withHardwarePrograms(own, async (gpu) => {
    const weights = weightsOf(LLAMA), rounded = new Map(weights);
    for (const [name, shape] of specShapes(LLAMA)) {
      const values = weights.get(name)!;
      if (shape.length === 2) rounded.set(name, Float64Array.from(new Float16Array(values)));
    }
    const sizes = { sequences: 1, context: IDS.length, promptTokens: 9, cache: "f32" } as const;
    const model = modelOf(gpu, LLAMA, weights, generateMode(sizes), DENSE.f16);
    assert.ok(
      model.weights.every(({ shape, operand: { kind } }) =>
        kind === (shape.length === 2 ? DENSE.f16 : DENSE.f32)
      ),
    );
    const slots = new Slots(gpu.memory, model, sizes), vocab = LLAMA.vocab_size;
    const expected = forwardLogits(LLAMA, rounded, IDS);
    let last: Tensor | undefined;
    const sampler = (logits: Tensor) => last = logits;
    slots.prefill(gpu, [{ slot: 0, ids: Array.from(IDS.subarray(0, 9)), cached: 0 }], sampler);
    for (let at = 9; at < IDS.length; at++) {
      const row = expected.subarray((at - 1) * vocab, at * vocab);
      assertClose(await gpu.readF32(last!.rows(0, 1)), row, { ...LIMITS, what: `token ${at}` });
      gpu.write(slots.ids, Uint32Array.of(IDS[at]));
      slots.step(gpu, 1, sampler);
    }
  });
});

Deno.test("rows of tokens are refused of a table that is not dense when the model is planned", () => {
  const kind: WeightKind = new Proxy(DENSE.f16, {
    get: (dense, key) =>
      key === "element" ? undefined : key === "name" ? "int8" : Reflect.get(dense, key),
  });
  const plan = (module: string, frozen: WeightKind) => {
    const config = adapterConfig({
      r: 4,
      target_modules: ["q_proj"],
      trainable_token_indices: { [module]: [1, 2] },
    });
    const lora = adapterPlan(config, CONFIG, "the adapter"), mode = scoreMode(SIZES);
    return new Llama(new Memory(), {
      config: CONFIG,
      numerics: EXACT,
      mode,
      lora,
      frozen: () => frozen,
    });
  };
  assert.throws(() => plan("embed_tokens", kind), {
    name: "UserError",
    message: "trainable_token_indices of the adapter replaces rows of model.embed_tokens.weight, " +
      "which is held as int8; expected it as f32 or f16",
  });
  plan("embed_tokens", DENSE.f16);
});

gpuTest(
  "specification: random norms leave the scale, whatever is added to their weights",
  async (gpu) => {
    const spec: ArchSpec = { ...LLAMA, norm: { ...LLAMA.norm, offset: 1 } };
    const mode = scoreMode({ maxTokens: 1, maxTargets: 1 });
    const model = new Llama(gpu.memory, { config: CONFIG, spec, numerics: EXACT, mode });
    await loadWeights(gpu, model, { name: "random", config: CONFIG }, { seed: 1 });
    const norms = model.weights.filter(({ shape }) => shape.length === 1);
    assert.equal(norms.length, 2 * CONFIG.num_hidden_layers + 1);
    for (const { value } of norms) assert.ok((await gpu.readF32(value)).every((v) => v === 0));
  },
);
