/** Adapters that PEFT wrote for a model that transformers wrote: the same logits and the same greedy tokens. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { openFiles, writeModel } from "../../../infer/write_model.ts";
import { refuseOtherBase } from "../../../model/adapter/base_copies.ts";
import { makeBatch } from "../../../model/transformer/batch.ts";
import { checkAdapter, readAdapter } from "../../../model/adapter/adapter_folder.ts";
import { Engine } from "../../../model/engine/engine.ts";
import { EXACT } from "../../../kernels/ops/numerics.ts";
import { generateMode, scoreMode } from "../../../model/transformer/modes.ts";
import { Llama } from "../../../model/transformer/llama.ts";
import { loadAdapter, loadWeights } from "../../../model/checkpoint/load.ts";
import { AdapterMerge } from "../../../model/checkpoint/merge.ts";
import { openModel } from "../../../model/checkpoint/source.ts";
import { settingsFrom } from "../../../train/config/adapter_settings.ts";
import { parseTrainArguments } from "../../../train/config/config.ts";
import type { LoraSettings } from "../../../train/config/schema.ts";
import { PassPlanner } from "../../../train/planner.ts";
import { Trainer } from "../../../train/trainer.ts";
import { TemporaryFolder } from "../../cli/cli.ts";
import { readFixture } from "../../fixtures.ts";
import { assertClose } from "../../kernels/harness.ts";
import { realFolder, realTest } from "../../real.ts";
import { targetsAfter } from "../../../model/text/targets.ts";

interface Expected {
  prompt_ids: number[];
  logits_first: number[];
  logits_last: number[];
  greedy: number[];
}

const SIZES = { sequences: 1, context: 64, promptTokens: 64, cache: "f32" } as const;

realTest("real adapters: logits and greedy tokens are PEFT's, pissa is refused", async (gpu) => {
  const folder = realFolder(), base = join(folder, "models/llama");
  const names = [...Deno.readDirSync(join(folder, "adapters"))].map(({ name }) => name).sort();
  assert.ok(names.length >= 15, names.join());
  for (const name of names) {
    const path = join(folder, "adapters", name);
    if (name === "pissa") {
      assert.throws(() => readAdapter(path), {
        name: "UserError",
        message: /init_lora_weights is "pissa".*path_initial_model_for_weight_conversion=/,
      });
      continue;
    }
    const expected: Expected = JSON.parse(Deno.readTextFileSync(join(path, "expected.json")));
    const source = openModel(base), adapter = readAdapter(path);
    const model = new Llama(gpu.memory, {
      config: source.config,
      numerics: EXACT,
      lora: checkAdapter(adapter, source.config, path),
      mode: { ...generateMode(SIZES), maxTargets: 16 },
    });
    const engine = new Engine(gpu.memory, model, SIZES);
    model.initialize(gpu);
    await loadWeights(gpu, model, source, { seed: 0 });
    loadAdapter(gpu, model, adapter);
    const prompt = expected.prompt_ids, last = prompt.length - 1;
    const document = { ids: Uint32Array.from(prompt), targets: [], weight: 0 };
    const batch = makeBatch([document]);
    const targetRows = Uint32Array.of(0, last);
    const logits = model.logits(gpu, { ...batch, targetRows, targetCount: 2 });
    const values = await gpu.readF32(logits), width = logits.rowSize;
    [expected.logits_first, expected.logits_last].forEach((row, i) => {
      const actual = values.subarray(i * width, i * width + row.length);
      assertClose(actual, row, { atol: 1e-4, rtol: 1e-4, what: `${name} row ${i}` });
    });
    // The expectations were made with the end token left out, which is the best one after nine of DoRA's.
    const [end] = source.config.eos_token_ids;
    const [ids] = await engine.answers(gpu, [prompt], {
      maxTokens: expected.greedy.length,
      stop: [],
    });
    const before = ids.includes(end) ? ids.indexOf(end) : ids.length;
    assert.ok(before >= 9, name);
    assert.deepEqual(ids.slice(0, before), expected.greedy.slice(0, before), name);
    const text = Uint32Array.from([...prompt, ...expected.greedy]);
    const rows = expected.greedy.map((_, i) => last + i);
    const whole = makeBatch([{ ids: text, targets: [], weight: 0 }]);
    const all = model.logits(gpu, {
      ...whole,
      targetRows: Uint32Array.from(rows),
      targetCount: rows.length,
    });
    const scores = await gpu.readF32(all);
    const best = rows.map((_, i) => {
      const row = scores.subarray(i * all.rowSize, i * all.rowSize + source.config.vocab_size);
      row[end] = -Infinity;
      return row.indexOf(Math.max(...row));
    });
    assert.deepEqual(best, expected.greedy, name);
  }
});

realTest("real adapters: three steps of training on equal PEFT's", async (gpu) => {
  const folder = realFolder(), base = join(folder, "models/llama");
  const given: { learning_rate: number; gradient_accumulation_steps: number; ids: number[][] } =
    JSON
      .parse(Deno.readTextFileSync(join(base, "train_expected.json")));
  const { learning_rate, gradient_accumulation_steps: every } = given;
  const samples = given.ids.map((ids) => ({
    ids: Uint32Array.from(ids),
    targets: targetsAfter(1, ids),
    truncated: false,
  }));
  for (const [name, steps] of Object.entries(readFixture("real_steps.json"))) {
    const path = join(folder, "adapters", name);
    const source = openModel(base), adapter = readAdapter(path);
    const plan = checkAdapter(adapter, source.config, path);
    await refuseOtherBase(adapter, plan, { weights: source.weights, folder: path });
    const defaults = parseTrainArguments([
      "--model",
      base,
      "--precision",
      "fp32",
      "--output",
      "unused",
    ]);
    const lora = settingsFrom(defaults.lora as LoraSettings, adapter.config, {
      given: new Set(),
      model: source.config,
      what: path,
    });
    const config = { ...defaults, learning_rate, gradient_accumulation_steps: every, lora };
    const windows = steps.map((_, step) =>
      samples.slice(every * step, every * (step + 1)).map((sample) => [sample])
    );
    const sizes = new PassPlanner(config, null).sizes(windows);
    const trainer = new Trainer(gpu.memory, source.config, {
      config,
      sizes,
      maxBinding: gpu.maxBinding,
    });
    trainer.model.initialize(gpu);
    await loadWeights(gpu, trainer.model, source, { seed: 0 });
    loadAdapter(gpu, trainer.model, adapter);
    for (const [i, { losses, grad_norm }] of steps.entries()) {
      const result = await trainer.step(gpu, windows[i], {
        learningRate: learning_rate,
        firstMicroBatch: every * i,
      });
      assertClose(result.losses, losses, { atol: 0, rtol: 1e-4, what: `${name} step ${i}` });
      assertClose([result.gradNorm], [grad_norm], {
        atol: 0,
        rtol: 1e-3,
        what: `${name} norm ${i}`,
      });
    }
  }
});

realTest("real adapters: merged models say what PEFT says of model and adapter", async (gpu) => {
  const folder = realFolder(), base = join(folder, "models/llama");
  const names = [...Deno.readDirSync(join(folder, "adapters"))].map(({ name }) => name);
  for (const name of names.filter((name) => name !== "pissa")) {
    using output = new TemporaryFolder();
    const path = join(folder, "adapters", name), merged = output.file(name);
    const expected: Expected = JSON.parse(Deno.readTextFileSync(join(path, "expected.json")));
    const files = await openFiles({ model: base, output: merged });
    const change = new AdapterMerge(gpu, readAdapter(path), files.config, path);
    assert.ok(await writeModel(files, { model: base, output: merged }, "Merging", change));
    const source = openModel(merged);
    const model = new Llama(gpu.memory, {
      config: source.config,
      numerics: EXACT,
      mode: scoreMode({ maxTokens: 32, maxTargets: 2 }),
    });
    model.initialize(gpu);
    await loadWeights(gpu, model, source, { seed: 0 });
    const ids = Uint32Array.from(expected.prompt_ids), last = ids.length - 1;
    const batch = makeBatch([{ ids, targets: [], weight: 0 }]);
    const targetRows = Uint32Array.of(0, last);
    const logits = model.logits(gpu, { ...batch, targetRows, targetCount: 2 });
    const values = await gpu.readF32(logits), width = logits.rowSize;
    [expected.logits_first, expected.logits_last].forEach((row, i) => {
      const actual = values.subarray(i * width, i * width + row.length);
      assertClose(actual, row, { atol: 1e-4, rtol: 1e-4, what: `${name} row ${i}` });
    });
  }
});
