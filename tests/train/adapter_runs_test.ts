/** Runs that start from an adapter of any kind, or train a new one: what they take over, resume and write. */
import assert from "node:assert/strict";
import { UsageError, UserError } from "../../kernels/errors.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { checkAdapter, readAdapter } from "../../model/adapter/adapter_folder.ts";
import type { ModelConfig } from "../../model/families/config.ts";
import { initializeAdapters, loadAdapter, loadWeights } from "../../model/checkpoint/load.ts";
import { openModel } from "../../model/checkpoint/source.ts";
import { makeBatch } from "../../model/transformer/batch.ts";
import { EXACT } from "../../kernels/ops/numerics.ts";
import { scoreMode } from "../../model/transformer/modes.ts";
import { Llama } from "../../model/transformer/llama.ts";
import { settingsFrom, trainedPlan } from "../../train/config/adapter_settings.ts";
import { parseTrainArguments, type TrainConfig } from "../../train/config/config.ts";
import { writeTrained } from "../../train/run/output.ts";
import type { LoraSettings } from "../../train/config/schema.ts";
import { RunFolder } from "../../train/run/run_folder.ts";
import { type AccumulationWindow, PassPlanner } from "../../train/planner.ts";
import { Trainer } from "../../train/trainer.ts";
import { TemporaryFolder } from "../cli/cli.ts";
import { fixturePath, type PeftCase, readFixture, tokenizedSamples } from "../fixtures.ts";
import { assertClose, gpuTest } from "../kernels/harness.ts";
import { setWeights, standingValues } from "../quantized_model.ts";
import { parameters } from "./runs.ts";
import { load, progressAt, save } from "./states/states.ts";
import { assertSameTensors } from "../same.ts";

const cases = readFixture("peft.json");
/** What a state says of the samples. */

/** The keys of `lora` with defaults where nothing is said. */
function settings(...flags: string[]): LoraSettings {
  const { lora } = parseTrainArguments(["--model", "unused", "--output", "unused", ...flags]);
  assert.ok(lora);
  return lora;
}

const windowsOf = ({ samples }: PeftCase): AccumulationWindow[] =>
  tokenizedSamples(samples).map((sample) => [[sample]]);

/** A trainer of a case's model with its weights. */
async function open(
  gpu: Gpu,
  c: PeftCase,
  lora: LoraSettings,
  changes: Partial<TrainConfig> = {},
): Promise<Trainer> {
  const source = openModel(fixturePath(c.model)), windows = windowsOf(c);
  const defaults = parseTrainArguments(["--model", "unused", "--output", "unused"]);
  const config = { ...defaults, ...changes, lora };
  const sizes = new PassPlanner(config, null).sizes(windows);
  const trainer = new Trainer(gpu.memory, source.config, {
    config,
    sizes,
    maxBinding: gpu.maxBinding,
  });
  trainer.model.initialize(gpu);
  await loadWeights(gpu, trainer.model, source, { seed: 0 });
  return trainer;
}

const steps = async (gpu: Gpu, trainer: Trainer, windows: AccumulationWindow[], first: number) => {
  const results = [];
  for (const [i, window] of windows.entries()) {
    results.push(
      await trainer.step(gpu, window, { learningRate: 0.01, firstMicroBatch: first + i }),
    );
  }
  return results;
};

for (const c of cases) {
  gpuTest(`a resumed run goes on bit for bit: ${c.name}`, async (gpu) => {
    for (const precision of ["fp32", "mixed"] as const) {
      using folder = new TemporaryFolder();
      const path = fixturePath(`peft/${c.name}`), adapter = readAdapter(path);
      const model = openModel(fixturePath(c.model)).config, given = new Set(["dropout"]);
      const lora = settingsFrom(
        settings("--lora.dropout", "0.2", "--lora.plus-ratio", "4"),
        adapter.config,
        {
          given,
          model,
          what: path,
        },
      );
      const changes = { precision, initial_loss_scale: 256 };
      const whole = await open(gpu, c, lora, changes), [before, ...after] = windowsOf(c);
      loadAdapter(gpu, whole.model, adapter);
      await steps(gpu, whole, [before], 0);
      const progress = progressAt({ step: 1, microBatches: 1, firstLoss: 1, lastLoss: 1 });
      const state = await save(gpu, whole, folder.file("states"), progress);
      const expected = await steps(gpu, whole, after, 1);
      assert.ok(expected.length > 0);

      const resumed = await open(gpu, c, lora, changes);
      initializeAdapters(gpu, resumed.model, { init: "kaiming", seed: 3 });
      assert.deepEqual(load(gpu, resumed, state), progress);
      assert.deepEqual(await steps(gpu, resumed, after, 1), expected, precision);
      assertSameTensors(await parameters(gpu, resumed), await parameters(gpu, whole));
    }
  });

  gpuTest(`what a run writes of an adapter is read back as it was: ${c.name}`, async (gpu) => {
    using folder = new TemporaryFolder();
    const path = fixturePath(`peft/${c.name}`), adapter = readAdapter(path);
    const source = openModel(fixturePath(c.model)), model = source.config;
    const lora = settingsFrom(settings(), adapter.config, { given: new Set(), model, what: path });
    using run = RunFolder.open({ output: folder.file("run") });
    run.begin();
    const trainer = await open(gpu, c, lora, { precision: "fp32" }), { config } = trainer;
    loadAdapter(gpu, trainer.model, adapter);
    await steps(gpu, trainer, windowsOf(c), 0);
    const written = readAdapter(
      await writeTrained(gpu, trainer.model, run.path, { config, source, tokenizerPath: "" }),
    );
    assert.deepEqual(
      { ...written.config, base_model_name_or_path: null },
      { ...adapter.config, base_model_name_or_path: null },
    );
    const { modules, replaced } = checkAdapter(written, model, "written");
    const before = checkAdapter(adapter, model, path);
    assert.deepEqual([modules, replaced], [before.modules, before.replaced]);
    for (const [name, { data }] of await trainedValues(gpu, trainer)) {
      const stored = [...written.tensors].filter(([key]) =>
        key.replace(".base_layer.", ".").endsWith(name)
      );
      assert.equal(stored.length, 1, name);
      assert.deepEqual(stored[0][1].data, data, name);
    }
  });
}

gpuTest("adapters of every kind train on a quantised base as on its values", async (gpu) => {
  const names = [
    "tokens",
    "tokens_untied",
    "lora_bias",
    "bias_lora_only",
    "saved_tied",
    "dora_embed",
  ];
  for (const c of cases.filter(({ name }) => names.includes(name))) {
    const path = fixturePath(`peft/${c.name}`), adapter = readAdapter(path), windows = windowsOf(c);
    const model = openModel(fixturePath(c.model)).config;
    const lora = settingsFrom(settings(), adapter.config, { given: new Set(), model, what: path });
    const start = async (quantization: "none" | "nf4") => {
      const changes = { precision: "fp32", quantization, optimizer: "sgd" } as const;
      const trainer = await open(gpu, c, lora, changes);
      loadAdapter(gpu, trainer.model, adapter);
      return trainer;
    };
    const quantized = await start("nf4"), dense = await start("none");
    const values = await standingValues(gpu, quantized.model);
    assert.equal(values.size, 7 * model.num_hidden_layers);
    setWeights(gpu, dense.model, values);
    dense.model.parametersChanged();
    const actual = await steps(gpu, quantized, windows, 0);
    for (const [i, { loss, gradNorm }] of (await steps(gpu, dense, windows, 0)).entries()) {
      const limits = { atol: 0, rtol: 1e-4, what: `${c.name} step ${i + 1}` };
      assertClose([actual[i].loss, actual[i].gradNorm], [loss, gradNorm], limits);
    }
    const expected = await parameters(gpu, dense);
    for (const [name, data] of await parameters(gpu, quantized)) {
      assertClose(data, expected.get(name)!, { atol: 1e-4, rtol: 1e-3, what: `${c.name} ${name}` });
    }
  }
});

async function trainedValues(gpu: Gpu, trainer: Trainer) {
  const values = await parameters(gpu, trainer);
  return [...values].map(([name, data]) => [name, { data }] as const);
}

const MODEL: ModelConfig = openModel(fixturePath("family")).config;

Deno.test("an adapter's own settings hold where none are given, and others are refused", () => {
  const { config } = readAdapter(fixturePath("peft/patterns"));
  const from = (...flags: string[]) =>
    settingsFrom(settings(...flags.flatMap((flag) => flag.split("="))), config, {
      given: new Set(
        flags.map((flag) => flag.split("=")[0].slice("--lora.".length).replaceAll("-", "_")),
      ),
      model: MODEL,
      what: "folder",
    });
  const own = from();
  assert.deepEqual([own.rank, own.alpha, own.dropout, own.rslora], [3, 6, 0, false]);
  assert.deepEqual(own.targets, ["down_proj", "k_proj", "q_proj", "up_proj"]);
  assert.equal(from("--lora.dropout=0.3").dropout, 0.3);
  assert.equal(from("--lora.rank=3", "--lora.targets=q_proj,k_proj,up_proj,down_proj").rank, 3);
  for (
    const [flag, message] of [
      ["--lora.rank=8", /^adapter folder has rank 3, but lora\.rank is 8; expected the same$/],
      ["--lora.alpha=8", /has alpha 6, but lora\.alpha is 8/],
      [
        "--lora.targets=q_proj",
        /has targets down_proj,k_proj,q_proj,up_proj, but lora\.targets is q_proj/,
      ],
      ["--lora.rslora=true", /has rslora false, but lora\.rslora is true/],
      ["--lora.dora=true", /has dora false, but lora\.dora is true/],
      ["--lora.layers=0", /has layers unset, but lora\.layers is 0/],
      [
        "--lora.modules-to-save=lm_head",
        /has modules_to_save , but lora\.modules_to_save is lm_head/,
      ],
    ] as const
  ) assert.throws(() => from(flag), { name: UsageError.name, message });
});

Deno.test("the plan of a new adapter has what the keys of lora say", () => {
  const plan = (...flags: string[]) => trainedPlan(settings(...flags), MODEL);
  const names = (...flags: string[]) => [...plan(...flags).modules.keys()];
  assert.deepEqual(
    names(),
    [0, 1].flatMap((i) =>
      ["q_proj", "v_proj"].map((module) => `model.layers.${i}.self_attn.${module}`)
    ),
  );
  assert.equal(names("--lora.targets", "all-linear").length, 14);
  assert.deepEqual(names("--lora.targets", "up_proj,lm_head,embed_tokens", "--lora.layers", "1"), [
    "model.embed_tokens",
    "model.layers.1.mlp.up_proj",
    "lm_head",
  ]);
  const [{ scale }] = plan("--lora.rslora", "--lora.rank", "4", "--lora.alpha", "6").modules
    .values();
  assert.equal(scale, 3);
  assert.deepEqual(
    plan("--lora.modules-to-save", "lm_head,norm").replaced,
    [
      "model.layers.0.input_layernorm.weight",
      "model.layers.0.post_attention_layernorm.weight",
      "model.layers.1.input_layernorm.weight",
      "model.layers.1.post_attention_layernorm.weight",
      "model.norm.weight",
      "lm_head.weight",
    ],
  );
  assert.throws(
    () => plan("--lora.layers", "0-2"),
    /lora\.layers has 2; expected numbers below 2/,
  );
  assert.throws(
    () => plan("--lora.targets", "lm_head", "--lora.modules-to-save", "lm_head"),
    { name: UserError.name },
  );
});

gpuTest("a new adapter leaves the model as it was, and every part of it learns", async (gpu) => {
  const c = cases.find(({ model }) => model === "family")!, windows = windowsOf(c);
  const kinds = [
    ["--lora.targets", "embed_tokens,lm_head,q_proj,down_proj", "--lora.rank", "4"],
    ["--lora.dora", "--lora.targets", "all-linear", "--lora.rank", "4"],
    ["--lora.dora", "--lora.targets", "embed_tokens,lm_head,k_proj"],
    ["--lora.rslora", "--lora.modules-to-save", "embed_tokens,lm_head,norm"],
  ];
  const source = openModel(fixturePath("family"));
  const base = new Llama(gpu.memory, {
    config: source.config,
    numerics: EXACT,
    mode: scoreMode({ maxTokens: 32, maxTargets: 32 }),
  });
  base.initialize(gpu);
  await loadWeights(gpu, base, source, { seed: 0 });
  for (const kind of kinds) {
    for (const precision of ["fp32", "mixed"] as const) {
      const trainer = await open(gpu, c, settings(...kind), {
        precision,
        initial_loss_scale: 256,
      });
      initializeAdapters(gpu, trainer.model, { init: "kaiming", seed: 1 });
      const weights = windows.map((window) => window[0][0]).map(({ ids, targets }) => ({
        ids,
        targets,
        weight: 1,
      }));
      const before = await parameters(gpu, trainer);
      trainer.model.loss(gpu, makeBatch([weights[0]]), { backward: false });
      const [loss] = await gpu.readF32(trainer.model.losses);
      base.loss(gpu, makeBatch([weights[0]]), { backward: false });
      const [plain] = await gpu.readF32(base.losses);
      const tolerance = precision === "fp32" ? 1e-5 : 1e-2;
      assertClose([loss], [plain], { atol: 0, rtol: tolerance, what: `${kind} ${precision}` });
      await steps(gpu, trainer, windows, 0);
      const after = await parameters(gpu, trainer);
      for (const [name, data] of after) {
        assert.ok(
          data.some((value, i) => value !== before.get(name)![i]),
          `${kind}: ${name} stays`,
        );
      }
    }
  }
});
