/** Saving and resuming: a resumed run goes on bit for bit, and anything else is refused. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { UsageError, UserError } from "../../kernels/errors.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { samplesChecksum, sealedJson } from "../../train/checksums.ts";
import { loadState, type Progress, saveState } from "../../train/state.ts";
import type { StepResult, Trainer } from "../../train/trainer.ts";
import { setParameter } from "../../model/checkpoint/load.ts";
import { gpuTest } from "../kernels/harness.ts";
import {
  fixtureSamples,
  fixtureSubject,
  fixtureWindow,
  openTrainer,
  parameters,
  type Settings,
  type Subject,
} from "./runs.ts";
import { assertSameTensors } from "../same.ts";

const samples = fixtureSamples();
const WINDOWS = [[[0], [1], [2]], [[3, 4], [5]], [[6], [7], [8]], [[9], [10]]]
  .map((window) => fixtureWindow(samples, window));

const LORA = fixtureSubject({ model: "llama", adapter: "adapter_qv" });
const FULL = fixtureSubject({ model: "llama", adapter: null });
const TIED = fixtureSubject({ model: "llama_tied", adapter: null });

/** A subject whose trained tensors are all zero, so that only a state can fill them. */
function emptied({ adapter, weights, config }: Subject): Subject {
  const zeros = (tensors: Subject["weights"]) =>
    new Map(
      [...tensors].map(([name, { shape, data }]) => [name, {
        shape,
        data: new Float32Array(data.length),
      }]),
    );
  return adapter
    ? { config, weights, adapter: { ...adapter, weights: zeros(adapter.weights) } }
    : { config, weights: zeros(weights) };
}

/** Trains on windows `from` to `to`. */
async function train(
  gpu: Gpu,
  trainer: Trainer,
  progress: Progress,
  to: number,
): Promise<StepResult[]> {
  const results: StepResult[] = [];
  for (const window of WINDOWS.slice(progress.step, to)) {
    const result = await trainer.step(gpu, window, {
      learningRate: 0.003,
      firstMicroBatch: progress.microBatches,
    });
    results.push(result);
    progress.firstLoss ??= result.loss;
    progress.step++;
    progress.microBatches += window.length;
  }
  return results;
}

const DATA = samplesChecksum(samples);
const start = (): Progress => ({ step: 0, microBatches: 0, firstLoss: null, data: DATA });

async function withFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await body(join(folder, "state"));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const CASES: { what: string; subject: Subject; settings: Settings }[] = [
  { what: "LoRA fp32 with dropout", subject: LORA, settings: { dropout: 0.2 } },
  {
    what: "LoRA mixed with skipped steps",
    subject: LORA,
    settings: { precision: "mixed", dropout: 0.2, initial_loss_scale: 2 ** 24 },
  },
  { what: "full fp32", subject: TIED, settings: { weight_decay: 0.1 } },
  { what: "full mixed", subject: FULL, settings: { precision: "mixed", max_grad_norm: 1 } },
  { what: "full SGD", subject: FULL, settings: { optimizer: "sgd" } },
];

for (const { what, subject, settings } of CASES) {
  gpuTest(`a resumed run goes on bit for bit: ${what}`, async (gpu) => {
    await withFolder(async (folder) => {
      const whole = openTrainer(gpu, subject, WINDOWS, settings);
      const progress = start();
      await train(gpu, whole, progress, 2);
      await saveState(gpu, whole, folder, progress);
      const expected = await train(gpu, whole, progress, WINDOWS.length);

      const resumed = openTrainer(gpu, emptied(subject), WINDOWS, settings);
      const restored = loadState(gpu, resumed, folder, DATA);
      assert.equal(restored.step, 2);
      assert.equal(restored.microBatches, 5);
      assert.equal(restored.firstLoss, progress.firstLoss);
      assert.deepEqual(await train(gpu, resumed, restored, WINDOWS.length), expected);
      assertSameTensors(await parameters(gpu, resumed), await parameters(gpu, whole));
      assert.equal(resumed.skipped, whole.skipped);
      assert.equal(what.includes("skipped"), whole.skipped > 0);
      assert.deepEqual(restored, progress);
    });
  });
}

gpuTest("a state replaces the one before it, and what a killed save left behind", async (gpu) => {
  await withFolder(async (folder) => {
    const trainer = openTrainer(gpu, LORA, WINDOWS);
    const progress = start();
    await saveState(gpu, trainer, folder, progress);
    for (const left of [".old", ".new"]) {
      Deno.mkdirSync(folder + left);
      Deno.writeTextFileSync(join(folder + left, "state.json"), "{");
    }
    await train(gpu, trainer, progress, 1);
    await saveState(gpu, trainer, folder, progress);
    assert.equal(loadState(gpu, trainer, folder, DATA).step, 1);
    const beside = [...Deno.readDirSync(join(folder, ".."))].map(({ name }) => name);
    assert.deepEqual(beside, ["state"]);
  });
});

gpuTest("a damaged state is refused with the file's name and what is wrong", async (gpu) => {
  await withFolder(async (folder) => {
    const trainer = openTrainer(gpu, LORA, WINDOWS);
    assert.throws(() => loadState(gpu, trainer, folder, DATA), expecting(/holds no state\.json/));
    await saveState(gpu, trainer, folder, start());
    const json = join(folder, "state.json"), tensors = join(folder, "state.safetensors");
    const good = JSON.parse(Deno.readTextFileSync(json));
    const bytes = Deno.readFileSync(tensors);
    const refused = (pattern: RegExp) =>
      assert.throws(() => loadState(gpu, trainer, folder, DATA), expecting(pattern));

    const changes: [string, unknown, RegExp][] = [
      ["step", undefined, /state\.json: step/],
      ["step", -1, /state\.json: step/],
      ["microBatches", "many", /state\.json: microBatches/],
      ["firstLoss", "low", /state\.json: firstLoss/],
      ["control", good.control.slice(1), /state\.json: control/],
      ["control", good.control.map(String), /state\.json: control/],
      ["checksums", { header: "" }, /state\.json: checksums/],
      ["config", 3, /state\.json/],
    ];
    for (const [key, value, pattern] of changes) {
      Deno.writeTextFileSync(json, sealedJson({ ...good, [key]: value }));
      refused(pattern);
    }
    // Without a checksum, as older versions wrote it, or with the text of another.
    const { sha256: _, ...unsealed } = good;
    Deno.writeTextFileSync(json, JSON.stringify(unsealed, null, 2));
    refused(/state\.json: does not end with its checksum/);
    Deno.writeTextFileSync(json, sealedJson(good).replace('"step": 0', '"step": 1'));
    refused(/state\.json: is damaged.*start anew without --resume/);
    Deno.writeTextFileSync(json, sealedJson(good).slice(0, -20));
    refused(/state\.json/);

    Deno.writeTextFileSync(json, sealedJson(good));
    assert.equal(loadState(gpu, trainer, folder, DATA).step, 0);
    Deno.writeFileSync(tensors, bytes.subarray(0, -4));
    refused(/state\.safetensors/);
    // The tensors of another save have the same names and shapes.
    const progress = start();
    await train(gpu, trainer, progress, 1);
    await saveState(gpu, trainer, folder, progress);
    Deno.writeTextFileSync(json, sealedJson(good));
    refused(/state\.safetensors: tensor "\S+" is damaged or of another save/);
    Deno.removeSync(tensors);
    refused(/state\.safetensors/);
  });
});

gpuTest("60 flipped bits: 60 states refused, with the file's name", async (gpu) => {
  await withFolder(async (folder) => {
    const trainer = openTrainer(gpu, LORA, WINDOWS);
    await saveState(gpu, trainer, folder, start());
    const flip = (name: string, bit: number) => {
      const path = join(folder, name), good = Deno.readFileSync(path), bytes = good.slice();
      bytes[bit >> 3] ^= 1 << (bit & 7);
      Deno.writeFileSync(path, bytes);
      const where = new RegExp(name.replace(".", "\\."));
      const what = `${name}, bit ${bit & 7} of byte ${bit >> 3}`;
      assert.throws(() => loadState(gpu, trainer, folder, DATA), expecting(where), what);
      Deno.writeFileSync(path, good);
    };
    const bits = (name: string, first: number, end: number, count: number) => {
      for (let i = 0; i < count; i++) {
        flip(name, 8 * Math.floor(first + (i + 0.5) / count * (end - first)) + (3 * i) % 8);
      }
    };
    const { size } = Deno.statSync(join(folder, "state.safetensors"));
    const head = 8 + Number(
      new DataView(Deno.readFileSync(join(folder, "state.safetensors")).buffer).getBigUint64(
        0,
        true,
      ),
    );
    bits("state.safetensors", 0, 8, 8);
    bits("state.safetensors", 8, head, 16);
    bits("state.safetensors", head, size, 16);
    bits("state.json", 0, Deno.statSync(join(folder, "state.json")).size, 20);
    assert.equal(loadState(gpu, trainer, folder, DATA).step, 0, "undamaged");
  });
});

gpuTest("weights that are no finite numbers are not saved over a good state", async (gpu) => {
  const cases: [string, Subject, Settings, number][] = [
    ["NaN", LORA, {}, NaN],
    ["infinity", LORA, { precision: "mixed" }, Infinity],
    ["beyond f16", FULL, { precision: "mixed" }, 1e5],
  ];
  for (const [what, subject, settings, value] of cases) {
    await withFolder(async (folder) => {
      const trainer = openTrainer(gpu, subject, WINDOWS, settings);
      await saveState(gpu, trainer, folder, start());
      const parameter = trainer.model.trained.at(-1)!;
      const values = new Float32Array(parameter.shape.reduce((a, b) => a * b));
      values[values.length - 1] = value;
      setParameter(gpu, parameter, values);
      await assert.rejects(
        saveState(gpu, trainer, folder, { ...start(), step: 1 }),
        (error) =>
          error instanceof UserError && error.message.startsWith(`tensor "${parameter.name}" of`) &&
          error.message.includes("the state is not saved"),
        what,
      );
      assert.equal(loadState(gpu, trainer, folder, DATA).step, 0);
      await saveState(gpu, trainer, folder, { ...start(), step: 2 });
      assert.equal(loadState(gpu, trainer, folder, DATA).step, 2);
    });
  }
});

gpuTest("a state of other samples is refused, wherever they are", async (gpu) => {
  await withFolder(async (folder) => {
    const trainer = openTrainer(gpu, LORA, WINDOWS);
    await saveState(gpu, trainer, folder, start());
    const changed = samples.map((sample) => ({ ...sample, ids: sample.ids.slice() }));
    changed[3].ids[2]++;
    const masked = samples.with(1, { ...samples[1], promptLength: samples[1].promptLength + 1 });
    for (const others of [changed, masked, samples.slice(1), samples.toReversed()]) {
      const data = samplesChecksum(others);
      assert.notEqual(data, DATA);
      assert.throws(
        () => loadState(gpu, trainer, folder, data),
        expecting(/made with other samples/),
      );
    }
    const moved = openTrainer(gpu, LORA, WINDOWS, { data: "elsewhere.json", tokenizer: "here" });
    assert.equal(loadState(gpu, moved, folder, samplesChecksum(samples)).step, 0);
  });
});

gpuTest("a state of another configuration is refused by key", async (gpu) => {
  await withFolder(async (folder) => {
    await saveState(gpu, openTrainer(gpu, LORA, WINDOWS), folder, start());
    const others: [string, Subject, Settings][] = [
      ["seed", LORA, { seed: 1 }],
      ["batch_size", LORA, { batch_size: 2 }],
      ["gradient_accumulation_steps", LORA, { gradient_accumulation_steps: 4 }],
      ["optimizer", LORA, { optimizer: "sgd" }],
      ["precision", LORA, { precision: "mixed" }],
      ["samples", LORA, { samples: 3 }],
      ["share_prefixes", LORA, { share_prefixes: false }],
      ["exact_products", LORA, { exact_products: true }],
      ["betas", LORA, { betas: [0.8, 0.999] }],
      ["eps", LORA, { eps: 1e-6 }],
      ["weight_decay", LORA, { weight_decay: 0.1 }],
      ["max_grad_norm", LORA, { max_grad_norm: 1 }],
      ["initial_loss_scale", LORA, { initial_loss_scale: 2 }],
      ["lora.dropout", LORA, { dropout: 0.3 }],
      ["lora", FULL, {}],
    ];
    for (const [key, subject, settings] of others) {
      const trainer = openTrainer(gpu, subject, WINDOWS, settings);
      assert.throws(
        () => loadState(gpu, trainer, folder, DATA),
        (error) =>
          error instanceof UsageError &&
          error.message.includes(`made with ${key} `),
        key,
      );
    }
    // What may differ: where a longer run ends, and how its memory is used.
    const longer = openTrainer(gpu, LORA, WINDOWS, { epochs: 3, checkpointing: "block" });
    assert.equal(loadState(gpu, longer, folder, DATA).step, 0);
  });
});

/** A check for a UserError of one line that matches. */
function expecting(pattern: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof UserError, String(error));
    assert.match(error.message, pattern);
    return true;
  };
}
