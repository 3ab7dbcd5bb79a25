/**
 * What a run is made of before a GPU is opened: the model's files, its samples, and the order of its steps.
 *
 * @module
 */
import { join } from "node:path";
import { UserError } from "../kernels/errors.ts";
import type { StyledText } from "../kernels/terminal.ts";
import { quantizedTypes } from "../model/formats/weights.ts";
import type { Decoding } from "../model/transformer/modes.ts";
import { refuseOtherBase } from "../model/adapter/base_copies.ts";
import {
  type ModelSource,
  type ModelWithTokenizer,
  openModelWithTokenizer,
} from "../model/checkpoint/source.ts";
import { contextLength } from "../model/families/config.ts";
import { type Adapter, checkAdapter, readAdapter } from "../model/adapter/adapter_folder.ts";
import { type AdapterConfig, parseAdapterConfig } from "../model/adapter/adapter_config.ts";
import { isObject } from "../model/files/json_file.ts";
import { eachSample, type SampleList } from "../model/text/data/sample_list.ts";
import { describeSample } from "../model/text/prompt.ts";
import { promptLengthOf } from "../model/text/targets.ts";
import { asksDate } from "../model/text/templates/template_names.ts";
import { settingsFrom } from "./config/adapter_settings.ts";
import type { TrainArguments, TrainConfig } from "./config/config.ts";
import { countSteps, evaluationWindows, type StepPlan } from "./data.ts";
import { objectiveOf } from "./config/configured_objective.ts";
import type { Objective } from "./objective/objective.ts";
import { type Fingerprints, fingerprints, keepWhole } from "./states/fingerprints.ts";
import { type AccumulationWindow, PassPlanner, type RunSizes } from "./planner.ts";
import { checkIdentity, type RunIdentity, weightsNote } from "./states/resume_rules.ts";
import { type SavedState, STATE_JSON } from "./states/saved_states.ts";
import { newestState } from "./states/state.ts";
import type { StoredState } from "./states/state_file.ts";
import { firstGroup, loadHeldOut, loadRunSamples } from "./run_samples.ts";
import { windowSizes } from "./window_sizes.ts";

/** A run that was found to be possible, as far as files say. */
export interface TrainingSetup extends ModelWithTokenizer {
  /** The configuration, with the keys of `lora` that an adapter to start from decides. */
  config: TrainConfig;
  /** The adapter to start from. */
  adapter?: Adapter;
  /** What is minimised. */
  objective: Objective;
  /** The samples of each row of data. */
  samples: SampleList;
  /** Held-out ones: some of those above, or those of a file of their own. */
  evaluation: SampleList;
  plan: StepPlan;
  planner: PassPlanner;
  /** Contents of the model, the data and so on, by which a state knows its run again. */
  fingerprints: Fingerprints;
  /** The states that the run goes on from, the newest whole one first, and what that one says; none where it begins. */
  states: readonly SavedState[];
  resumed?: StoredState;
}

/** What decides a run, by which a state knows it again. */
export function identityOf({ config, plan, fingerprints }: TrainingSetup): RunIdentity {
  return { config, total: countSteps(plan), fingerprints };
}

/** PEFT's configuration of the adapter that the run of a state began from; undefined for none. */
function adapterOf(
  { path, identity: { config: { lora } } }: StoredState,
): AdapterConfig | undefined {
  if (!isObject(lora) || lora.adapter === undefined) return undefined;
  return parseAdapterConfig(lora.adapter, path);
}

/**
 * The adapter to start from, where the configuration names one, and the keys of `lora`: those that were not given
 * are the adapter's, also those of the adapter that a run to be resumed started from.
 *
 * @throws {UserError} where the adapter does not fit.
 */
async function startAdapter(
  { config, givenLora: given }: TrainArguments,
  source: ModelSource,
  resumed: StoredState | undefined,
): Promise<{ lora: TrainConfig["lora"]; adapter?: Adapter }> {
  const { adapter: folder } = config, model = source.config;
  let { lora } = config;
  if (!lora) return { lora };
  const before = resumed && adapterOf(resumed);
  if (resumed !== undefined && before !== undefined) {
    lora = settingsFrom(lora, before, { given, model, what: resumed.path });
  }
  if (folder === undefined) return { lora };
  const adapter = readAdapter(folder);
  const plan = checkAdapter(adapter, model, folder);
  await refuseOtherBase(adapter, plan, { weights: source.weights, folder });
  return { lora: settingsFrom(lora, adapter.config, { given, model, what: folder }), adapter };
}

/** The day that a run's template is told, if it asks: that on which the run began, unless the configuration says another. */
function templateDate(
  { config: { template, template_date } }: TrainArguments,
  { tokenizerPath }: ModelWithTokenizer,
  resumed: StoredState | undefined,
): string | undefined {
  if (template_date !== undefined || !asksDate(template, tokenizerPath)) return template_date;
  const before = resumed?.identity.config.template_date;
  if (typeof before === "string") return before;
  const now = new Date(), two = (number: number) => String(number).padStart(2, "0");
  return `${now.getFullYear()}-${two(now.getMonth() + 1)}-${two(now.getDate())}`;
}

/** Refuses a model whose files hold codes where the weights themselves are to be trained. */
function refuseQuantized({ name, weights }: ModelSource): void {
  const [first] = quantizedTypes(weights);
  if (first === undefined) return;
  throw new UserError(
    `model "${name}" is quantised (${first[1]} weights in ${first[0]}) but lora is off, ` +
      "which trains the weights themselves; expected lora on, or the model that `lorikeet convert` makes of it",
  );
}

/**
 * Finds the model, its adapter and the samples of a run.
 *
 * @param say Told what was found, for people.
 * @param options.states The states to go on from, the newest first, and what the first whole one says, if it was read.
 * @param options.check Called now and then; what it throws ends the search.
 * @throws {UserError} where a file is missing or wrong, or does not fit another, or the states are those of another run.
 */
export async function setUpTraining(
  given: TrainArguments,
  say: (line: string | StyledText) => void,
  { states = [], newest, check }: {
    states?: readonly SavedState[];
    newest?: StoredState;
    check?: () => void;
  } = {},
): Promise<TrainingSetup> {
  const resumed = newest ?? (states.length === 0 ? undefined : newestState(states, say));
  const found = await openModelWithTokenizer(given.config), { source, tokenizer } = found;
  if (!given.config.lora) refuseQuantized(source);
  const { lora, adapter } = await startAdapter(given, source, resumed);
  const config = { ...given.config, lora, template_date: templateDate(given, found, resumed) };
  say(`Model: ${config.model}, ${source.config.num_hidden_layers} blocks`);
  const context = contextLength(source.config);
  const reading = { tokenizerPath: found.tokenizerPath, context, say };
  const loaded = await loadRunSamples(tokenizer, config, { ...reading, check });
  const { samples, heldOut } = loaded;
  for (const sample of firstGroup(samples).filter(({ part }) => part !== "prompt")) {
    say(describeSample(tokenizer, sample, Deno.stdout.isTerminal()));
    say("");
  }
  const evaluation = await loadHeldOut(tokenizer, config, { ...reading, samples, heldOut });
  const plan: StepPlan = { ...config, ...loaded.train };
  const planner = PassPlanner.of(config, source.config), objective = objectiveOf(config, context);
  const prints = await fingerprints({
    ...found,
    adapter,
    data: loaded.sources,
    evalData: config.eval_data === undefined ? undefined : evaluation,
    allBytes: config.verify_weights,
  });
  const setup: TrainingSetup = {
    ...found,
    config,
    adapter,
    objective,
    samples,
    evaluation,
    plan,
    planner,
    fingerprints: prints,
    // The damaged ones above it have been told.
    states: states.slice(
      Math.max(0, states.findIndex(({ path }) => join(path, STATE_JSON) === resumed?.path)),
    ),
    resumed,
  };
  if (resumed !== undefined) {
    checkIdentity(resumed.identity, identityOf(setup), resumed.path);
    const line = weightsNote(resumed.identity.fingerprints, prints);
    if (line !== undefined) say(line);
    return { ...setup, fingerprints: keepWhole(prints, resumed.identity.fingerprints) };
  }
  return setup;
}

/** Windows that an evaluation runs, and what is scored beside them. */
function* evaluated(
  { evaluation, objective, config: { batch_size } }: TrainingSetup,
): Generator<AccumulationWindow> {
  if (objective.scoredWith.length === 0) {
    for (const group of evaluation) yield [group];
    return;
  }
  for (const { window } of evaluationWindows(evaluation, batch_size)) {
    yield window;
    const beside = objective.scoredBeside?.(window);
    if (beside !== undefined) yield beside;
  }
}

/** The largest passes of an evaluation. */
function evaluatedSizes(setup: TrainingSetup): RunSizes {
  const { evaluation: { mostTokens, length }, objective, planner } = setup;
  if (mostTokens !== undefined && length > 0) {
    return { maxTokens: mostTokens, maxTargets: mostTokens, maxPosition: mostTokens };
  }
  const alone = objective.scoredWith.length === 0;
  return (alone ? new PassPlanner() : planner).sizes(evaluated(setup));
}

/** The most tokens of a prompt with the answer to another one, where such are scored. */
function longestBeside({ objective, samples, evaluation, config, source }: TrainingSetup): number {
  if (objective.scoredBeside === null) return 0;
  let prompt = 0, answer = 0;
  for (const list of [samples, evaluation]) {
    for (const sample of eachSample(list)) {
      const length = promptLengthOf(sample);
      prompt = Math.max(prompt, length);
      answer = Math.max(answer, sample.ids.length - length);
    }
  }
  return Math.min(prompt + answer, config.max_length, contextLength(source.config));
}

/**
 * The largest pass of the run, its evaluation and its decoding included.
 *
 * @param decoded What is decoded between steps, where anything is.
 */
export function largestPass(
  setup: TrainingSetup,
  decoded?: Decoding,
): RunSizes {
  const { config, plan, objective } = setup;
  const sizes = windowSizes(setup);
  const microBatches = Math.ceil(plan.samples.length / config.batch_size);
  const alone = objective.scoredWith.length === 0;
  const also = evaluatedSizes(setup);
  return {
    maxTokens: Math.max(sizes.maxTokens, also.maxTokens),
    maxTargets: Math.max(sizes.maxTargets, also.maxTargets, decoded?.sequences ?? 0),
    maxPosition: Math.max(
      sizes.maxPosition,
      also.maxPosition,
      longestBeside(setup),
      decoded?.context ?? 0,
    ),
    decoding: decoded,
    maxMicroBatches: Math.min(microBatches, config.gradient_accumulation_steps),
    maxSamples: alone ? sizes.maxSamples : Math.max(sizes.maxSamples ?? 0, also.maxSamples ?? 0),
  };
}
