/** Generation and scoring on a quantised base: the same as on a dense one of the values that its codes stand for. */
import assert from "node:assert/strict";
import { type Gpu, openGpu } from "../../../kernels/gpu/gpu.ts";
import { EXACT } from "../../../kernels/ops/numerics.ts";
import { checkAdapter, readAdapter } from "../../../model/adapter/adapter_folder.ts";
import { loadAdapter, loadWeights } from "../../../model/checkpoint/load.ts";
import { openModel } from "../../../model/checkpoint/source.ts";
import { BeamSearcher } from "../../../model/engine/beams.ts";
import { Engine } from "../../../model/engine/engine.ts";
import type { EngineSizes } from "../../../model/engine/slots.ts";
import { meanNll } from "../../../model/transformer/evaluate.ts";
import { Llama } from "../../../model/transformer/llama.ts";
import { generateMode, scoreMode } from "../../../model/transformer/modes.ts";
import { parameterOf } from "../../../model/transformer/parameters.ts";
import { frozenKinds, type QuantizationSettings } from "../../../model/transformer/quantization.ts";
import { fixturePath, readFixture, tokenizedSamples } from "../../fixtures.ts";
import { assertClose, gpuTest } from "../../kernels/harness.ts";
import { encoded, planesOf } from "../../kernels/ops/weights/encoded.ts";
import { setWeights, standingValues } from "../../quantized_model.ts";
import { assertSameValues } from "../../same.ts";

const NONE: QuantizationSettings = {
  quantization: "none",
  double_quantization: true,
  quantization_skip: [],
};
/** Settings, and the model that can be held so. */
const CASES: { what: string; model: string; adapter?: string; settings: QuantizationSettings }[] = [
  { what: "nf4", model: "quantized/nf4", settings: { ...NONE, quantization: "nf4" } },
  {
    what: "nf4 without double quantisation, with an adapter",
    model: "quantized/nf4",
    adapter: "quantized/nf4/adapter",
    settings: { ...NONE, quantization: "nf4", double_quantization: false },
  },
  {
    what: "nf4 with DoRA",
    model: "family",
    adapter: "peft/dora_all",
    settings: { ...NONE, quantization: "nf4" },
  },
  {
    what: "nf4 with tokens of the adapter's own",
    model: "family",
    adapter: "peft/tokens",
    settings: { ...NONE, quantization: "nf4" },
  },
  { what: "int8", model: "quantized/int8", settings: { ...NONE, quantization: "int8" } },
];

/** A model in fp32 with its adapter, made by `mode`. */
async function load(
  gpu: Gpu,
  { model: name, adapter, settings }: typeof CASES[number],
  mode: Llama["mode"],
): Promise<Llama> {
  const source = openModel(fixturePath(name)), { config } = source;
  const read = adapter === undefined ? undefined : readAdapter(fixturePath(adapter));
  const model = new Llama(gpu.memory, {
    config,
    numerics: EXACT,
    frozen: frozenKinds(config, settings, source.weights),
    lora: read && checkAdapter(read, config, name),
    mode,
  });
  model.initialize(gpu);
  await loadWeights(gpu, model, source, { seed: 0 });
  if (read !== undefined) loadAdapter(gpu, model, read);
  return model;
}

/** A quantised model, and one that holds its values as numbers. */
async function both(gpu: Gpu, which: typeof CASES[number], mode: Llama["mode"]) {
  const quantized = await load(gpu, which, mode);
  const dense = await load(gpu, { ...which, settings: NONE }, mode);
  const values = await standingValues(gpu, quantized);
  assert.equal(values.size, 7 * quantized.config.num_hidden_layers);
  setWeights(gpu, dense, values);
  dense.parametersChanged();
  return { quantized, dense };
}

const { samples } = readFixture("quantized/cases.json");
const PROMPTS = samples.slice(0, 4).map(({ ids }) => Array.from(ids));
const CONTEXT = 48, TOKENS = 8;

/** Sequences at once, and whether over a cache. */
const RUNS: EngineSizes[] = [[1, true], [4, true], [1, false]].map(([sequences, cached]) => ({
  sequences: Number(sequences),
  context: CONTEXT,
  promptTokens: Number(sequences) * CONTEXT,
  cache: cached ? "f32" : undefined,
}));

async function answers(gpu: Gpu, model: Llama, sizes: EngineSizes): Promise<number[][]> {
  const engine = new Engine(gpu.memory, model, sizes), all: number[][] = [];
  for (let first = 0; first < PROMPTS.length; first += sizes.sequences) {
    const prompts = PROMPTS.slice(first, first + sizes.sequences);
    all.push(...await engine.answers(gpu, prompts, { maxTokens: TOKENS, stop: [] }));
  }
  return all;
}

for (const which of CASES) {
  gpuTest(`a quantised model answers as its values do: ${which.what}`, async (gpu) => {
    let first: number[][] | undefined;
    for (const sizes of RUNS) {
      const { quantized, dense } = await both(gpu, which, generateMode(sizes));
      const given = await answers(gpu, quantized, sizes), { sequences, cache } = sizes;
      first ??= await answers(gpu, dense, sizes);
      assert.deepEqual(given, first, `${sequences} sequences, cache ${cache}`);
    }
    assert.ok(new Set(first!.flat()).size > 4, "the answers say nothing");
  });
}

gpuTest("a quantised model's beams and scores are those of its values", async (gpu) => {
  const documents = tokenizedSamples(samples);
  for (const which of CASES.filter(({ adapter }) => adapter === undefined)) {
    const sizes = { sequences: 3, context: CONTEXT, promptTokens: CONTEXT, cache: "f32" } as const;
    const models = await both(gpu, which, generateMode(sizes));
    const options = { length_penalty: 1, maxTokens: TOKENS, stop: [] };
    const search = (model: Llama) =>
      new BeamSearcher(gpu.memory, model, sizes).search(gpu, PROMPTS[0], options);
    assert.deepEqual(await search(models.quantized), await search(models.dense), which.what);

    const scored = await both(gpu, which, scoreMode({ maxTokens: CONTEXT, maxTargets: CONTEXT }));
    const nll = await meanNll(gpu, scored.quantized, documents);
    const expected = await meanNll(gpu, scored.dense, documents);
    assertClose([nll], [expected], { atol: 0, rtol: 1e-5, what: which.what });
  }
});

const byName = ({ weights }: Llama) => new Map(weights.map((weight) => [weight.name, weight]));

gpuTest("random weights are those of a dense model, quantised", async (gpu) => {
  const source = openModel("random:tiny"), { config } = source;
  const mode = scoreMode({ maxTokens: 1, maxTargets: 1 });
  const make = async (settings: QuantizationSettings) => {
    const frozen = frozenKinds(config, settings);
    const model = new Llama(gpu.memory, { config, numerics: EXACT, frozen, mode });
    model.initialize(gpu);
    await loadWeights(gpu, model, source, { seed: 3 });
    return model;
  };
  const dense = await make(NONE);
  for (const quantization of ["int8", "nf4"] as const) {
    const skip = quantization === "int8" ? ["down_proj"] : []; // whose rows have 176 values
    const quantized = await make({ ...NONE, quantization, quantization_skip: skip });
    const held = quantized.weights.filter(({ operand }) => operand.kind.element === undefined);
    assert.equal(held.length, (7 - skip.length) * config.num_hidden_layers);
    for (const { name, shape: [rows, columns], operand } of held) {
      const numbers = await gpu.readF32(parameterOf(byName(dense), name).value);
      const expected = encoded(gpu, quantization, numbers, [rows, columns]);
      const planes = await planesOf(gpu, expected);
      for (const [i, plane] of (await planesOf(gpu, operand)).entries()) {
        assertSameValues(new Uint8Array(plane), new Uint8Array(planes[i]), `${name} ${i}`);
      }
    }
  }
});

gpuTest("quantised models take no more than WebGPU guarantees", async () => {
  const gpu = await openGpu({ limits: "default" });
  try {
    assert.equal(gpu.maxBindings, 8);
    for (const which of CASES.filter(({ what }) => /DoRA|int8/.test(what))) {
      const [, sizes] = RUNS, model = await load(gpu, which, generateMode(sizes));
      assert.ok((await answers(gpu, model, sizes)).every(({ length }) => length === TOKENS));
    }
    await gpu.check();
  } finally {
    gpu.close();
  }
});
