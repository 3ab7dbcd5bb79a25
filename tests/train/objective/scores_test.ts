/** Objectives that are weighed by scores: what they are given, and the losses and gradients that follow. */
import assert from "node:assert/strict";
import { UserError } from "../../../kernels/errors.ts";
import { Memory } from "../../../kernels/gpu/memory.ts";
import { adapterPlan } from "../../../model/adapter/plan.ts";
import { checkTurnsOff } from "../../../model/adapter/turned_off.ts";
import { initializeAdapters, setParameter } from "../../../model/checkpoint/load.ts";
import { adapterConfig } from "../../../model/adapter/adapter_config.ts";
import { parseTrainArguments } from "../../../train/config/config.ts";
import { type AccumulationWindow, PassPlanner } from "../../../train/planner.ts";
import { pipelinedSteps } from "../../../train/steps.ts";
import type { LoraSettings } from "../../../train/config/schema.ts";
import { type StepResult, Trainer } from "../../../train/trainer.ts";
import { assertClose, gpuTest, randomArray } from "../../kernels/harness.ts";
import { globalNorm, referenceGradients, referenceNll } from "../../model/reference.ts";
import type { ReferenceModel } from "../../model/reference_model.ts";
import {
  deviation,
  gradients,
  openTrainer,
  randomSamples,
  randomSubject,
  type Settings,
  SMALL_CONFIG,
  trainConfig,
} from "../runs.ts";
import { lossOf, MarginObjective } from "./margin.ts";
import { targetsAfter } from "../../../model/text/targets.ts";

const ADAPTER = { rank: 4, alpha: 8, targets: ["q_proj", "v_proj", "down_proj"] as const };
const SUBJECT = randomSubject(SMALL_CONFIG, ADAPTER);
const WINDOW = makeWindow();

/** Three micro-batches of two, one and two samples; the first and the last two samples begin alike. */
function makeWindow(): AccumulationWindow {
  const [a, b, c, d, e] = randomSamples(SMALL_CONFIG, [19, 9, 14, 17, 16], 4), shared = 10;
  for (const sample of [d, e]) sample.ids.set(a.ids.subarray(0, shared));
  for (const sample of [a, d, e]) sample.targets = targetsAfter(shared + 1, sample.ids);
  return [[a, b], [c], [d, e]];
}

/** The subject for the float64 reference, its adapter moved by a step in a direction, where one is given. */
function referenceModel(
  move: { step: number; direction: ReadonlyMap<string, Float32Array> } | null = null,
): ReferenceModel {
  const { config, weights, adapter } = SUBJECT;
  assert.ok(adapter);
  const data = (tensors: typeof weights) =>
    new Map(Array.from(tensors, ([name, { data }]) => {
      const by = move?.direction.get(name);
      const moved = (value: number, i: number) =>
        move === null || by === undefined ? value : value + move.step * by[i];
      return [name, Float64Array.from(data, moved)];
    }));
  const { rank, alpha } = adapter;
  return { config, weights: data(weights), lora: { rank, alpha, weights: data(adapter.weights) } };
}

/** Log-likelihoods of a window's samples. */
function logLikelihoods(model: ReferenceModel, window: AccumulationWindow): number[][] {
  return window.map((samples) =>
    referenceNll(model, [...samples]).map((nll) => -nll.reduce((a, b) => a + b, 0))
  );
}

const ALONE = logLikelihoods({ ...referenceModel(), lora: undefined }, WINDOW);

/** The objective's losses in float64. */
function marginLosses(model: ReferenceModel): number[][] {
  return logLikelihoods(model, WINDOW).map((policy, b) =>
    policy.map((value, i) => lossOf(value - ALONE[b][i], i))
  );
}

const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;

/** What the window's losses and gradients are in float64, the loss's slopes by differences. */
function expectedStep() {
  const model = referenceModel(), h = 1e-4, count = WINDOW.flat().length;
  const policy = logLikelihoods(model, WINDOW), losses = marginLosses(model);
  const weights = policy.map((values, b) =>
    values.map((value, i) => {
      const margin = value - ALONE[b][i];
      return (lossOf(margin - h, i) - lossOf(margin + h, i)) / (2 * h) / count;
    })
  );
  const { lora } = referenceGradients(model, WINDOW.map((batch) => [...batch]), weights);
  return { policy, losses: losses.map(mean), loss: mean(losses.flat()), gradients: lora };
}

const EXPECTED = expectedStep();

/** That the loss passes find the log-likelihoods that they were weighed by. */
function assertSameAsScored({ scores: [policy], weights, sums }: MarginObjective, rtol: number) {
  const expected = policy.map((scores, b) =>
    scores.reduce((sum, score, i) => sum - weights[b][i] * score, 0)
  );
  assertClose(sums, expected, { atol: rtol, rtol, what: "sums of the loss passes" });
}

const CASES: Record<string, { settings: Settings; limit: number }> = {
  "accumulated": { settings: {}, limit: 1e-4 },
  "packed, checkpointed": {
    settings: { packing: true, checkpointing: "block" },
    limit: 1e-4,
  },
  "packed, checkpointed, mixed": {
    settings: { packing: true, checkpointing: "block", precision: "mixed" },
    limit: 1e-2,
  },
};

for (const [what, { settings, limit }] of Object.entries(CASES)) {
  gpuTest(`weights from scores give the reference's losses and gradients: ${what}`, async (gpu) => {
    const objective = new MarginObjective();
    const given = { initial_loss_scale: 256, ...settings, minimised: objective };
    const trainer = openTrainer(gpu, SUBJECT, [WINDOW], given);
    await trainer.precompile(gpu, [WINDOW]);
    const before = gpu.pipelines.count;
    const result = await trainer.step(gpu, WINDOW, { learningRate: 0, firstMicroBatch: 0 });
    assert.equal(gpu.pipelines.count, before, "programs were compiled during the step");
    const limits = { atol: 0, rtol: limit };
    assertClose(objective.scores[0].flat(), EXPECTED.policy.flat(), { ...limits, what: "policy" });
    assertClose(objective.scores[1].flat(), ALONE.flat(), { ...limits, what: "reference" });
    const { loss, losses } = result;
    assertClose([loss, ...losses], [EXPECTED.loss, ...EXPECTED.losses], {
      ...limits,
      what: "loss",
    });
    const norm = globalNorm(EXPECTED.gradients);
    assertClose([result.gradNorm], [norm], { ...limits, what: "norm" });
    assertSameAsScored(objective, settings.precision === "mixed" ? 1e-4 : 1e-6);
    const scale = settings.precision === "mixed" ? result.lossScale : 1;
    const actual = await gradients(gpu, trainer);
    assert.deepEqual([...actual.keys()].sort(), [...EXPECTED.gradients.keys()].sort());
    for (const [name, expected] of EXPECTED.gradients) {
      const own = actual.get(name)?.map((value) => value / scale) ?? [];
      const off = deviation(own, expected);
      assert.ok(off <= limit, `${name}: off by ${off}`);
    }
    if (what !== "accumulated") return;
    // Along the gradient the loss rises by its square, the scores' part of it included.
    const h = 1e-4,
      [up, down] = [h, -h].map((step) => {
        return mean(marginLosses(referenceModel({ step, direction: actual })).flat());
      });
    assertClose([(up - down) / (2 * h)], [norm ** 2], { atol: 0, rtol: 1e-3, what: "slope" });
  });
}

gpuTest("what scoring left behind is to the bit what the loss pass would do again", async (gpu) => {
  for (const checkpointing of ["none", "block", "attention"] as const) {
    for (const precision of ["fp32", "mixed"] as const) {
      const given = { dropout: 0.3, packing: true, checkpointing, precision };
      const trainer = openTrainer(gpu, SUBJECT, [WINDOW], {
        ...given,
        minimised: new MarginObjective(),
      });
      const options = { learningRate: 0, firstMicroBatch: 7 };
      const step = async (again: boolean) => {
        const scores = await trainer.score(gpu, WINDOW, options);
        const taken = again ? structuredClone(scores) : scores;
        const result = await trainer.finish(gpu, trainer.record(gpu, WINDOW, options, taken));
        return { result, gradients: await gradients(gpu, trainer) };
      };
      const left = await step(false), computed = await step(true);
      assert.deepEqual(left, computed, `${checkpointing}, ${precision}`);
      assert.ok(left.result.gradNorm > 0);
    }
  }
});

gpuTest("steps that wait for scores are the same one by one and in turn", async (gpu) => {
  const steps = [WINDOW, WINDOW.slice(1)].map((window, i) => ({
    window,
    learningRate: 0.01,
    firstMicroBatch: 3 * i,
  }));
  const settings = { dropout: 0.2, packing: true, minimised: new MarginObjective() };
  const open = () => openTrainer(gpu, SUBJECT, [WINDOW], settings);
  const single = open(), expected: StepResult[] = [];
  for (const step of steps) expected.push(await single.step(gpu, step.window, step));
  const results: StepResult[] = [];
  for await (const { result, idle } of pipelinedSteps(gpu, open(), steps)) {
    results.push(result);
    assert.ok(idle);
  }
  assert.deepEqual(results, expected);
  assert.notEqual(results[0].loss, EXPECTED.loss);
});

/** The settings of `lora`, the defaults but for `changes`. */
function loraSettings(changes: Partial<LoraSettings>): LoraSettings {
  const { lora } = parseTrainArguments(["--model", "unused", "--output", "unused"]);
  assert.ok(lora);
  return { ...lora, rank: 4, alpha: 8, ...changes };
}

gpuTest("the reference is the model alone where DoRA adapts both of its ends", async (gpu) => {
  const config = {
    ...trainConfig(SUBJECT),
    packing: true,
    lora: loraSettings({
      dora: true,
      dropout: 0.3,
      targets: ["q_proj", "o_proj", "gate_proj", "lm_head", "embed_tokens"],
    }),
  };
  const sizes = new PassPlanner(config).sizes([WINDOW]), objective = new MarginObjective();
  const options = { config, sizes, maxBinding: gpu.maxBinding, objective };
  const trainer = new Trainer(gpu.memory, SMALL_CONFIG, options), { model } = trainer;
  model.initialize(gpu);
  for (const parameter of model.weights) {
    const tensor = SUBJECT.weights.get(parameter.name);
    assert.ok(tensor, parameter.name);
    setParameter(gpu, parameter, tensor.data);
  }
  initializeAdapters(gpu, model, { init: "kaiming", seed: 3 });
  model.adapters.filter(({ name }) => name.includes("lora_")).forEach((parameter, i) => {
    const size = parameter.shape.reduce((a, b) => a * b, 1);
    const values = randomArray(size, 100 + i, 0.3);
    setParameter(gpu, parameter, Float32Array.from(values, (value) => 1 + value));
  });
  model.parametersChanged();
  await trainer.step(gpu, WINDOW, { learningRate: 0, firstMicroBatch: 5 });
  const [policy, reference] = objective.scores;
  assertClose(reference.flat(), ALONE.flat(), { atol: 0, rtol: 1e-4, what: "reference" });
  assert.ok(policy.flat().every((score, i) => Math.abs(score - reference.flat()[i]) > 1e-3));
  assertSameAsScored(objective, 1e-6);
});

Deno.test("scores have their room in the plan, and a run without has none", () => {
  const planned = (objective?: MarginObjective) => {
    const config = trainConfig(SUBJECT), memory = new Memory();
    const sizes = new PassPlanner().sizes([WINDOW]);
    new Trainer(memory, SMALL_CONFIG, { config, sizes, maxBinding: Infinity, objective });
    return memory.peak;
  };
  const without = planned(), { workspace, ...others } = planned(new MarginObjective());
  const { workspace: before, ...rest } = without;
  assert.deepEqual(others, rest);
  assert.ok(workspace > before && workspace - before <= 256, `${workspace} beside ${before}`);
});

Deno.test("a reference is refused where its weights are trained themselves", () => {
  const open = (lora: LoraSettings | false) => {
    const config = { ...trainConfig(SUBJECT), lora }, objective = new MarginObjective();
    const sizes = new PassPlanner().sizes([WINDOW]);
    new Trainer(new Memory(), SMALL_CONFIG, { config, sizes, maxBinding: Infinity, objective });
  };
  open(loraSettings({ targets: ["lm_head", "embed_tokens"], dora: true }));
  const refused: [LoraSettings | false, string][] = [
    [false, "lora: off"],
    [loraSettings({ modules_to_save: ["norm"] }), "modules_to_save"],
  ];
  const refusal = (what: string) => (error: Error) =>
    error instanceof UserError && error.message.includes(`but ${what} trains`);
  for (const [lora, what] of refused) assert.throws(() => open(lora), refusal(what));
  // What only the file of an adapter to start from can ask for.
  const biased = { ...SMALL_CONFIG, attention_bias: true };
  const targets = { r: 4, lora_alpha: 8, target_modules: ["q_proj"] };
  const plan = (given: object) =>
    adapterPlan(adapterConfig({ ...targets, ...given }), biased, "the adapter");
  checkTurnsOff(plan({}));
  assert.throws(() => checkTurnsOff(plan({ bias: "lora_only" })), refusal("bias: lora_only"));
  const rows = { trainable_token_indices: { embed_tokens: [3] } };
  assert.throws(() => checkTurnsOff(plan(rows)), refusal("trainable_token_indices"));
});
