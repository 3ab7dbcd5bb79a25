/**
 * Entry point of `lorikeet train`: from a configuration to a fine-tuned model.
 *
 * @module
 */
import { join } from "node:path";
import { runMain } from "../cli/run_main.ts";
import { type Gpu, openGpu } from "../kernels/gpu/gpu.ts";
import { memoryLines } from "../kernels/gpu/memory.ts";
import { type Profile, profileLines } from "../kernels/gpu/profiler.ts";
import { reasonOf } from "../kernels/ops/matmul/tuned.ts";
import { measureRoofs } from "../kernels/measure/roofs.ts";
import { allocatePlanned } from "../model/transformer/capacity.ts";
import { endWithParent } from "../cli/parent.ts";
import { clock, loadingBar } from "../cli/progress.ts";
import { contextLength } from "../model/families/config.ts";
import { meanNll } from "../model/transformer/evaluate.ts";
import { refuseOtherBase } from "../model/adapter/base_copies.ts";
import { type Adapter, checkAdapter, readAdapter } from "../model/formats/adapter.ts";
import { parseAdapterConfig } from "../model/formats/adapter_config.ts";
import type { Llama } from "../model/transformer/llama.ts";
import { initializeAdapters, loadAdapter, loadWeights } from "../model/checkpoint/load.ts";
import { NotFinite } from "../model/transformer/not_finite.ts";
import { type ModelSource, openModelWithTokenizer } from "../model/checkpoint/source.ts";
import { loadDataset } from "../model/text/data/dataset.ts";
import { describeSample, type TokenizedSample } from "../model/text/prompt.ts";
import { settingsFrom } from "./adapter_settings.ts";
import { samplesChecksum } from "./checksums.ts";
import { readTrainArguments, type TrainArguments, type TrainConfig } from "./config.ts";
import { plannedSteps, splitEvaluation, type StepPlan, windowSamples } from "./data.ts";
import { runSteps } from "./loop.ts";
import type { Outcome } from "./outcome.ts";
import { checkOutput, countParameters, MetricsFile, writeSummary, writeTrained } from "./output.ts";
import { Showcase } from "./showcase.ts";
import { loadState, type Progress, saveState, stateAdapter } from "./state.ts";
import { Stopped, StopRequest } from "./stop_request.ts";
import { type RunSizes, runSizes, Trainer, type Window } from "./trainer.ts";

/** The windows of the run; where batches are the same in every epoch, one epoch shows them all. */
function allWindows(
  { shuffle, batch_size, packing }: TrainConfig,
  plan: StepPlan,
  samples: readonly TokenizedSample[],
): Window[] {
  const same = !shuffle || (batch_size === 1 && !packing);
  const steps = plannedSteps(same ? { ...plan, epochs: 1 } : plan);
  return Array.from(steps, ({ window }) => windowSamples(window, samples));
}

/** The largest pass of the run, evaluation and held-out prompts included. */
function largestPass(
  config: TrainConfig,
  { plan, windows, evaluation, showcase, slidingWindow }: {
    plan: StepPlan;
    windows: readonly Window[];
    evaluation: readonly TokenizedSample[];
    showcase: Showcase | undefined;
    slidingWindow: number | null;
  },
): RunSizes {
  const sizes = runSizes(windows, config, slidingWindow);
  const microBatches = Math.ceil(plan.samples.length / config.batch_size);
  const also = runSizes([evaluation.map((sample) => [sample])]);
  const shown = showcase?.sizes;
  return {
    maxTokens: Math.max(sizes.maxTokens, also.maxTokens),
    maxTargets: Math.max(sizes.maxTargets, also.maxTargets, shown?.sequences ?? 0),
    maxPosition: Math.max(sizes.maxPosition, also.maxPosition, shown?.context ?? 0),
    decoding: shown,
    maxMicroBatches: Math.min(microBatches, config.gradient_accumulation_steps),
  };
}

/** What needs less memory, for a run that does not fit. */
const LESS_MEMORY =
  "--checkpointing block, a smaller --batch-size or --max-length, LoRA instead of " +
  "full fine-tuning, --precision mixed, --layers N.";

/**
 * The adapter to start from, where the configuration names one; refused where it doesn't fit. Keys of `lora` that were
 * not given become the adapter's, also those of the adapter that a run to be resumed started from.
 */
async function startAdapter(
  { config, givenLora: given }: TrainArguments,
  source: ModelSource,
): Promise<Adapter | undefined> {
  const { lora, adapter: folder, resume } = config, model = source.config;
  if (!lora) return undefined;
  const before = resume === undefined ? undefined : stateAdapter(resume);
  if (before !== undefined && resume !== undefined) {
    const said = parseAdapterConfig(before, resume);
    config.lora = settingsFrom(lora, said, { given, model, what: resume });
  }
  if (folder === undefined) return undefined;
  const adapter = readAdapter(folder);
  const plan = checkAdapter(adapter, model, folder);
  await refuseOtherBase(adapter, plan, { weights: source.weights, folder });
  config.lora = settingsFrom(lora, adapter.config, { given, model, what: folder });
  return adapter;
}

/** Loads weights with a progress bar, then adapters, fresh or those to start from. */
async function fillModel(
  gpu: Gpu,
  model: Llama,
  source: ModelSource,
  { seed, lora, adapter }: Pick<TrainConfig, "seed" | "lora"> & { adapter?: Adapter },
): Promise<void> {
  model.initialize(gpu);
  await loadWeights(gpu, model, source, { seed, progress: loadingBar() });
  if (adapter !== undefined) loadAdapter(gpu, model, adapter);
  else if (lora) initializeAdapters(gpu, model, { init: lora.init, seed });
}

/** Prints what a finished run did. */
function report(
  gpu: Gpu,
  trainer: Trainer,
  { outcome, folder, profile }: { outcome: Outcome; folder: string; profile?: Profile },
): void {
  const { progress: { firstLoss }, lastLoss, seconds } = outcome;
  const { output } = trainer.config;
  console.log(`\nPeak GPU memory by category:`);
  console.log(memoryLines(gpu.memory.peak, gpu.memory.peakTotal).join("\n"));
  if (profile) console.log(`\n${profileLines(profile).join("\n")}`);
  console.log(`\nTrained ${describeParameters(trainer.model)} in ${clock(seconds)}`);
  if (firstLoss !== null && lastLoss !== null) {
    console.log(`Loss: ${firstLoss.toFixed(4)} first, ${lastLoss.toFixed(4)} last`);
  }
  if (trainer.skipped > 0) console.log(`Steps skipped for overflow: ${trainer.skipped}`);
  console.log(`Files: ${folder}, ${join(output, "metrics.jsonl")}, summary.json, state/`);
}

/** `28672 of 1078400 parameters (2.6588 %)`. */
function describeParameters(model: Llama): string {
  const { trainable, total } = countParameters(model);
  return `${trainable} of ${total} parameters (${(100 * trainable / total).toFixed(4)} %)`;
}

/** `lorikeet train`. */
export async function main(args: string[]): Promise<number> {
  endWithParent();
  const given = readTrainArguments(args), { config } = given;
  checkOutput(config.output);
  const { source, tokenizer, tokenizerPath } = await openModelWithTokenizer(config);
  const adapter = await startAdapter(given, source);
  console.log(`Model: ${config.model}, ${source.config.num_hidden_layers} blocks`);
  const context = contextLength(source.config);
  const samples = await loadDataset(tokenizer, { ...config, context, say: console.log });
  console.log(`\n${describeSample(tokenizer, samples[0], Deno.stdout.isTerminal())}\n`);
  const split = splitEvaluation(samples.length, config.eval_fraction, config.seed);
  const evaluation = Array.from(split.evaluation, (i) => samples[i]);
  if (config.eval_fraction > 0) {
    console.log(`Held out: ${evaluation.length} of ${samples.length} samples\n`);
  }
  const plan: StepPlan = { ...config, samples: split.train };
  const showcase = config.model === "builtin" && config.data === "builtin"
    ? new Showcase(tokenizer)
    : undefined;
  const windows = allWindows(config, plan, samples);
  const slidingWindow = source.config.sliding_window;
  const sizes = largestPass(config, { plan, windows, evaluation, showcase, slidingWindow });

  const gpu = await openGpu({
    provider: config.gpu,
    precision: config.precision,
    profile: config.profile,
  });
  if (gpu.profiler) {
    gpu.profiler.roofs = await measureRoofs(gpu, config.precision === "mixed" ? "f16" : "f32");
  }
  gpu.pipelines.print = config.print_wgsl;
  const { trainer, engine } = await allocatePlanned(gpu, (memory) => {
    const trainer = new Trainer(memory, source.config, config, sizes, gpu.maxBinding);
    return { trainer, engine: showcase?.engine(memory, trainer.model) };
  }, LESS_MEMORY);
  const { model } = trainer;
  console.log(`GPU: ${gpu.name} (${gpu.provider}: ${reasonOf(gpu)})`);
  console.log(`Trainable: ${describeParameters(model)}`);
  await fillModel(gpu, model, source, { ...config, adapter });
  const data = samplesChecksum(samples);
  const start: Progress = config.resume === undefined
    ? { step: 0, microBatches: 0, firstLoss: null, data }
    : loadState(gpu, trainer, config.resume, data);
  const stop = new StopRequest();
  const began = performance.now();
  const programs = await trainer.rehearse(gpu, windows);
  const seconds = ((performance.now() - began) / 1000).toFixed(1);
  console.log(`Compiled ${programs} programs in ${seconds} s`);

  await stop.listen();
  const metrics = new MetricsFile(config.output);
  const evaluations: number[] = [];
  const evaluate = async (when: string) => {
    if (evaluation.length === 0) return;
    try {
      evaluations.push(await meanNll(gpu, model, evaluation, () => stop.check()));
    } catch (error) {
      if (error instanceof NotFinite) error.message = `held-out ${error.message}`;
      throw error;
    }
    console.log(`Held-out loss ${when}: ${evaluations.at(-1)!.toFixed(4)}`);
  };
  let before: string[] | undefined;
  try {
    before = await showcase?.answers(gpu, engine!);
    await evaluate("before");
    stop.check();
  } catch (error) {
    metrics.discard();
    if (!(error instanceof Stopped)) throw error;
    console.error("Stopped before the first step: nothing was written.");
    return 130;
  }
  const epochStart = (epochsDone: number) =>
    evaluate(`after epoch ${epochsDone}`).catch(unlessStopped);
  await gpu.profiler?.take(); // the profile is that of the steps
  const outcome = await runSteps(gpu, trainer, { plan, samples, start, metrics, stop, epochStart });
  const profile = await gpu.profiler?.take();
  metrics.close();
  if (outcome.stopped) {
    console.error(`Go on with --resume ${join(config.output, "state")} and a new --output.`);
    gpu.close();
    return 130;
  }
  stop.answer = "Writing the results";
  const folder = await writeTrained(gpu, model, config, { source, tokenizerPath });
  await saveState(gpu, trainer, join(config.output, "state"), outcome.progress);
  // What comes now can fail or be left out: the results are written.
  let failure: unknown, after: string[] | undefined;
  try {
    await evaluate("after");
    after = await showcase?.answers(gpu, engine!);
  } catch (error) {
    failure = error;
  }
  writeSummary(config.output, {
    gpu,
    model,
    config,
    outcome,
    evaluations,
    skipped: trainer.skipped,
  });
  if (before && after) console.log(`\n${showcase!.describe(before, after)}`);
  report(gpu, trainer, { outcome, folder, profile });
  gpu.close();
  if (failure instanceof Stopped) {
    console.error("The last evaluation was left out.");
    return 130;
  }
  if (failure !== undefined) throw failure;
  return 0;
}

/** Lets a request to stop be answered by who called. */
function unlessStopped(error: unknown): void {
  if (!(error instanceof Stopped)) throw error;
}

if (import.meta.main) await runMain(main);
