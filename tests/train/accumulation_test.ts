/**
 * What must not change a step: how its samples are divided into micro-batches, and whether these run
 * packed; against each other and against the float64 reference, whose rows are independent code.
 */
import assert from "node:assert/strict";
import { dropoutMask } from "../../kernels/wgsl/dropout.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { LINEAR_MODULES, type LinearModule } from "../../model/families/linear_modules.ts";
import type { TokenizedSample } from "../../model/text/prompt.ts";
import type { LossNormalization } from "../../train/objective/sft.ts";
import { joinMicroBatches, sharePrefixes } from "../../train/packing.ts";
import { type AccumulationWindow, PassPlanner } from "../../train/planner.ts";
import { type StepResult } from "../../train/trainer.ts";
import { assertClose, gpuTest } from "../kernels/harness.ts";
import { globalNorm, referenceWindow } from "../model/reference.ts";
import type { ReferenceModel } from "../model/reference_model.ts";
import {
  deviation,
  gradients,
  openTrainer,
  randomSamples,
  randomSubject,
  type Settings,
  SMALL_CONFIG,
  type Subject,
} from "./runs.ts";
import { promptLengthOf, targetsAfter } from "../../model/text/targets.ts";

const MODULES = Object.keys(LINEAR_MODULES) as LinearModule[];
const SUBJECTS = {
  "LoRA": randomSubject(SMALL_CONFIG, { rank: 6, alpha: 12, targets: MODULES }),
  "full": randomSubject(SMALL_CONFIG),
};
const samples = randomSamples(SMALL_CONFIG, [17, 2, 40, 9, 3, 25, 12, 31]);

interface Step {
  result: StepResult;
  gradients: Map<string, Float32Array>;
}

/** The losses and gradients of one window. */
async function step(
  gpu: Gpu,
  subject: Subject,
  window: AccumulationWindow,
  settings: Settings,
  firstMicroBatch = 0,
): Promise<Step> {
  const trainer = openTrainer(gpu, subject, [window], {
    gradient_accumulation_steps: window.length,
    ...settings,
  });
  const result = await trainer.step(gpu, window, { learningRate: 0, firstMicroBatch });
  return { result, gradients: await gradients(gpu, trainer) };
}

/** The model as the float64 reference takes it. */
function referenceModel({ config, weights, adapter }: Subject): ReferenceModel {
  const data = (tensors: Subject["weights"]) =>
    new Map([...tensors].map(([name, tensor]) => [name, tensor.data]));
  const lora = adapter && {
    rank: adapter.rank,
    alpha: adapter.alpha,
    weights: data(adapter.weights),
  };
  return { config, weights: data(weights), lora };
}

function assertSameStep(actual: Step, expected: Step, limit: number): void {
  const { loss, gradNorm, tokens } = expected.result;
  const limits = { atol: 0, rtol: limit };
  assertClose([actual.result.loss], [loss], { ...limits, what: "loss" });
  assertClose([actual.result.gradNorm], [gradNorm], { ...limits, what: "norm" });
  assert.equal(actual.result.tokens, tokens);
  assertSameGradients(actual.gradients, expected.gradients, limit);
}

function assertSameGradients(
  actual: ReadonlyMap<string, ArrayLike<number>>,
  expected: ReadonlyMap<string, ArrayLike<number>>,
  limit: number,
): void {
  assert.deepEqual([...actual.keys()].sort(), [...expected.keys()].sort());
  for (const [name, gradient] of actual) {
    const relative = deviation(gradient, expected.get(name)!);
    assert.ok(relative <= limit, `${name}: off by ${relative}`);
  }
}

/** Asserts a step to be the reference's. */
function assertReference(
  actual: Step,
  model: ReferenceModel,
  window: AccumulationWindow,
  normalization: LossNormalization,
): void {
  const expected = referenceWindow(model, window.map((batch) => [...batch]), normalization);
  const trained = model.lora ? expected.lora : expected.weights;
  const { losses, loss, gradNorm } = actual.result;
  const limits = { atol: 0, rtol: 1e-5, what: "losses" };
  assertClose([loss, ...losses], [expected.loss, ...expected.losses], limits);
  assertClose([gradNorm], [globalNorm(trained)], { atol: 0, rtol: 1e-4, what: "norm" });
  assertSameGradients(actual.gradients, trained, 1e-4);
}

const one = samples.map((sample) => [sample]);

for (const [what, subject] of Object.entries(SUBJECTS)) {
  for (const loss_normalization of ["sample", "token"] as const) {
    const name = `${what}, ${loss_normalization}`;

    gpuTest(`eight batches of one equal one batch of eight: ${name}`, async (gpu) => {
      const accumulated = await step(gpu, subject, one, { loss_normalization });
      const batch = await step(gpu, subject, [samples], { loss_normalization, batch_size: 8 });
      assertSameStep(accumulated, batch, 1e-5);
      assert.equal(accumulated.result.losses.length, 8);
      assert.equal(batch.result.losses.length, 1);
    });

    gpuTest(`packing changes neither losses nor gradients: ${name}`, async (gpu) => {
      // Batches of three; the window ends in a short one, then a window of a single short batch.
      const long = [samples.slice(0, 3), samples.slice(3, 6), samples.slice(6)];
      for (const window of [long, [samples.slice(3, 5)]]) {
        const settings = { loss_normalization, batch_size: 3 };
        const apart = await step(gpu, subject, window, { ...settings, packing: false });
        const packed = await step(gpu, subject, window, { ...settings, packing: true });
        assertSameStep(packed, apart, 1e-5);
        const { losses } = packed.result;
        assertClose(losses, apart.result.losses, { atol: 0, rtol: 1e-5, what: "losses" });
        assertReference(packed, referenceModel(subject), window, loss_normalization);
      }
    });
  }
}

/** Samples of which some begin with the same `shared` tokens, all of their prompt; by place in `lengths`. */
function alike(
  lengths: readonly number[],
  shared: number,
  places: readonly number[],
  seed: number,
) {
  const made = randomSamples(SMALL_CONFIG, lengths, seed);
  for (const place of places) {
    made[place].ids.set(made[places[0]].ids.subarray(0, shared));
    const prompt = Math.max(promptLengthOf(made[place]), shared + 1);
    made[place].targets = targetsAfter(prompt, made[place].ids);
  }
  return made;
}

for (const [what, subject] of Object.entries(SUBJECTS)) {
  gpuTest(
    `samples that share a beginning change neither losses nor gradients: ${what}`,
    async (gpu) => {
      // Two templates, a sample of each at both ends, one as short as can be, and one sample apart.
      const first = alike([30, 50, 17, 40], 15, [0, 1, 2, 3], 5);
      const second = alike([60, 25, 12], 22, [0, 1], 6);
      // As chats of several turns have them.
      first[1].targets = [[17, 20], [33, 34], [49, 50]];
      second[2].targets = [[1, 3], [6, 11]];
      const all = [first[0], second[0], second[2], first[1], first[2], second[1], first[3]];
      for (const batch_size of [1, 3]) {
        const window = Array.from(
          { length: Math.ceil(all.length / batch_size) },
          (_, i) => all.slice(i * batch_size, (i + 1) * batch_size),
        );
        const planner = new PassPlanner({ packing: true, share_prefixes: true });
        const [pass] = planner.passes(window);
        assert.equal(pass.tokens, 30 + 50 + 17 + 40 + 60 + 25 + 12 - 3 * 15 - 22);
        for (const loss_normalization of ["sample", "token"] as const) {
          const settings = { loss_normalization, batch_size, packing: true };
          const apart = await step(gpu, subject, window, { ...settings, packing: false });
          const packed = await step(gpu, subject, window, settings);
          assertSameStep(packed, apart, 1e-5);
          const limits = { atol: 0, rtol: 1e-5, what: "losses" };
          assertClose(packed.result.losses, apart.result.losses, limits);
          assertReference(packed, referenceModel(subject), window, loss_normalization);
          if (loss_normalization === "token") continue;
          const off = await step(gpu, subject, window, { ...settings, share_prefixes: false });
          assertSameStep(off, apart, 1e-5);
        }
      }
    },
  );
}

Deno.test("samples are grouped so that a row has the fewest tokens", () => {
  const tokens = (text: string) => Uint32Array.from(text, (letter) => letter.charCodeAt(0));
  const pack = (texts: string[], promptLength: number) =>
    sharePrefixes(texts.map((text, slot) => {
      const ids = tokens(text);
      const sample = { ids, targets: targetsAfter(promptLength, ids), truncated: false };
      return { slot, index: 0, sample, shared: 0 };
    })).map(({ slot, shared }) => [slot, shared]);
  const long = "abcdefghijklmnop", other = "ABCDEFGHIJ";
  // Those that are alike share what all of them begin with; the others nothing.
  assert.deepEqual(pack([`${long}1`, `${other}4`, `${long}2`, "x", `${other}3`, `${long}0`], 99), [
    ...[[4, 0], [1, 10], [5, 0], [0, 16], [2, 16], [3, 0]],
  ]);
  // A pair that has more in common than with a third does not wait for it where it would lose by it…
  const near = `${long}qrstuvwxyz`, far = `${long.slice(0, 9)}!`;
  assert.deepEqual(pack([`${near}1`, `${near}2`, far], 99), [[2, 0], [0, 0], [1, 26]]);
  // …and does where all together save more.
  assert.deepEqual(pack([`${long}1`, `${long}2`, far, `${far}!`, `${far}"`], 99), [
    ...[[2, 0], [3, 9], [4, 9], [0, 9], [1, 9]],
  ]);
  // The row before the first target is not shared, and few tokens are not.
  assert.deepEqual(pack([`${long}1`, `${long}2`], 12), [[0, 0], [1, 11]]);
  assert.deepEqual(pack([`${long}1`, `${long}2`], 8), [[0, 0], [1, 0]]);
  assert.deepEqual(pack([long, long], 99), [[0, 0], [1, 15]]);
  assert.deepEqual(pack([], 5), []);
});

Deno.test("nothing is shared without packing, where it is off, and where a window cuts", () => {
  const samples = alike([30, 50], 15, [0, 1], 5), window = samples.map((sample) => [sample]);
  const tokens = (packing: boolean, share_prefixes: boolean, slidingWindow: number | null) =>
    new PassPlanner({ packing, share_prefixes }, slidingWindow).passes(window)
      .map(({ tokens }) => tokens);
  assert.deepEqual(tokens(true, true, null), [65]);
  assert.deepEqual(tokens(true, true, 50), [65]);
  assert.deepEqual(tokens(true, true, 49), [80]);
  assert.deepEqual(tokens(true, false, null), [80]);
  assert.deepEqual(tokens(false, true, null), [30, 50]);
  const sizes = new PassPlanner({ packing: true, share_prefixes: true }).sizes([window]);
  assert.deepEqual([sizes.maxTokens, sizes.maxPosition], [65, 50]);
});

Deno.test("sizes are exactly the largest of the passes that a planner makes, each planned once", () => {
  // Rows that share little and are long, that share much, and one that a sliding window cuts.
  const windows = Array.from({ length: 40 }, (_, i): AccumulationWindow => {
    const lengths = Array.from({ length: 4 }, (_, j) => 30 + (i * 7 + j * 13) % 41);
    return alike(lengths, 9 + i % 20, [0, 1, 2, 3].slice(0, i % 5), i).map((sample) => [sample]);
  });
  for (const packing of [true, false]) {
    for (const share_prefixes of [true, false]) {
      for (const slidingWindow of [null, 60]) {
        const planner = new PassPlanner({ packing, share_prefixes }, slidingWindow);
        const { maxTokens, maxTargets } = planner.sizes(windows);
        const passes = windows.flatMap((window) => planner.passes(window));
        assert.equal(maxTokens, Math.max(...passes.map(({ tokens }) => tokens)));
        assert.equal(maxTargets, Math.max(...passes.map(({ targets }) => targets)));
        assert.equal(planner.passes(windows[3]), planner.passes(windows[3]));
      }
    }
  }
});

gpuTest("precompiling has every number of tokens and of targets, in few passes", async (gpu) => {
  const make = (length: number, promptLength: number): TokenizedSample => {
    const [{ ids }] = randomSamples(SMALL_CONFIG, [length], length);
    return { ids, targets: targetsAfter(promptLength, ids), truncated: false };
  };
  // The last length has no number of targets that was not there before.
  const single = [3, 5, 9, 33, 65, 130, 70].flatMap((length) =>
    [2, 4, 8, 32, 64].filter((targets) => targets < length)
      .map((targets): AccumulationWindow => [[make(length, length - targets)]])
  );
  const base = samples[2].ids.slice(0, 20);
  const shared = [[[1, 2], [3]], [[4], [5]]].map((window): AccumulationWindow =>
    window.map((last) => {
      const ids = Uint32Array.from([...base, ...last]);
      return [{ ids, targets: targetsAfter(20, ids), truncated: false }];
    })
  );
  for (const [settings, windows] of [[{}, single], [{ packing: true }, shared]] as const) {
    const [subject, options] = [SUBJECTS.LoRA, { ...settings, gradient_accumulation_steps: 2 }];
    const trainer = openTrainer(gpu, subject, windows, options);
    const { model } = trainer, { loss } = model;
    const sizes = { compiled: new Set<string>(), run: new Set<string>() };
    let passes = 0, into = sizes.compiled;
    model.loss = (gpu, batch, ...given) => {
      passes++;
      into.add(`${batch.tokens} tokens, shared ${batch.excludedKeys !== undefined}`);
      into.add(`${batch.targetCount} targets`);
      return loss.call(model, gpu, batch, ...given);
    };
    await trainer.precompile(gpu, [...windows, ...windows]);
    assert.ok(passes < sizes.compiled.size, `${passes} of ${windows.length}`);
    into = sizes.run;
    const built = gpu.pipelines.count;
    for (const window of windows) {
      await trainer.step(gpu, window, { learningRate: 0, firstMicroBatch: 0 });
      assert.equal(gpu.pipelines.count, built);
    }
    assert.deepEqual([...sizes.compiled].sort(), [...sizes.run].sort());
  }
});

gpuTest("a document's loss does not depend on what it is packed with", async (gpu) => {
  const { LoRA: subject } = SUBJECTS;
  const [first, second, third] = [samples[2], samples[5], samples[7]];
  const others = randomSamples(SMALL_CONFIG, [40, 31], 99);
  const losses = async (window: AccumulationWindow) =>
    (await step(gpu, subject, window, { packing: true })).result.losses;
  const before = await losses([[first], [second], [third]]);
  const after = await losses([[others[0]], [second], [others[1]]]);
  assertClose([after[1]], [before[1]], { atol: 0, rtol: 1e-6, what: "middle document" });
  assert.ok(Math.abs(after[0] - before[0]) > 1e-3 && Math.abs(after[2] - before[2]) > 1e-3);
});

Deno.test("rows of packed micro-batches keep order, cut nothing and stay within their length", () => {
  const batch = (...lengths: number[]) => randomSamples(SMALL_CONFIG, lengths);
  const window = [batch(5, 5), batch(6), batch(30), batch(2), batch(8, 6), batch(4)];
  assert.deepEqual(joinMicroBatches(window, 16), [[0, 1], [2], [3, 4], [5]]);
  assert.deepEqual(joinMicroBatches(window, 1), [[0], [1], [2], [3], [4], [5]]);
  assert.deepEqual(joinMicroBatches(window), [[0, 1, 2, 3, 4, 5]]);
  assert.deepEqual(joinMicroBatches([]), []);
});

Deno.test("run sizes are those of the largest pass, packed or not", () => {
  const make = (length: number, promptLength: number): TokenizedSample => ({
    ids: new Uint32Array(length),
    targets: targetsAfter(promptLength, { length }),
    truncated: false,
  });
  const windows = [[[make(10, 4)], [make(7, 1), make(2, 1)]], [[make(12, 11)]]];
  assert.deepEqual(new PassPlanner().sizes(windows), {
    maxTokens: 12,
    maxTargets: 7,
    maxPosition: 12,
    maxSamples: 3,
  });
  assert.deepEqual(new PassPlanner({ packing: true, share_prefixes: false }).sizes(windows), {
    maxTokens: 19,
    maxTargets: 13,
    maxPosition: 12,
    maxSamples: 3,
  });
});

for (const targets of [MODULES, ["o_proj", "up_proj", "down_proj"]] as LinearModule[][]) {
  for (const p of [0.1, 0.5]) {
    gpuTest(`LoRA dropout ${p} gives the reference's gradients: ${targets}`, async (gpu) => {
      const subject = randomSubject(SMALL_CONFIG, { rank: 4, alpha: 8, targets });
      const window = [samples.slice(0, 2), samples.slice(5, 6)];
      const [seed, firstMicroBatch] = [1234567, 11];
      const model = referenceModel(subject);
      model.lora!.mask = (layer, batch) => {
        const [, index, module] = /^model\.layers\.(\d+)\.\w+\.(\w+)$/.exec(layer)!;
        const subsequence = Number(index) * MODULES.length +
          MODULES.indexOf(module as LinearModule);
        const width = subject.weights.get(`${layer}.weight`)!.shape[1];
        const rows = window[batch].reduce((sum, { ids }) => sum + ids.length, 0);
        const mask = dropoutMask(rows * width, {
          p,
          seed,
          step: firstMicroBatch + batch,
          subsequence,
        });
        return Float64Array.from(mask, (kept) => kept / (1 - p));
      };
      const settings = { dropout: p, seed, batch_size: 2 };
      const actual = await step(gpu, subject, window, settings, firstMicroBatch);
      assertReference(actual, model, window, "sample");
      const undropped = await step(gpu, subject, window, { ...settings, dropout: 0 });
      assert.notEqual(undropped.result.loss, actual.result.loss);
    });
  }
}
