/**
 * A run from code: a model in training on a GPU, its steps one after the other, and what is written at the end.
 *
 * @module
 */
import { join } from "node:path";
import { lessMemory } from "../cli/less_memory.ts";
import type { Gpu } from "../kernels/gpu/gpu.ts";
import type { Memory } from "../kernels/gpu/memory.ts";
import type { Engine } from "../model/engine/engine.ts";
import { openSession, type Session } from "../model/session.ts";
import type { Llama } from "../model/transformer/llama.ts";
import { samplesChecksum } from "./checksums.ts";
import type { TrainConfig } from "./config.ts";
import { countSteps, type PlannedStep, plannedSteps, windowSamples } from "./data.ts";
import { checkOutput, writeTrained } from "./output.ts";
import type { SampleAnswers } from "./sample_answers.ts";
import { learningRate } from "./schedule.ts";
import { largestPass, setUpTraining, type TrainingSetup } from "./setup.ts";
import { loadState, type Progress, saveState } from "./state.ts";
import { pipelinedSteps, type Step, type StepDone } from "./steps.ts";
import { type StepResult, Trainer } from "./trainer.ts";

/** Windows whose programs are compiled before the first step; those of later ones while earlier steps run. */
const FIRST_WINDOWS = 16;

/** What a run has on the GPU. */
export interface LoadedTraining {
  model: Llama;
  trainer: Trainer;
  /** Answers sample prompts, where there are any. */
  engine?: Engine;
}

/** How a run starts. */
export interface StartOptions {
  /** Prompts that are answered between steps. */
  answers?: SampleAnswers;
  /** Told the bytes of weights that are loaded, and all. */
  progress?: (done: number, total: number) => void;
  /** Called once all is allocated, before anything is loaded. */
  allocated?: (gpu: Gpu, loaded: LoadedTraining) => void;
}

/** A step of a run with its place in it. */
export type RunStep = Step & Omit<PlannedStep, "window">;

/** What a caller is told of a step. */
export interface TrainingStep extends StepResult {
  /** Counted from 1; those of a run that this one goes on with are counted. */
  step: number;
  /** How much of the epochs is done: 1.5 is the middle of the second. */
  epoch: number;
  learningRate: number;
  seconds: number;
}

/** A run under way; made by {@linkcode openTraining}. Leaving an `await using` gives the GPU back. */
export class Training implements AsyncDisposable {
  readonly setup: TrainingSetup;
  /** Where the run stands. */
  readonly progress: Progress;
  readonly #session: Session<LoadedTraining>;
  /** Steps whose programs were compiled ahead, by number. */
  readonly #compiled = new Map<number, RunStep>();
  /** Whether a loop over the steps has begun and has not been left. */
  #running = false;

  constructor(setup: TrainingSetup, session: Session<LoadedTraining>, start: Progress) {
    this.setup = setup;
    this.progress = { ...start };
    this.#session = session;
  }

  get gpu(): Gpu {
    return this.#session.gpu;
  }

  get trainer(): Trainer {
    return this.#session.loaded.trainer;
  }

  get engine(): Engine | undefined {
    return this.#session.loaded.engine;
  }

  /** Steps of the whole run. */
  get total(): number {
    return countSteps(this.setup.plan);
  }

  /** Compiles the programs of the next steps. @returns Programs compiled. */
  async compile(): Promise<number> {
    const next: RunStep[] = [];
    for (const step of this.#steps()) {
      next.push(step);
      if (next.length === FIRST_WINDOWS) break;
    }
    for (const step of next) this.#compiled.set(step.step, step);
    return await this.trainer.precompile(this.gpu, next.map(({ window }) => window));
  }

  /**
   * The steps still to be done, as {@linkcode pipelinedSteps} runs them. {@linkcode progress} counts a step when it is told.
   *
   * @param mustWait Whether the GPU must be idle, and the weights those of `step`, before `next` begins.
   * @throws {Error} where another loop over the steps is under way.
   */
  async *run(
    mustWait?: (step: RunStep, next: RunStep) => boolean,
  ): AsyncGenerator<StepDone<RunStep>> {
    const { progress } = this;
    if (this.#running) throw new Error("the run's steps are under way in another loop");
    this.#running = true;
    try {
      for await (const done of pipelinedSteps(this.gpu, this.trainer, this.#steps(), mustWait)) {
        progress.firstLoss ??= done.result.loss;
        progress.step = done.step.step;
        progress.microBatches += done.step.window.length;
        yield done;
      }
    } finally {
      this.#running = false;
    }
  }

  /**
   * Runs the steps still to be done. Between two of them nothing else is under way: the model may be read, saved or
   * left, and steps go on where they were left.
   */
  async *steps(): AsyncGenerator<TrainingStep> {
    for await (const { step, result, seconds } of this.run(() => true)) {
      const { learningRate } = step;
      yield { step: step.step, epoch: step.progress, learningRate, seconds, ...result };
    }
  }

  /**
   * Writes the output folder's `adapter/` or `model/`, and the state that `resume` goes on with.
   *
   * @returns The folder of the adapter or model.
   * @throws {UserError} where it can't be written, or the weights are no finite numbers.
   */
  async save(): Promise<string> {
    const { config } = this.setup;
    const folder = await writeTrained(this.gpu, this.trainer.model, config, this.setup);
    await this.saveState();
    return folder;
  }

  /** Writes the state alone. */
  async saveState(): Promise<void> {
    const folder = join(this.setup.config.output, "state");
    await saveState(this.gpu, this.trainer, folder, this.progress);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#session[Symbol.asyncDispose]();
  }

  /** The steps after those done. */
  *#steps(): Generator<RunStep> {
    const { setup: { config, plan, samples }, total } = this;
    let firstMicroBatch = this.progress.microBatches;
    for (const { window, ...place } of plannedSteps(plan, this.progress.step)) {
      const step = this.#compiled.get(place.step) ?? {
        ...place,
        window: windowSamples(window, samples),
        learningRate: learningRate(config, place.step, total),
        firstMicroBatch,
      };
      this.#compiled.delete(place.step);
      yield step;
      firstMicroBatch += window.length;
    }
  }
}

/**
 * Loads what was set up onto a GPU.
 *
 * @throws {UserError} where there is no GPU, or not the memory, or the state to resume does not fit.
 */
export async function startTraining(
  setup: TrainingSetup,
  { answers, progress, allocated }: StartOptions = {},
): Promise<Training> {
  const { config, source, adapter, planner, samples } = setup;
  const { gpu: provider, precision, profile, seed, lora, resume } = config;
  const sizes = largestPass(setup, answers?.sizes);
  const make = (memory: Memory, { maxBinding }: Gpu): LoadedTraining => {
    const { weights } = source, options = { config, sizes, maxBinding, planner, weights };
    const trainer = new Trainer(memory, source.config, options);
    const { model } = trainer;
    return { model, trainer, engine: answers?.engine(memory, model) };
  };
  const session = await openSession(source, make, {
    gpu: { provider, precision, profile },
    seed,
    adapter: adapter ?? (lora ? { init: lora.init } : undefined),
    progress,
    advice: lessMemory(
      "--checkpointing block, a smaller --batch-size or --max-length, LoRA instead of full fine-tuning",
    ),
    allocated: (gpu, loaded) => {
      gpu.pipelines.print = config.print_wgsl;
      allocated?.(gpu, loaded);
    },
  });
  try {
    const data = samplesChecksum(samples);
    const start: Progress = resume === undefined
      ? { step: 0, microBatches: 0, firstLoss: null, data }
      : loadState(session.gpu, session.loaded.trainer, resume, data);
    return new Training(setup, session, start);
  } catch (error) {
    await session[Symbol.asyncDispose]();
    throw error;
  }
}

/**
 * Opens a run: its model, its samples and a GPU. Where it starts from an adapter, the keys of `lora` are the adapter's.
 *
 * @throws {UserError} where a file is missing or wrong, the output folder is there already, or there is no GPU or not
 *   the memory.
 */
export async function openTraining(config: TrainConfig): Promise<Training> {
  checkOutput(config.output);
  const setup = await setUpTraining({ config, givenLora: new Set() }, () => {});
  const training = await startTraining(setup);
  try {
    await training.compile();
    return training;
  } catch (error) {
    await training[Symbol.asyncDispose]();
    throw error;
  }
}
