/** A model's folder on the GPU, compared with what transformers and PEFT computed of it in float32. */
import { targetsAfter } from "../../../model/text/targets.ts";
import assert from "node:assert/strict";
import type { Gpu } from "../../../kernels/gpu/gpu.ts";
import { openFiles, writeModel } from "../../../infer/write_model.ts";
import { EXACT, type Numerics } from "../../../kernels/ops/numerics.ts";
import { checkAdapter, readAdapter } from "../../../model/adapter/adapter_folder.ts";
import { loadAdapter, loadWeights } from "../../../model/checkpoint/load.ts";
import { AdapterMerge } from "../../../model/checkpoint/merge.ts";
import { openModel } from "../../../model/checkpoint/source.ts";
import { isLinearModule } from "../../../model/families/linear_modules.ts";
import { Engine } from "../../../model/engine/engine.ts";
import { makeBatch } from "../../../model/transformer/batch.ts";
import { Llama } from "../../../model/transformer/llama.ts";
import { generateMode, scoreMode } from "../../../model/transformer/modes.ts";
import { PassPlanner } from "../../../train/planner.ts";
import { Trainer } from "../../../train/trainer.ts";
import type { FamilyStep } from "../../fixtures.ts";
import { assertClose } from "../../kernels/harness.ts";
import { type Settings, trainConfig } from "../../train/runs.ts";

/** What training is compared by. */
export interface TrainingCase {
  learning_rate: number;
  gradient_accumulation_steps: number;
  /** Every token but the first is a target. */
  ids: number[][];
  steps: FamilyStep[];
}

/** Compares the logits of some rows of a text. */
export async function assertLogits(
  gpu: Gpu,
  folder: string,
  { ids, rows }: { ids: readonly number[]; rows: ReadonlyMap<number, readonly number[]> },
  { numerics, tolerance }: { numerics: Numerics; tolerance: number },
): Promise<void> {
  const source = openModel(folder);
  const mode = scoreMode({ maxTokens: ids.length, maxTargets: rows.size });
  const model = new Llama(gpu.memory, { config: source.config, numerics, mode });
  model.initialize(gpu);
  await loadWeights(gpu, model, source, { seed: 0 });
  const document = { ids: Uint32Array.from(ids), targets: [], weight: 0 };
  const batch = makeBatch([document], model.slidingWindows[0]);
  const targetRows = Uint32Array.from(rows.keys());
  const logits = model.logits(gpu, { ...batch, targetRows, targetCount: rows.size });
  const values = await gpu.readF32(logits), width = logits.rowSize;
  [...rows].forEach(([row, expected], i) => {
    const actual = values.subarray(i * width, i * width + expected.length);
    // What float32 can tell is relative to the row's largest.
    const atol = tolerance * Math.max(...expected.map(Math.abs));
    assertClose(actual, expected, { atol, rtol: 0, what: `row ${row}` });
  });
}

/** Compares greedily chosen tokens: alone and in a batch of four, with a cache and without. */
export async function assertGreedy(
  gpu: Gpu,
  folder: string,
  { prompt, greedy }: { prompt: readonly number[]; greedy: readonly number[] },
): Promise<void> {
  for (const [sequences, cache] of [[1, "f32"], [4, "f32"], [4, undefined]] as const) {
    const source = openModel(folder), context = prompt.length + greedy.length;
    const sizes = { sequences, context, promptTokens: context, cache };
    const { config } = source;
    const model = new Llama(gpu.memory, { config, numerics: EXACT, mode: generateMode(sizes) });
    const engine = new Engine(gpu.memory, model, sizes);
    model.initialize(gpu);
    await loadWeights(gpu, model, source, { seed: 0 });
    // The end token was left out of what is expected: where it is the best one, the text goes on as expected.
    for (let at = 0; at < greedy.length;) {
      const text = [...prompt, ...greedy.slice(0, at)], rest = greedy.slice(at);
      // The others of the batch are shorter, so that rows of a step are at different positions.
      const prompts = Array.from({ length: sequences }, (_, i) => text.slice(0, text.length - i));
      const [ids] = await engine.answers(gpu, prompts, { maxTokens: rest.length, stop: [] });
      const ends = ids.findIndex((id) => config.eos_token_ids.includes(id));
      const same = ends < 0 || greedy.includes(ids[ends]) ? rest.length : ends;
      const what = `${sequences} sequences, cache ${cache ?? "none"}, from ${at}`;
      assert.deepEqual(ids.slice(0, same), rest.slice(0, same), what);
      at += same + 1;
    }
  }
}

/** Merges an adapter, and compares the logits of what is written, whose `config.json` must be the model's. */
export async function assertMerged(
  gpu: Gpu,
  folder: string,
  adapter: string,
  text: { ids: readonly number[]; rows: ReadonlyMap<number, readonly number[]> },
): Promise<void> {
  const output = `${folder}-merged`, paths = { model: folder, output };
  const files = await openFiles(paths);
  const change = new AdapterMerge(gpu, readAdapter(adapter), files.config, adapter);
  assert.ok(await writeModel(files, paths, "Merging", change));
  await assertLogits(gpu, output, text, { numerics: EXACT, tolerance: 1e-4 });
  const [before, after] = [folder, output].map((path) =>
    JSON.parse(Deno.readTextFileSync(`${path}/config.json`))
  );
  const { architectures: _, torch_dtype: __, ...same } = after;
  assert.deepEqual(same, before);
}

/** Compares steps of training: of an adapter where one is given, else of all weights. Returns what was trained. */
export async function assertTraining(
  gpu: Gpu,
  folder: string,
  { learning_rate, gradient_accumulation_steps: every, ids, steps }: TrainingCase,
  { adapter: path, tolerance = { loss: 1e-4, norm: 1e-3 }, ...settings }: Settings & {
    adapter?: string;
    tolerance?: { loss: number; norm: number };
  },
): Promise<Llama> {
  const source = openModel(folder);
  const adapter = path === undefined ? undefined : readAdapter(path);
  const targets = adapter && checkAdapter(adapter, source.config, path!);
  const { r: rank, lora_alpha: alpha } = adapter?.config ?? { r: 0, lora_alpha: 0 };
  const config = trainConfig({
    adapter: targets && {
      rank,
      alpha,
      targets: [...new Set(Array.from(targets.modules.keys(), (name) => name.split(".").at(-1)))]
        .filter(isLinearModule),
      weights: new Map(),
    },
  }, { learning_rate, gradient_accumulation_steps: every, ...settings });
  const samples = ids.map((tokens) => ({
    ids: Uint32Array.from(tokens),
    targets: targetsAfter(1, tokens),
    truncated: false,
  }));
  const windows = steps.map((_, step) =>
    samples.slice(every * step, every * (step + 1)).map((sample) => [sample])
  );
  const sizes = PassPlanner.of(config, source.config).sizes(windows);
  const { maxBinding } = gpu;
  const trainer = new Trainer(gpu.memory, source.config, { config, sizes, maxBinding });
  trainer.model.initialize(gpu);
  await loadWeights(gpu, trainer.model, source, { seed: 0 });
  if (adapter !== undefined) loadAdapter(gpu, trainer.model, adapter);
  for (const [i, { losses, grad_norm }] of steps.entries()) {
    const result = await trainer.step(gpu, windows[i], {
      learningRate: learning_rate,
      firstMicroBatch: every * i,
    });
    const { loss, norm } = tolerance;
    assertClose(result.losses, losses, { atol: 0, rtol: loss, what: `losses ${i}` });
    assertClose([result.gradNorm], [grad_norm], { atol: 0, rtol: norm, what: `norm ${i}` });
  }
  return trainer.model;
}
