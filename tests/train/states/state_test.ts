/** Saving and resuming: a resumed run goes on bit for bit, and anything else is refused. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { UsageError, UserError } from "../../../kernels/errors.ts";
import { GRAD_SCALER } from "../../../kernels/ops/optimizer/loss_scale.ts";
import { sealedJson } from "../../../train/states/checksums.ts";
import { setParameter } from "../../../model/checkpoint/load.ts";
import { gpuTest } from "../../kernels/harness.ts";
import { fixtureSubject, openTrainer, parameters, type Settings, type Subject } from "../runs.ts";
import { assertSameTensors } from "../../same.ts";
import {
  expecting,
  load,
  LORA,
  namesIn,
  progressAt,
  save,
  train,
  WINDOWS,
  withFolder,
} from "./states.ts";

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
    await withFolder(async (states) => {
      const whole = openTrainer(gpu, subject, WINDOWS, settings);
      const progress = progressAt();
      await train(gpu, whole, progress, 2);
      const state = await save(gpu, whole, states, progress);
      const expected = await train(gpu, whole, progress, WINDOWS.length);

      const resumed = openTrainer(gpu, emptied(subject), WINDOWS, settings);
      const restored = load(gpu, resumed, state);
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

gpuTest("a damaged state is refused with the file's name and what is wrong", async (gpu) => {
  await withFolder(async (states) => {
    const trainer = openTrainer(gpu, LORA, WINDOWS), progress = progressAt();
    const nothing = { path: states };
    assert.throws(() => load(gpu, trainer, nothing), expecting(/holds no state\.json/));
    await train(gpu, trainer, progress, 1);
    const state = await save(gpu, trainer, states, progress);
    const json = join(state.path, "state.json"), tensors = join(state.path, "state.safetensors");
    const good = JSON.parse(Deno.readTextFileSync(json));
    const bytes = Deno.readFileSync(tensors);
    const refused = (pattern: RegExp) =>
      assert.throws(() => load(gpu, trainer, state), expecting(pattern));

    const control = (field: keyof typeof GRAD_SCALER, value: unknown) =>
      good.control.with(GRAD_SCALER[field], value);
    const changes: [string, unknown, RegExp][] = [
      ["step", undefined, /state\.json: step/],
      ["step", -1, /state\.json: step/],
      ["step", 2, /state\.json: step is 2; expected 1, which the folder's name says/],
      ["microBatches", "many", /state\.json: microBatches/],
      ["microBatches", 0, /state\.json: microBatches/],
      ["firstLoss", "low", /state\.json: firstLoss/],
      ["lastLoss", null, /state\.json: lastLoss/],
      ["tokens", 0.5, /state\.json: tokens/],
      ["seconds", -1, /state\.json: seconds/],
      ["evaluations", [null], /state\.json: evaluations/],
      ["control", good.control.slice(1), /state\.json: control/],
      ["control", good.control.map(String), /state\.json: control/],
      ["control", control("scale", 0), /state\.json: control/],
      ["control", control("scale", -1), /state\.json: control/],
      ["control", control("scale", 1e39), /state\.json: control/],
      ["control", control("scale", null), /state\.json: control/],
      ["control", control("steps", 0.5), /state\.json: control/],
      ["control", control("steps", 2), /state\.json: control/],
      ["control", control("skipped", 1), /state\.json: control/],
      ["control", control("growth", 1e6), /state\.json: control/],
      ["total", "long", /state\.json: total/],
      ["fingerprints", {}, /state\.json: fingerprints/],
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
    Deno.writeTextFileSync(json, sealedJson(good).replace('"step": 1', '"step": 0'));
    refused(/state\.json: is damaged.*start anew without --resume/);

    // The files of another step, one of them or both under this one's name, have the same tensors.
    Deno.writeTextFileSync(json, sealedJson(good));
    assert.equal(load(gpu, trainer, state).step, 1);
    await train(gpu, trainer, progress, 2);
    const other = await save(gpu, trainer, states, progress);
    const swap = (name: string) =>
      Deno.copyFileSync(join(other.path, name), join(state.path, name));
    swap("state.safetensors");
    refused(/state\.safetensors: tensor "\S+" is damaged or of another save/);
    swap("state.json");
    refused(/state\.json: step is 2; expected 1/);
    Deno.writeFileSync(tensors, bytes);
    refused(/state\.json: step is 2; expected 1/);
    Deno.writeTextFileSync(json, sealedJson(good));
    assert.equal(load(gpu, trainer, state).step, 1);
    Deno.removeSync(tensors);
    refused(/state\.safetensors/);
  });
});

gpuTest("weights that are no finite numbers are not saved over a good state", async (gpu) => {
  const cases: [string, Subject, Settings, number][] = [
    ["NaN", LORA, {}, NaN],
    ["infinity", LORA, { precision: "mixed" }, Infinity],
    ["beyond f16", FULL, { precision: "mixed" }, 1e5],
  ];
  for (const [what, subject, settings, value] of cases) {
    await withFolder(async (states) => {
      const trainer = openTrainer(gpu, subject, WINDOWS, settings);
      const state = await save(gpu, trainer, states, progressAt());
      const parameter = trainer.model.trained.at(-1)!;
      const values = new Float32Array(parameter.shape.reduce((a, b) => a * b));
      values[values.length - 1] = value;
      setParameter(gpu, parameter, values);
      await assert.rejects(
        save(gpu, trainer, states, progressAt()),
        (error) =>
          error instanceof UserError && error.message.startsWith(`tensor "${parameter.name}" of`) &&
          error.message.includes("the state of step 0 is not saved"),
        what,
      );
      assert.equal(load(gpu, trainer, state).step, 0);
      await save(gpu, trainer, states, progressAt());
      assert.deepEqual(namesIn(states), ["step-00000000"]);
    });
  }
});

gpuTest("a state of another run is refused by key, and with both values", async (gpu) => {
  await withFolder(async (states) => {
    const state = await save(gpu, openTrainer(gpu, LORA, WINDOWS), states, progressAt());
    const others: [string, Subject, Settings][] = [
      ["seed 42, not 1", LORA, { seed: 1 }],
      ["batch_size 1, not 2", LORA, { batch_size: 2 }],
      ["gradient_accumulation_steps 8, not 4", LORA, { gradient_accumulation_steps: 4 }],
      ['optimizer "adamw", not "sgd"', LORA, { optimizer: "sgd" }],
      ["precision", LORA, { precision: "mixed" }],
      ["samples", LORA, { samples: 3 }],
      ["share_prefixes", LORA, { share_prefixes: false }],
      ["exact_products", LORA, { exact_products: true }],
      ["betas [0.9,0.999], not [0.8,0.999]", LORA, { betas: [0.8, 0.999] }],
      ["eps", LORA, { eps: 1e-6 }],
      ["weight_decay", LORA, { weight_decay: 0.1 }],
      ["max_grad_norm", LORA, { max_grad_norm: 1 }],
      ["initial_loss_scale", LORA, { initial_loss_scale: 2 }],
      ["learning_rate", LORA, { learning_rate: 2 }],
      ["schedule", LORA, { schedule: "cosine" }],
      ["lora.dropout 0, not 0.3", LORA, { dropout: 0.3 }],
      ["lora", FULL, {}],
    ];
    for (const [key, subject, settings] of others) {
      const trainer = openTrainer(gpu, subject, WINDOWS, settings);
      assert.throws(
        () => load(gpu, trainer, state),
        (error) => error instanceof UsageError && error.message.includes(`made with ${key}`),
        key,
      );
    }
    // What may differ: where a longer run ends, where its files are, and how its memory is used.
    const settings = { epochs: 3, checkpointing: "block", data: "elsewhere.json" } as const;
    const longer = openTrainer(gpu, LORA, WINDOWS, settings);
    assert.equal(load(gpu, longer, state).step, 0);
    const rate = { learning_rate: 2, betas: [0.8, 0.9], allow_change: ["learning_rate"] };
    const faster = openTrainer(gpu, LORA, WINDOWS, rate as Settings);
    assert.throws(() => load(gpu, faster, state), expecting(/: the run was made with betas/));
    faster.config.allow_change.push("betas");
    assert.equal(load(gpu, faster, state).step, 0);
    const trainer = openTrainer(gpu, LORA, WINDOWS);
    assert.throws(
      () => load(gpu, trainer, state, "others"),
      expecting(
        /made with data of 1 samples, 1 tokens, …samples, not of 1 samples, 1 tokens, …others/,
      ),
    );
  });
});
