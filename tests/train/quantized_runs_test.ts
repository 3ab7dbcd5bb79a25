/**
 * Everything that training does, on a quantised base: the same as on a dense base of the values that its codes stand
 * for.
 */
import assert from "node:assert/strict";
import { TemporaryFolder } from "../cli/cli.ts";
import type { AccumulationWindow } from "../../train/planner.ts";
import { assertClose, gpuTest } from "../kernels/harness.ts";
import { setWeights, standingValues } from "../quantized_model.ts";
import { openRun, runSteps } from "./quantized.ts";
import { deviation, gradients, parameters, randomSamples } from "./runs.ts";
import { load, progressAt, save } from "./states/states.ts";
import { presetConfig } from "../../model/families/presets.ts";
import { assertSameTensors } from "../same.ts";
import { targetsAfter } from "../../model/text/targets.ts";

/** Windows of two micro-batches of two samples, of which the first two of a micro-batch begin alike. */
const WINDOWS: AccumulationWindow[] = [4, 5].map((seed) => {
  const config = { ...presetConfig("tiny"), vocab_size: 61 };
  const [a, b, c, d] = randomSamples(config, [19, 16, 14, 9], seed);
  b.ids.set(a.ids.subarray(0, 10));
  for (const sample of [a, b]) sample.targets = targetsAfter(11, sample.ids);
  return [[a, b], [c, d]];
});

/** Kinds of runs, each with a base; together they have every setting that reads weights. */
const RUNS: { what: string; model: string; flags: string[] }[] = [
  {
    what: "nf4, packed with shared prefixes, every second block recomputed",
    model: "quantized/nf4",
    flags: ["--quantization=nf4", "--packing", "--checkpointing=every:2"],
  },
  {
    what: "int8, batches of two with dropout, blocks recomputed",
    model: "quantized/int8",
    flags: ["--quantization=int8", "--batch-size=2", "--lora.dropout=0.2", "--checkpointing=block"],
  },
  {
    what: "nf4 with DoRA and dropout, attention recomputed",
    model: "quantized/nf4",
    flags: [
      "--quantization=nf4",
      "--lora.dora",
      "--lora.targets=q_proj,v_proj,down_proj",
      "--lora.dropout=0.2",
      "--checkpointing=attention",
    ],
  },
  {
    what: "int8 with DoRA on all layers, packed",
    model: "quantized/int8",
    flags: ["--quantization=int8", "--lora.dora", "--lora.targets=all-linear", "--packing"],
  },
  {
    what: "nf4 without double quantisation, weights trained whole beside it",
    model: "quantized/nf4",
    flags: [
      "--quantization=nf4",
      "--double-quantization=false",
      "--lora.modules-to-save=lm_head,norm",
    ],
  },
  {
    what: "nf4, some layers left as they are, adapters of both ends",
    model: "quantized/nf4",
    flags: [
      "--quantization=nf4",
      "--quantization-skip=k_proj,model.layers.1.mlp.down_proj",
      "--lora.targets=embed_tokens,lm_head,q_proj,k_proj,down_proj",
    ],
  },
  {
    what: "nf4 in mixed precision, packed",
    model: "quantized/nf4",
    flags: ["--quantization=nf4", "--precision=mixed", "--initial-loss-scale=256", "--packing"],
  },
  {
    what: "nf4 with tied embeddings, one of them adapted",
    model: "llama_tied",
    flags: ["--quantization=nf4", "--lora.targets=embed_tokens,v_proj,down_proj"],
  },
];

for (const { what, model, flags } of RUNS) {
  gpuTest(`a quantised base trains as its values do: ${what}`, async (gpu) => {
    const settings = ["--gradient-accumulation-steps=2", "--optimizer=sgd", ...flags];
    const windows = flags.includes("--batch-size=2") || flags.includes("--packing")
      ? WINDOWS
      : WINDOWS.map((window) => window.map(([sample]) => [sample]));
    const quantized = await openRun(gpu, model, windows, settings);
    const dense = await openRun(gpu, model, windows, [
      ...settings.filter((flag) => !/quantization/.test(flag)),
    ]);
    const values = await standingValues(gpu, quantized.model);
    assert.ok(values.size > 0);
    const plain = dense.model.weights.map(({ name }) => name).filter((name) => !values.has(name));
    assert.ok(plain.includes("model.embed_tokens.weight"));
    setWeights(gpu, dense.model, values);
    dense.model.initializeMagnitudes(gpu);
    dense.model.parametersChanged();

    // The dense base's numbers are rounded to f16 there.
    const looser = quantized.config.precision === "mixed" ? 100 : 1;
    const actual = await runSteps(gpu, quantized, windows, { learningRate: 0.1 });
    const expected = await runSteps(gpu, dense, windows, { learningRate: 0.1 });
    for (const [i, { losses, gradNorm, loss }] of expected.entries()) {
      const step = actual[i], limits = { atol: 0, rtol: 1e-5 * looser, what: `step ${i + 1}` };
      assertClose([step.loss, ...step.losses], [loss, ...losses], limits);
      assertClose([step.gradNorm], [gradNorm], { ...limits, rtol: 1e-4 * looser });
    }
    const gradient = await gradients(gpu, dense);
    assert.ok([...gradient.values()].every((values) => values.some((value) => value !== 0)));
    for (const [name, values] of await gradients(gpu, quantized)) {
      assert.ok(deviation(values, gradient.get(name)!) < 1e-4 * looser, name);
    }
  });
}

gpuTest("a resumed run on a quantised base goes on bit for bit", async (gpu) => {
  for (const [model, quantization] of [["nf4", "nf4"], ["int8", "int8"]]) {
    using folder = new TemporaryFolder();
    const flags = ["--quantization", quantization, "--batch-size=2", "--lora.dropout=0.2"];
    const open = () => openRun(gpu, `quantized/${model}`, WINDOWS, [...flags, "--precision=mixed"]);
    const whole = await open(), [before, after] = WINDOWS;
    await runSteps(gpu, whole, [before], { learningRate: 0.01 });
    const microBatches = before.length;
    const progress = progressAt({ step: 1, microBatches, firstLoss: 1, lastLoss: 1 });
    const state = await save(gpu, whole, folder.file("states"), progress);
    const rest = { learningRate: 0.01, first: before.length };
    const expected = await runSteps(gpu, whole, [after], rest);

    const resumed = await open();
    assert.deepEqual(load(gpu, resumed, state), progress);
    assert.deepEqual(await runSteps(gpu, resumed, [after], rest), expected, quantization);
    assertSameTensors(await parameters(gpu, resumed), await parameters(gpu, whole));
  }
});
