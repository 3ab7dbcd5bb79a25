/**
 * The samples of a run: those of its files one after another, what is held out of them, and how an epoch mixes them.
 *
 * @module
 */
import { UserError } from "../kernels/errors.ts";
import { type DatasetOptions, loadDataset } from "../model/text/data/dataset.ts";
import { JoinedSamples, type SampleList, SampleSubset } from "../model/text/data/sample_list.ts";
import { TokenStore } from "../model/text/data/token_store.ts";
import type { SampleGroup } from "../model/text/prompt.ts";
import type { Tokenizer } from "../model/text/tokenizer/tokenizer.ts";
import type { TrainConfig } from "./config/config.ts";
import type { DataEntry } from "./config/data_keys.ts";
import { judgementOf } from "./config/objective_keys.ts";
import { splitEvaluation, type StepPlan } from "./data.ts";
import { sharesOf, type Source } from "./mixture.ts";
import { withPrompt } from "./objective/orpo.ts";
import type { DataSource } from "./states/fingerprints.ts";

/** What a run learns from. */
export interface RunSamples {
  /** Of all files. */
  samples: SampleList;
  /** Each file's, for fingerprints. */
  sources: readonly DataSource[];
  /** Which samples are trained on. */
  train: Pick<StepPlan, "samples" | "mixture">;
  /** Which are held out. */
  heldOut: Uint32Array;
}

/** What loading needs beside the configuration. */
type LoadOptions = Pick<DatasetOptions, "tokenizerPath" | "context" | "say" | "check">;

/** The samples of a data file, as the objective of a run takes them. */
async function loadGroups(
  tokenizer: Tokenizer,
  { objective }: TrainConfig,
  options: Omit<DatasetOptions, "judgement">,
): Promise<SampleList> {
  const groups = await loadDataset(tokenizer, { ...options, judgement: judgementOf(objective) });
  if (objective !== "orpo") return groups;
  const withPrompts = new TokenStore({ spills: true });
  for (const group of groups) withPrompts.add(withPrompt(group));
  return withPrompts;
}

/** Lines on the share that each file has of an epoch. */
function shareLines(files: readonly DataEntry[], sources: readonly Source[]): string[] {
  const total = sources.reduce((sum, { samples }) => sum + samples.length, 0);
  const shares = sharesOf(total, sources.map(({ weight }) => weight));
  return shares.map((share, i) => {
    const passes = share / sources[i].samples.length;
    return `Mixture: ${(100 * share / total).toFixed(1)} % of an epoch from ${files[i].path}: ` +
      `${share} samples, ${passes.toPrecision(3)} times all of it`;
  });
}

/** Which samples of each file are held out, and which are trained on, by their place among all. */
function split(
  sources: readonly DataSource[],
  { eval_fraction, seed }: TrainConfig,
): { train: Uint32Array; evaluation: Uint32Array }[] {
  let start = 0;
  return sources.map(({ samples: { length } }) => {
    const { train, evaluation } = splitEvaluation(length, eval_fraction, seed), first = start;
    start += length;
    if (first === 0) return { train, evaluation };
    const shifted = (indexes: Uint32Array) => indexes.map((i) => first + i);
    return { train: shifted(train), evaluation: shifted(evaluation) };
  });
}

/** Lists of indexes one after another. */
function joinedIndexes(lists: readonly Uint32Array[]): Uint32Array {
  if (lists.length === 1) return lists[0];
  const all = new Uint32Array(lists.reduce((sum, { length }) => sum + length, 0));
  let end = 0;
  for (const list of lists) {
    all.set(list, end);
    end += list.length;
  }
  return all;
}

/** The samples of each file of a run. */
async function loadSources(
  tokenizer: Tokenizer,
  config: TrainConfig,
  { files, ...options }: LoadOptions & { files: readonly DataEntry[] },
): Promise<DataSource[]> {
  const sources: DataSource[] = [];
  try {
    for (const { path, weight, samples, format } of files) {
      const list = await loadGroups(tokenizer, config, {
        ...config,
        ...options,
        data: path,
        samples: samples ?? config.samples,
        data_format: format ?? config.data_format,
        streams: true,
      });
      sources.push({ samples: list, weight });
    }
  } catch (error) {
    for (const { samples } of sources) samples[Symbol.dispose]?.();
    throw error;
  }
  return sources;
}

/**
 * Reads the samples of a run.
 *
 * @throws {UserError} where a file is missing or wrong, or has nothing to learn.
 */
export async function loadRunSamples(
  tokenizer: Tokenizer,
  config: TrainConfig,
  options: LoadOptions,
): Promise<RunSamples> {
  const { data } = config, { say } = options;
  const files = typeof data === "string" ? [{ path: data }] : data;
  const sources = await loadSources(tokenizer, config, { files, ...options });
  const samples = sources.length === 1
    ? sources[0].samples
    : new JoinedSamples(sources.map(({ samples }) => samples));
  const parts = split(sources, config),
    mixture = sources.flatMap(({ weight }, i): Source[] =>
      weight === undefined ? [] : [{ samples: parts[i].train, weight }]
    );
  if (mixture.length > 1) shareLines(files, mixture).forEach((line) => say(line));
  say("");
  const train = joinedIndexes(parts.map(({ train }) => train));
  return {
    samples,
    sources,
    train: { samples: train, mixture: mixture.length > 1 ? mixture : undefined },
    heldOut: joinedIndexes(parts.map(({ evaluation }) => evaluation)),
  };
}

/**
 * The held-out samples of a run: some of its samples, or those of a file of their own.
 *
 * @throws {UserError} where that file is missing or wrong.
 */
export async function loadHeldOut(
  tokenizer: Tokenizer,
  config: TrainConfig,
  { samples, heldOut, ...options }: LoadOptions & Pick<RunSamples, "samples" | "heldOut">,
): Promise<SampleList> {
  const { eval_data: data, eval_fraction, objective } = config, { say } = options;
  if (data !== undefined) {
    const own = { data, called: "Held out", samples: undefined };
    const evaluation = await loadGroups(tokenizer, config, { ...config, ...options, ...own });
    say("");
    return evaluation;
  }
  if (eval_fraction > 0) {
    const word = judgementOf(objective) === "pairs" ? "pairs" : "samples";
    say(`Held out: ${heldOut.length} of ${samples.length} ${word}\n`);
  }
  return new SampleSubset(samples, heldOut);
}

/** The first group of a list. @throws {UserError} where no row has anything to learn. */
export function firstGroup(samples: SampleList): SampleGroup {
  for (const group of samples) return group;
  throw new UserError("no sample of the data has any of its output within max_length");
}
