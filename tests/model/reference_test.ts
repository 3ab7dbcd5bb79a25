import assert from "node:assert/strict";
import {
  type FixtureSubject,
  type FixtureTensor,
  readAdapter,
  readFixture,
  readModel,
  readTensors,
  tokenizedSamples,
} from "../fixtures.ts";
import {
  globalNorm,
  referenceLogits,
  referenceLoss,
  referenceNll,
  referenceWindow,
} from "./reference.ts";
import type { ReferenceModel, ReferenceSample } from "./reference_model.ts";
import { rowLengths } from "./reference_math.ts";

function plain(tensors: Map<string, FixtureTensor>): Map<string, Float32Array> {
  return new Map([...tensors].map(([name, { data }]) => [name, data]));
}

function load({ model, adapter }: FixtureSubject): ReferenceModel {
  const { config, weights } = readModel(model);
  if (adapter === null) return { config, weights: plain(weights) };
  const lora = readAdapter(adapter);
  return {
    config,
    weights: plain(weights),
    lora: { rank: lora.config.r, alpha: lora.config.lora_alpha, weights: plain(lora.weights) },
  };
}

function assertClose(actual: number, expected: number, tolerance: number, what: string): void {
  const error = Math.abs(actual - expected);
  assert.ok(error <= tolerance, `${what}: ${actual}, expected ${expected} within ${tolerance}`);
}

/** Small numbers from a fixed sequence, uniform in [-1, 1). */
function uniform(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  };
}

Deno.test("the reference's logits are PyTorch's", () => {
  for (const expected of readFixture("logits.json")) {
    const model = load(expected);
    const vocabulary = model.config.vocab_size;
    const logits = referenceLogits(model, [expected.ids]);
    expected.positions.forEach((position, i) => {
      for (let c = 0; c < vocabulary; c++) {
        const what = `${expected.model} ${expected.adapter} position ${position} logit ${c}`;
        assertClose(logits[position * vocabulary + c], expected.logits[i][c], 1e-4, what);
      }
    });
  }
});

Deno.test("the reference's losses and gradients are PyTorch's, per tensor", () => {
  const samples = tokenizedSamples(readFixture("samples.json"));
  for (const expected of readFixture("gradients.json")) {
    const batch = expected.samples.map((index) => samples[index]);
    const actual = referenceWindow(load(expected), [batch], expected.loss_normalization);
    assertClose(actual.loss, expected.loss, 1e-5 * expected.loss, `${expected.file} loss`);
    const gradients = expected.train === "lora" ? actual.lora : actual.weights;
    assertClose(globalNorm(gradients), expected.grad_norm, 1e-5 * expected.grad_norm, "norm");
    const tensors = readTensors(expected.file);
    assert.deepEqual([...tensors.keys()].sort(), [...gradients.keys()].sort());
    for (const [name, { data }] of tensors) {
      const difference = gradients.get(name)!.map((value, i) => value - data[i]);
      const size = globalNorm(new Map([[name, data]]));
      const error = globalNorm(new Map([[name, difference]]));
      assertClose(error / size, 0, 1e-4, `${expected.file} ${name}`);
    }
  }
});

Deno.test("the reference's scores and first windows are PyTorch's", () => {
  const samples = tokenizedSamples(readFixture("samples.json"));
  for (const expected of readFixture("score.json")) {
    const nll = referenceNll(load(expected), samples.slice(0, 4));
    nll.forEach((values, sample) => {
      assert.equal(values.length, expected.nll[sample].length);
      values.forEach((value, i) => assertClose(value, expected.nll[sample][i], 1e-6, `nll ${i}`));
    });
  }
  for (const name of ["lora_all_token_3x2", "full_sample_1x3"]) {
    const expected = readFixture("trajectories.json").find((run) => run.name === name)!;
    const window = expected.windows[0].map((batch) => batch.map((index) => samples[index]));
    const actual = referenceWindow(load(expected), window, expected.loss_normalization);
    const { losses, loss, grad_norm } = expected.steps[0];
    actual.losses.forEach((value, i) => assertClose(value, losses[i], 1e-4, `${name} ${i}`));
    assertClose(actual.loss, loss, 1e-4, name);
    const gradients = expected.train === "lora" ? actual.lora : actual.weights;
    assertClose(globalNorm(gradients), grad_norm, 1e-4 * grad_norm, `${name} norm`);
  }
});

/**
 * A model unlike the fixtures': four heads on one key-value head, LoRA or DoRA with dropout; tied, or with biases
 * and a sliding window.
 */
function oddModel(
  tied: boolean,
  dora = false,
): { model: ReferenceModel; samples: ReferenceSample[] } {
  const next = uniform(7);
  const tensor = (scale: number, size: number, centre = 0) =>
    Float64Array.from({ length: size }, () => centre + scale * next());
  const config = {
    vocab_size: 11,
    hidden_size: 12,
    intermediate_size: 20,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 1,
    head_dim: 4,
    rms_norm_eps: 1e-5,
    rope_theta: 100,
    tie_word_embeddings: tied,
    sliding_window: tied ? null : 3,
  };
  const weights = new Map([
    ["model.embed_tokens.weight", tensor(0.8, 132)],
    ["model.norm.weight", tensor(0.3, 12, 1)],
  ]);
  if (!tied) weights.set("lm_head.weight", tensor(0.8, 132));
  const adapter = new Map<string, Float64Array>();
  const masks = new Map<string, Float64Array>();
  const samples = [
    { ids: [1, 4, 2, 9, 2], targets: [[2, 5]] as const },
    { ids: [1, 2], targets: [[1, 2]] as const },
    { ids: [1, 5, 5, 10, 0, 3, 2], targets: [[1, 3], [6, 7]] as const },
  ];
  for (let layer = 0; layer < 2; layer++) {
    const at = `model.layers.${layer}.`;
    weights.set(`${at}input_layernorm.weight`, tensor(0.3, 12, 1));
    weights.set(`${at}post_attention_layernorm.weight`, tensor(0.3, 12, 1));
    const linears: [string, number, number][] = [
      ["self_attn.q_proj", 16, 12],
      ["self_attn.k_proj", 4, 12],
      ["self_attn.v_proj", 4, 12],
      ["self_attn.o_proj", 12, 16],
      ["mlp.gate_proj", 20, 12],
      ["mlp.up_proj", 20, 12],
      ["mlp.down_proj", 12, 20],
    ];
    for (const [name, outputs, inputs] of linears) {
      weights.set(`${at}${name}.weight`, tensor(0.5, outputs * inputs));
      if (!tied) weights.set(`${at}${name}.bias`, tensor(0.5, outputs));
      adapter.set(`base_model.model.${at}${name}.lora_A.weight`, tensor(0.5, 3 * inputs));
      adapter.set(`base_model.model.${at}${name}.lora_B.weight`, tensor(0.5, outputs * 3));
      const magnitude = `base_model.model.${at}${name}.lora_magnitude_vector`;
      if (dora) adapter.set(magnitude, tensor(0.5, outputs, 1));
      for (const batch of [0, 1]) {
        const mask = tensor(1, 14 * inputs).map((value) => (value < -0.5 ? 0 : 4 / 3));
        masks.set(`${at}${name} ${batch}`, mask);
      }
    }
  }
  const mask = (layer: string, batch: number) => masks.get(`${layer} ${batch}`);
  return {
    model: { config, weights, lora: { rank: 3, alpha: 6, weights: adapter, mask } },
    samples,
  };
}

/** DoRA's lengths as they are, to stay so while tensors are moved. */
function fixedLengths({ weights, lora }: ReferenceModel): (layer: string) => Float64Array {
  const lengths = new Map<string, Float64Array>();
  for (const name of lora!.weights.keys()) {
    const layer = /^base_model\.model\.(.+)\.lora_A\.weight$/.exec(name)?.[1];
    if (layer === undefined) continue;
    const [a, b] = ["A", "B"].map((matrix) =>
      lora!.weights.get(name.replace("lora_A", `lora_${matrix}`))!
    );
    lengths.set(
      layer,
      rowLengths(weights.get(`${layer}.weight`)!, a, b, lora!.alpha / lora!.rank, lora!.rank),
    );
  }
  return (layer) => lengths.get(layer)!;
}

Deno.test("the reference's gradients are finite differences of its loss, dropout on", () => {
  // A window's normalization is a factor of the logits' gradient: one model has both.
  const both = ["sample", "token"] as const;
  const cases = [
    { tied: false, dora: false, normalizations: both },
    { tied: true, dora: false, normalizations: ["sample"] },
    { tied: false, dora: true, normalizations: ["token"] },
  ] as const;
  for (const { tied, dora, normalizations } of cases) {
    const { model, samples } = oddModel(tied, dora);
    if (dora) model.lora!.lengths = fixedLengths(model);
    const window = [samples, samples.slice(0, 1)];
    for (const normalization of normalizations) {
      const exact = referenceWindow(model, window, normalization);
      const gradients = new Map([...exact.weights, ...exact.lora]);
      const next = uniform(9);
      for (const [name, data] of [...model.weights, ...model.lora!.weights]) {
        const values = data as Float64Array;
        for (let entry = 0; entry < 3; entry++) {
          const at = Math.floor((0.5 + 0.5 * next()) * values.length);
          const kept = values[at];
          const step = 1e-5;
          values[at] = kept + step;
          const above = referenceLoss(model, window, normalization);
          values[at] = kept - step;
          const below = referenceLoss(model, window, normalization);
          values[at] = kept;
          const slope = (above - below) / (2 * step);
          assertClose(
            gradients.get(name)![at],
            slope,
            1e-8 + 1e-6 * Math.abs(slope),
            `${name} ${at}`,
          );
        }
      }
    }
  }
});

Deno.test("the reference's micro-batches have dropout masks of their own", () => {
  const { model, samples } = oddModel(false);
  const lora = model.lora!;
  const batch = samples.slice(0, 1);
  const masked = (index: number) => {
    const mask = (layer: string) => lora.mask!(layer, index);
    return referenceWindow({ ...model, lora: { ...lora, mask } }, [batch], "token").losses[0];
  };
  const { losses } = referenceWindow(model, [batch, batch], "token");
  assert.deepEqual(losses, [masked(0), masked(1)]);
  assert.ok(Math.abs(losses[0] - losses[1]) > 1e-3);
});

Deno.test("the reference keeps the samples of a packed row apart", () => {
  const { model, samples } = oddModel(false);
  const bare = { config: model.config, weights: model.weights };
  const packed = referenceWindow(bare, [samples], "sample");
  const apart = referenceWindow(bare, samples.map((sample) => [sample]), "sample");
  assertClose(packed.loss, apart.loss, 1e-12, "loss");
  for (const [name, gradient] of packed.weights) {
    gradient.forEach((value, i) => assertClose(value, apart.weights.get(name)![i], 1e-12, name));
  }
});
