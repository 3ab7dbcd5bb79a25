/**
 * Entry point of `lorikeet train`: from a configuration to a fine-tuned model.
 *
 * @module
 */
import { EXIT } from "../cli/exit_codes.ts";
import { clock, loadingBar } from "../cli/progress.ts";
import { runMain } from "../cli/run_main.ts";
import { tolerateStdout } from "../cli/tolerant_output.ts";
import type { Gpu } from "../kernels/gpu/gpu.ts";
import { memoryLines } from "../kernels/gpu/memory.ts";
import { type Profile, profileLines } from "../kernels/gpu/profiler.ts";
import { reasonOf } from "../kernels/ops/matmul/tuned.ts";
import { noteLine, printJson, printLine } from "../kernels/terminal.ts";
import type { Llama } from "../model/transformer/llama.ts";
import { jsonSchema, readTrainArguments, type TrainArguments } from "./config.ts";
import { dryRunLines } from "./dry_run.ts";
import { writeEffectiveConfig } from "./effective_config.ts";
import { Evaluation } from "./evaluation.ts";
import { Health } from "./health.ts";
import { withLastState } from "./last_state.ts";
import type { RunOptions } from "./flags.ts";
import { runSteps } from "./loop.ts";
import { LineFile } from "./line_file.ts";
import { countParameters, writeSummary } from "./output.ts";
import { RunFolder } from "./run_folder.ts";
import { countSteps, plannedSteps } from "./data.ts";
import { SampleAnswers } from "./sample_answers.ts";
import { setUpTraining, type TrainingSetup } from "./setup.ts";
import { Stopped, StopRequest } from "./stop_request.ts";
import { startTraining, type Training } from "./training.ts";
import type { TrainingPage } from "./watch/in_training.ts";

/** What a request to stop is answered with while a run is prepared, and while it trains. */
const PREPARING = "Stopping before the first step; nothing is written";
const TRAINING = "Stopping after this step; the state is saved";

/** `28672 of 1078400 parameters (2.6588 %)`. */
function describeParameters(model: Llama): string {
  const { trainable, total } = countParameters(model);
  return `${trainable} of ${total} parameters (${(100 * trainable / total).toFixed(4)} %)`;
}

/** Serves the run's page where that is asked for, and prints its address. */
async function openPage({ watch, watch_port }: RunOptions): Promise<TrainingPage | undefined> {
  if (!watch) return undefined;
  const { TrainingPage } = await import("./watch/in_training.ts");
  const page = await TrainingPage.open(watch_port);
  printLine(`Watch: ${page.url}`);
  return page;
}

/** The prompts that a run answers before and after: the built-in example has some. */
function sampleAnswers({ config, tokenizer }: TrainingSetup): SampleAnswers | undefined {
  const { model, data } = config;
  return model === "builtin" && data === "builtin" ? new SampleAnswers(tokenizer) : undefined;
}

/** Compiles what the first steps take, and says so. */
async function compile(training: Training): Promise<void> {
  const began = performance.now();
  const programs = await training.compile();
  const seconds = ((performance.now() - began) / 1000).toFixed(1);
  printLine(`Compiled ${programs} programs in ${seconds} s`);
}

/** A run and those who take part in it. */
interface Run {
  training: Training;
  evaluation: Evaluation;
  metrics: LineFile;
  stop: StopRequest;
  health: Health;
  answers?: SampleAnswers;
}

/** The model's answers to the sample prompts, where there are any. */
async function answer(run: Run): Promise<string[] | undefined> {
  const { training: { gpu, engine }, stop, answers } = run;
  return engine && await answers?.answers(gpu, engine, () => stop.check());
}

/**
 * All that comes before the first step: answers and held-out loss. A run that is gone on with has the loss already.
 *
 * @throws {Stopped} where that is asked for meanwhile.
 */
async function lookBefore(run: Run): Promise<{ answers?: string[] }> {
  const { training: { folder, progress }, evaluation, metrics, stop } = run;
  try {
    const answers = await answer(run);
    stop.check();
    if (progress.evaluations.length === 0) await evaluation.run("before");
    stop.check();
    return { answers };
  } catch (error) {
    metrics[Symbol.dispose]();
    folder.discard();
    throw error;
  }
}

/** Runs the steps. */
async function trainAll(run: Run): Promise<{ stopped: boolean; profile?: Profile }> {
  const { training, training: { gpu, progress, setup }, evaluation, metrics, stop, health } = run;
  const epochStart = (epochsDone: number) =>
    evaluation.run(`after epoch ${epochsDone}`).catch(unlessStopped);
  await gpu.profiler?.take(); // the profile is that of the steps
  const [next] = plannedSteps(setup.plan, progress.step);
  // A state that was saved between epochs is from before the evaluation there.
  if (next !== undefined && next.epoch >= progress.evaluations.length) await epochStart(next.epoch);
  const { stopped } = await runSteps(training, { metrics, stop, health, epochStart });
  const profile = await gpu.profiler?.take();
  metrics[Symbol.dispose]();
  return { stopped, profile };
}

/** Lets a request to stop be answered by who called. */
function unlessStopped(error: unknown): void {
  if (!(error instanceof Stopped)) throw error;
}

/** What comes once the results are written, which can fail or be left out. */
async function lookAfter(run: Run): Promise<{ answers?: string[]; failure?: unknown }> {
  try {
    await run.evaluation.run("after");
    return { answers: await answer(run) };
  } catch (failure) {
    return { failure };
  }
}

/** Prints what a finished run did. */
function report(
  { gpu, trainer, folder, progress: { firstLoss, lastLoss, seconds } }: Training,
  { trained, profile }: { trained: string; profile?: Profile },
): void {
  printLine(`\nPeak GPU memory by category:`);
  printLine(memoryLines(gpu.memory.peak, gpu.memory.peakTotal).join("\n"));
  if (profile) printLine(`\n${profileLines(profile).join("\n")}`);
  printLine(`\nTrained ${describeParameters(trainer.model)} in ${clock(seconds)}`);
  if (firstLoss !== null && lastLoss !== null) {
    printLine(`Loss: ${firstLoss.toFixed(4)} first, ${lastLoss.toFixed(4)} last`);
  }
  if (trainer.skipped > 0) printLine(`Steps skipped for overflow: ${trainer.skipped}`);
  printLine(`Files: ${trained}, ${folder.file("metrics")}, summary.json, states/`);
}

/** Whether all steps of a run were done and its results are there; says so. */
function isFinished(folder: RunFolder, { resumed, plan }: TrainingSetup): boolean {
  const step = resumed?.progress.step ?? -1;
  if (!folder.existed || !folder.hasResults || step < countSteps(plan)) return false;
  printLine(`The run in ${folder.path} is finished: all ${step} steps are done.`);
  return true;
}

/**
 * Prepares a run.
 *
 * @returns undefined where there is nothing left to do.
 * @throws {Stopped} where that is asked for meanwhile.
 */
async function prepare(
  given: TrainArguments,
  folder: RunFolder,
  stop: StopRequest,
): Promise<{ training: Training; answers?: SampleAnswers } | undefined> {
  const check = () => stop.check();
  const { states } = folder;
  const setup = await setUpTraining(given, printLine, { states, check });
  if (isFinished(folder, setup)) return undefined;
  check();
  const answers = sampleAnswers(setup), bar = loadingBar();
  const training = await startTraining(setup, folder, {
    answers,
    progress: (done, total) => {
      check();
      bar(done, total);
    },
    allocated: (gpu: Gpu, { model }) => {
      check();
      printLine(`GPU: ${gpu.name} (${gpu.provider}: ${reasonOf(gpu)})`);
      printLine(`Trainable: ${describeParameters(model)}`);
    },
  });
  try {
    check();
    const { step } = training.progress;
    if (step > 0) printLine(`Going on after step ${step} of ${training.total}`);
    await compile(training);
    check();
    return { training, answers };
  } catch (error) {
    await training[Symbol.asyncDispose]();
    throw error;
  }
}

/** Trains and writes what comes of it. @returns The exit code. */
async function train(run: Run, before: { answers?: string[] }): Promise<number> {
  const { training, training: { folder, progress, setup: { config } }, stop, answers } = run;
  stop.answer = TRAINING;
  const { stopped, profile } = await trainAll(run);
  if (stopped) {
    noteLine(`Go on with --resume ${folder.path}`);
    return stop.code;
  }
  stop.answer = "Writing the results";
  const trained = await training.save();
  const after = await lookAfter(run);
  const { gpu, trainer: { model, skipped } } = training;
  writeSummary({ gpu, folder, progress, config, model, skipped });
  if (answers && before.answers && after.answers) {
    printLine(`\n${answers.describe(before.answers, after.answers)}`);
  }
  report(training, { trained, profile });
  if (after.failure instanceof Stopped) {
    noteLine("The last evaluation was left out.");
    return stop.code;
  }
  if (after.failure !== undefined) throw after.failure;
  return EXIT.done;
}

export async function main(args: string[]): Promise<number> {
  const given = readTrainArguments(args);
  if (given.schema) {
    printJson(jsonSchema(), 2);
    return EXIT.done;
  }
  using folder = RunFolder.open(given.config);
  using stop = new StopRequest(PREPARING);
  using page = await openPage(given);
  try {
    const prepared = await prepare(given, folder, stop);
    if (prepared === undefined) return EXIT.done;
    const { training, answers } = prepared;
    await using _ = training;
    if (given.dry_run) {
      printLine(`\n${(await dryRunLines(training)).join("\n")}`);
      return EXIT.done;
    }
    folder.begin();
    const origins = { places: given.places, state: training.setup.resumed?.path };
    writeEffectiveConfig(folder.file("config"), training.setup.config, origins);
    page?.show(folder.path);
    stop.watchFile(folder.file("stop"));
    const evaluation = new Evaluation(training, stop);
    const metrics = new LineFile(folder.file("metrics"), training.progress.step);
    const { source, config } = training.setup;
    const health = new Health({
      settings: config,
      vocabulary: source.config.vocab_size,
      firstLoss: training.progress.firstLoss,
    });
    const run: Run = { training, evaluation, metrics, stop, health, answers };
    const before = await lookBefore(run);
    try {
      return await train(run, before);
    } catch (error) {
      await training.saved().catch(() => {}); // the error says more
      throw withLastState(error, folder, health.goodUntil);
    }
  } catch (error) {
    if (!(error instanceof Stopped)) throw error;
    noteLine("Stopped before the first step: nothing was written.");
    return stop.code;
  }
}

if (import.meta.main) {
  tolerateStdout();
  await runMain(main);
}
