/**
 * A run from code: a model in training on a GPU, its steps one after the other, and what is written at the end.
 *
 * @module
 */
import { present } from "../kernels/present.ts";
import { lessMemory } from "../cli/less_memory.ts";
import { letEventsIn } from "../kernels/gpu/event_loop.ts";
import type { Gpu } from "../kernels/gpu/gpu.ts";
import type { Memory } from "../kernels/gpu/memory.ts";
import { noteLine } from "../kernels/terminal.ts";
import type { Engine } from "../model/engine/engine.ts";
import { type Compilation, openSession, type Session } from "../model/session.ts";
import type { Llama } from "../model/transformer/llama.ts";
import type { TrainConfig } from "./config/config.ts";
import { countSteps, type PlannedStep, plannedSteps, windowSamples } from "./data.ts";
import { decodingOf, type PromptSet } from "./evaluation/prompt_set.ts";
import { writeTrained } from "./run/output.ts";
import { RunFolder } from "./run/run_folder.ts";
import { learningRate } from "./schedule.ts";
import { identityOf, largestPass, setUpTraining, type TrainingSetup } from "./setup.ts";
import { loadNewest } from "./states/state.ts";
import { beginning, type Progress } from "./states/state_file.ts";
import { StateSaver, type StateUnderWay } from "./states/state_saver.ts";
import { pipelinedSteps, type Step, type StepDone } from "./steps.ts";
import { type StepResult, Trainer } from "./trainer.ts";

/** Steps whose programs are compiled before the first one; those of later ones while earlier steps run. */
const FIRST_STEPS = 16;

/** What a run has on the GPU. */
export interface LoadedTraining {
  model: Llama;
  trainer: Trainer;
  /** What answers prompts between steps. */
  engines: ReadonlyMap<PromptSet, Engine>;
}

/** How a run starts. */
export interface StartOptions {
  /** Prompts that are answered between steps. */
  prompts?: readonly PromptSet[];
  /** Told the bytes of weights that are loaded, and all. */
  progress?: (done: number, total: number) => void;
  /** Called once all is allocated, before anything is loaded. */
  allocated?: (gpu: Gpu, loaded: LoadedTraining) => void;
  /** Told which states are damaged. Default: `noteLine`. */
  say?: (line: string) => void;
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
  /** Where the results go. */
  readonly folder: RunFolder;
  /** Where the run stands. */
  readonly progress: Progress;
  readonly #session: Session<LoadedTraining>;
  readonly #saver: StateSaver;
  /** The state that was begun last, and why it can't be written. */
  #state?: StateUnderWay;
  #failure?: Error;
  #isSaving = false;
  /** Steps that were made ahead, so that their programs could be compiled, by number. */
  readonly #ahead: Map<number, RunStep>;
  /** Whether a loop over the steps has begun and has not been left. */
  #running = false;

  /** @param ahead The first steps after `start`, as far as they were made. */
  constructor(
    setup: TrainingSetup,
    folder: RunFolder,
    session: Session<LoadedTraining>,
    start: Progress,
    ahead: readonly RunStep[],
  ) {
    this.setup = setup;
    this.folder = folder;
    this.progress = { ...start };
    this.#session = session;
    this.#ahead = new Map(ahead.map((step) => [step.step, step]));
    this.#saver = new StateSaver(session.gpu, session.loaded.trainer);
    if (setup.config.save_every > 0) this.#saver.prepare();
    if (folder.existed && start.step > 0) {
      this.#state = { step: start.step, written: Promise.resolve(folder.file("states")) };
    }
  }

  get gpu(): Gpu {
    return this.#session.gpu;
  }

  get trainer(): Trainer {
    return this.#session.loaded.trainer;
  }

  /** What answers prompts that the run was started with. */
  engine(prompts: PromptSet): Engine {
    return present(this.#session.loaded.engines.get(prompts), "an engine for the prompts");
  }

  /** Steps of the whole run. */
  get total(): number {
    return countSteps(this.setup.plan);
  }

  /** What was compiled for the first steps. */
  get compilation(): Compilation {
    return present(this.#session.compilation, "a compilation");
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
        const { step, result, seconds } = done;
        progress.firstLoss ??= result.loss;
        progress.lastLoss = result.loss;
        progress.tokens += result.tokens;
        progress.seconds += seconds;
        progress.step = step.step;
        progress.microBatches += step.window.length;
        yield done;
        // While the next step is under way.
        this.setup.samples.lookAhead?.();
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
   * Writes the state that `resume` goes on with, and then the output folder's `adapter/` or `model/`, in place of one that
   * was written before.
   *
   * @returns The folder of the adapter or model.
   * @throws {UserError} where it can't be written, or the weights are no finite numbers.
   */
  async save(): Promise<string> {
    await this.saveState();
    await this.saved();
    return await this.writeTrained();
  }

  /** Writes the adapter or model alone, as {@linkcode save} does. */
  async writeTrained(): Promise<string> {
    return await writeTrained(this.gpu, this.trainer.model, this.folder.path, this.setup);
  }

  /**
   * Saves the state alone. Steps may go on once this returns: the state was read back then, and is written meanwhile. It
   * waits for the state before it. A state of this step that is there already, or under way, is not saved again.
   *
   * @throws {UserError} where the output folder can't be made, or the weights are no finite numbers.
   */
  async saveState(): Promise<StateUnderWay> {
    const { progress, folder, setup } = this;
    if (this.#state?.step === progress.step && this.#failure === undefined) return this.#state;
    folder.begin();
    const state = await this.#saver.save(structuredClone(progress), identityOf(setup), {
      states: folder.file("states"),
      keep: setup.config.keep_states,
      sync: [folder.file("metrics"), folder.file("evaluations")],
    });
    this.#failure = undefined;
    this.#isSaving = true;
    state.written.catch((error) => this.#failure = error).finally(() => this.#isSaving = false);
    return this.#state = state;
  }

  /** Whether a state is being written. */
  get isSaving(): boolean {
    return this.#isSaving;
  }

  /** Why the state that was begun last can't be written, as far as that is known. */
  get saveFailure(): Error | undefined {
    return this.#failure;
  }

  /** Waits until the state that was begun last is written. @throws {UserError} where it can't be. */
  async saved(): Promise<void> {
    await this.#state?.written;
  }

  /** Waits for the state under way, whether it comes to be or not, and gives GPU and folder back. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#saver[Symbol.asyncDispose]();
    await this.#session[Symbol.asyncDispose]();
    this.setup.samples[Symbol.dispose]?.();
    this.folder[Symbol.dispose]();
  }

  /** The steps after those done. */
  #steps(): Generator<RunStep> {
    return stepsAfter(this.setup, this.progress, this.#ahead);
  }
}

/** The steps of a run after those done; one that was made `ahead` is taken from there. */
function* stepsAfter(
  { config, plan, samples }: TrainingSetup,
  { step: done, microBatches }: Progress,
  ahead = new Map<number, RunStep>(),
): Generator<RunStep> {
  const total = countSteps(plan);
  let firstMicroBatch = microBatches;
  for (const { window, ...place } of plannedSteps(plan, done)) {
    const step = ahead.get(place.step) ?? {
      ...place,
      window: windowSamples(window, samples, plan.samples),
      learningRate: learningRate(config, place.step, total),
      firstMicroBatch,
    };
    ahead.delete(place.step);
    yield step;
    firstMicroBatch += window.length;
  }
}

/**
 * Loads what was set up onto a GPU.
 *
 * @param folder The run's, which the training gives back at its end.
 * @throws {UserError} where there is no GPU, or not the memory, or the state to resume does not fit.
 */
export async function startTraining(
  setup: TrainingSetup,
  folder: RunFolder,
  { prompts = [], progress, allocated, say = noteLine }: StartOptions = {},
): Promise<Training> {
  const { config, source, adapter, objective, planner, states } = setup;
  const { gpu: provider, precision, profile, seed, lora } = config;
  const sizes = largestPass(setup, decodingOf(prompts));
  const planned = setup.resumed?.progress ?? beginning();
  const ahead = [...stepsAfter(setup, planned).take(FIRST_STEPS)];
  const make = (memory: Memory, { maxBinding }: Gpu): LoadedTraining => {
    const { weights } = source;
    const options = { config, sizes, maxBinding, objective, planner, weights };
    const trainer = new Trainer(memory, source.config, options);
    const { model } = trainer;
    const engines = new Map(prompts.map((set) => [set, set.engine(memory, model)]));
    return { model, trainer, engines };
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
    compile: (gpu, { trainer }) =>
      trainer.precompile(gpu, ahead.map(({ window }) => window), letEventsIn),
  });
  try {
    const { gpu, loaded: { trainer } } = session;
    const start = states.length === 0
      ? beginning()
      : loadNewest(gpu, trainer, { states, identity: identityOf(setup), say });
    // Of a state that is damaged, an older one is taken.
    return new Training(setup, folder, session, start, start.step === planned.step ? ahead : []);
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
  const folder = RunFolder.open(config);
  try {
    const say = folder.states.length === 0 ? () => {} : noteLine;
    const setup = await setUpTraining({ config, givenLora: new Set() }, () => {}, folder);
    return await startTraining(setup, folder, { say });
  } catch (error) {
    folder[Symbol.dispose]();
    throw error;
  }
}
