/**
 * Entry point of `lorikeet train`: from a configuration to a fine-tuned model.
 *
 * @module
 */
import { EXIT } from "../cli/exit_codes.ts";
import { loadingBar } from "../cli/progress.ts";
import { runMain } from "../cli/run_main.ts";
import { tolerateStdout } from "../cli/tolerant_output.ts";
import { UserError } from "../kernels/errors.ts";
import type { Gpu } from "../kernels/gpu/gpu.ts";
import { megabytes } from "../kernels/gpu/memory.ts";
import type { Profile } from "../kernels/gpu/profiler.ts";
import { reasonOf } from "../kernels/ops/matmul/tuned.ts";
import { noteLine, printJson, printLine } from "../kernels/terminal.ts";
import { contextLength } from "../model/families/config.ts";
import { compilationLine } from "../model/session.ts";
import { jsonSchema, readTrainArguments, type TrainCommand } from "./config/config.ts";
import { dryRunLines } from "./dry_run.ts";
import { writeEffectiveConfig } from "./config/effective_config.ts";
import type { Evaluation } from "./evaluation/evaluation.ts";
import type { EvaluationPrompts } from "./evaluation/evaluation_prompts.ts";
import { SampleAnswers } from "./evaluation/sample_answers.ts";
import { evaluationPrompts, openEvaluation } from "./evaluation_run.ts";
import { Health } from "./health.ts";
import { withLastState } from "./run/last_state.ts";
import type { RunOptions } from "./config/flags.ts";
import { runSteps } from "./loop.ts";
import { memoryFigures } from "./config/memory_note.ts";
import { MetricsFiles } from "./metrics/metrics_files.ts";
import { writeSummary } from "./run/output.ts";
import { attempt, writeResults } from "./results.ts";
import { describeParameters, isFinished, report } from "./report.ts";
import { RunFolder } from "./run/run_folder.ts";
import { newestState } from "./states/state.ts";
import type { StoredState } from "./states/state_file.ts";
import { setUpTraining, type TrainingSetup } from "./setup.ts";
import { Stopped, StopRequest } from "./run/stop_request.ts";
import { startTraining, type Training } from "./training.ts";
import type { TrainingPage } from "./watch/in_training.ts";

/** What a request to stop is answered with while a run is prepared, and while it trains. */
const PREPARING = "Stopping before the first step; nothing is written";
const TRAINING = "Stopping after this step; the state is saved";

/** Serves the run's page where that is asked for, and prints its address. */
async function openPage(
  { watch, watch_port, dry_run }: RunOptions,
): Promise<TrainingPage | undefined> {
  if (!watch || dry_run) return undefined;
  const { TrainingPage } = await import("./watch/in_training.ts");
  const page = await TrainingPage.open(watch_port);
  printLine(`Watch: ${page.url}`);
  return page;
}

/** The prompts that a run answers before and after: the built-in example has some. */
function sampleAnswers({ config, tokenizer, source }: TrainingSetup): SampleAnswers | undefined {
  const { model, data } = config;
  if (model !== "builtin" || data !== "builtin") return undefined;
  return new SampleAnswers(tokenizer, contextLength(source.config));
}

/** A run and those who take part in it. */
interface Run {
  training: Training;
  evaluation: Evaluation;
  metrics: MetricsFiles;
  stop: StopRequest;
  health: Health;
  answers?: SampleAnswers;
}

/** The model's answers to the sample prompts, where there are any. */
async function answer({ training, stop, answers }: Run): Promise<string[] | undefined> {
  if (answers === undefined) return undefined;
  const engine = training.engine(answers.prompts);
  return await answers.answers(training.gpu, engine, () => stop.check());
}

/** What the model answers before the first step that this program does, and the steps that others did before it. */
interface Before {
  answers?: string[];
  step: number;
}

/**
 * All that comes before the first step: answers and held-out loss. A run that is gone on with has the loss already.
 *
 * @throws {Stopped} where that is asked for meanwhile.
 */
async function lookBefore(run: Run): Promise<Before> {
  const { training: { folder, progress }, evaluation, metrics, stop } = run;
  try {
    const answers = await answer(run);
    stop.check();
    await evaluation.run(progress.step);
    stop.check();
    return { answers, step: progress.step };
  } catch (error) {
    metrics[Symbol.dispose](); // Windows removes no file that is open.
    folder.discard();
    throw error;
  }
}

/** Runs the steps. */
async function trainAll(run: Run): Promise<{ stopped: boolean; profile?: Profile }> {
  const { training, training: { gpu }, evaluation, metrics, stop, health } = run;
  await gpu.profiler?.take(); // the profile is that of the steps
  const { stopped } = await runSteps(training, { metrics, stop, health, evaluation });
  const profile = await gpu.profiler?.take();
  return { stopped, profile };
}

/** What comes once the results are written, which can fail or be left out. */
async function lookAfter(run: Run): Promise<{ answers?: string[]; failure?: unknown }> {
  try {
    await run.evaluation.run(run.training.progress.step);
    return { answers: await answer(run) };
  } catch (failure) {
    return { failure };
  }
}

/** A run that is about to begin, with what it is asked. */
interface Prepared {
  training: Training;
  /** Prompts that are answered before and after it. */
  answers?: SampleAnswers;
  /** Prompts that are answered at every evaluation. */
  prompts?: EvaluationPrompts;
}

/** A command, the folder that it works in, and what the newest state there says. */
interface FoundRun {
  given: TrainCommand;
  folder: RunFolder;
  newest?: StoredState;
}

/** Reads the command line, and finds the run that it goes on with. */
function findRun(args: string[]): FoundRun {
  let found: RunFolder | undefined, newest: StoredState | undefined;
  try {
    const given = readTrainArguments(args, (keys) => {
      found = RunFolder.open(keys);
      if (found.states.length === 0) return undefined;
      newest = newestState(found.states, noteLine);
      // With auto, the command alone says what the run is: it may begin it as well.
      if (keys.resume === "auto") return undefined;
      return { path: newest.path, config: newest.identity.config };
    });
    return { given, folder: found ?? RunFolder.open(given.config), newest };
  } catch (error) {
    found?.[Symbol.dispose]();
    throw error;
  }
}

/**
 * Prepares a run.
 *
 * @returns undefined where there is nothing left to do.
 * @throws {Stopped} where that is asked for meanwhile.
 */
async function prepare(
  { given, folder, newest }: FoundRun,
  stop: StopRequest,
): Promise<Prepared | undefined> {
  const check = () => stop.check();
  const { states } = folder;
  const setup = await setUpTraining(given, printLine, { states, newest, check });
  if (isFinished(folder, setup)) return undefined;
  check();
  const answers = sampleAnswers(setup),
    prompts = await evaluationPrompts(setup),
    bar = loadingBar();
  const training = await startTraining(setup, folder, {
    prompts: [answers, prompts].flatMap((some) => some?.prompts ?? []),
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
    printLine(compilationLine(training.compilation));
    return { training, answers, prompts };
  } catch (error) {
    await training[Symbol.asyncDispose]();
    throw error;
  }
}

/**
 * Makes the run's folder and what is in it from the start.
 *
 * @throws {UserError} where that can't be done; nothing is left of it then.
 */
function begin(
  { places }: TrainCommand,
  { training, answers, prompts }: Prepared,
  stop: StopRequest,
): Run {
  const { folder, progress: { step, firstLoss }, setup } = training;
  const { source, config, objective, evaluation: { length }, resumed } = setup;
  try {
    folder.begin();
    const memory = memoryFigures(training.gpu.memory);
    const origins = { places, state: resumed?.path, memory };
    writeEffectiveConfig(folder.file("config"), config, origins);
    stop.watchFile(folder.file("stop"));
    const metrics = new MetricsFiles(folder, {
      ...config,
      evaluates: length > 0,
      figures: objective.figures,
      step,
      peakMemoryMb: () => megabytes(training.gpu.memory.peakTotal),
    });
    const vocabulary = source.config.vocab_size;
    const health = new Health({ settings: config, vocabulary, firstLoss });
    const evaluation = openEvaluation(training, { metrics, prompts, stop });
    return { training, evaluation, metrics, stop, health, answers };
  } catch (error) {
    folder.discard();
    throw error;
  }
}

/** Ends a run that somebody stopped, whose state is saved. @returns The exit code. */
async function stopped(
  { training: { folder }, metrics, stop }: Run,
  what = "",
): Promise<number> {
  const missing: string[] = [];
  await attempt(missing, () => metrics.end());
  missing.forEach(noteLine);
  noteLine(`${what}Go on with --resume ${folder.path}`);
  return stop.code;
}

/** Trains and writes what comes of it. @returns The exit code. */
async function train(run: Run, before: Before): Promise<number> {
  const { training, training: { folder, progress, setup: { config } }, stop, answers } = run;
  const { evaluation: { history }, metrics } = run;
  stop.answer = TRAINING;
  const { stopped: isStopped, profile } = await trainAll(run);
  if (isStopped) return await stopped(run);
  if (history.exhausted) {
    printLine(`Ended early after step ${progress.step} of ${training.total}: ${history.reason}.`);
  }
  stop.answer = "Writing the results";
  const { trained, problems } = await writeResults(training, stop);
  const after = await lookAfter(run);
  if (after.failure instanceof Stopped && problems.length === 0) {
    // Without a summary the run is not finished: what goes on with it evaluates it.
    return await stopped(run, "The last evaluation was left out. ");
  }
  const { gpu, trainer: { model, skipped } } = training;
  await attempt(
    problems,
    () => writeSummary({ gpu, folder, progress, config, model, skipped, history }),
  );
  if (answers && before.answers && after.answers) {
    printLine(`\n${answers.describe(before.answers, after.answers, before.step)}`);
  }
  report(training, { trained, profile, history });
  await attempt(problems, () => metrics.end());
  if (problems.length > 0) {
    throw new UserError(`not everything could be written: ${problems.join("; ")}`);
  }
  if (after.failure !== undefined) throw after.failure;
  return EXIT.done;
}

export async function main(args: string[]): Promise<number> {
  const found = findRun(args), { given } = found;
  using folder = found.folder;
  if (given.schema) {
    printJson(jsonSchema(), 2);
    return EXIT.done;
  }
  // What a dry run prints is its result.
  using _log = given.dry_run ? undefined : tolerateStdout();
  using stop = new StopRequest(PREPARING);
  using page = await openPage(given);
  try {
    const prepared = await prepare(found, stop);
    if (prepared === undefined) return EXIT.done;
    await using training = prepared.training;
    if (given.dry_run) {
      printLine(`\n${(await dryRunLines(training, () => stop.check())).join("\n")}`);
      return EXIT.done;
    }
    const run = begin(given, prepared, stop);
    using _metrics = run.metrics;
    page?.show(folder.path);
    const before = await lookBefore(run);
    try {
      return await train(run, before);
    } catch (error) {
      await training.saved().catch(() => {}); // the error says more
      throw withLastState(error, folder, run.health.goodUntil);
    }
  } catch (error) {
    if (!(error instanceof Stopped)) throw error;
    noteLine("Stopped before the first step: nothing was written.");
    return stop.code;
  }
}

if (import.meta.main) await runMain(main);
