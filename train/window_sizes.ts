/**
 * The largest passes of a run's accumulation windows, found in a time that does not grow with the number of epochs: over
 * all windows while they are few, and beyond that as the most that any order of the samples could make.
 *
 * @module
 */
import type { SampleList } from "../model/text/data/sample_list.ts";
import { supervisedTokens, type TokenizedSample } from "../model/text/prompt.ts";
import type { TrainConfig } from "./config/config.ts";
import {
  countSteps,
  epochSamples,
  plannedSteps,
  type StepPlan,
  stepsInEpoch,
  windowSamples,
} from "./data.ts";
import { MAX_ROW_TOKENS } from "./packing.ts";
import type { Objective } from "./objective/objective.ts";
import type { PassPlanner, RunSizes } from "./planner.ts";

/** Samples, over all epochs, up to which windows are looked at: these numbers take about a second. */
const MOST_PACKED = 300_000, MOST_UNPACKED = 10_000_000;

/** What decides the windows of a run. */
export interface WindowPlan {
  config: Pick<TrainConfig, "shuffle" | "batch_size" | "gradient_accumulation_steps" | "packing">;
  plan: StepPlan;
  planner: PassPlanner;
  /** The samples of each row of data. */
  samples: SampleList;
  objective: Pick<Objective, "scoredBeside">;
}

/** Lengths of rows by index; 0 of those that are not trained on. */
interface Lengths {
  /** Tokens, and targets, of all samples of a row. */
  tokens: Uint32Array;
  targets: Uint32Array;
  /** Samples of a row, and tokens of the longest. */
  samples: Uint32Array;
  longest: Uint32Array;
}

function lengthsOf({ plan, samples }: WindowPlan): Lengths {
  const numbers = () => new Uint32Array(samples.length);
  const lengths = { tokens: numbers(), targets: numbers(), samples: numbers(), longest: numbers() };
  for (let at = 0; at < plan.samples.length; at++) {
    const i = plan.samples[at], group = samples.at(i) ?? [];
    const sum = (length: (sample: TokenizedSample) => number) =>
      group.reduce((total, sample) => total + length(sample), 0);
    lengths.tokens[i] = sum(({ ids }) => ids.length);
    lengths.targets[i] = sum(supervisedTokens);
    lengths.samples[i] = group.length;
    lengths.longest[i] = Math.max(...group.map(({ ids }) => ids.length));
  }
  return lengths;
}

/** Whether every epoch has the same micro-batches, up to their order. */
function repeats({ config: { shuffle, batch_size, packing }, plan }: WindowPlan): boolean {
  if (plan.mixture !== undefined) return false;
  return !shuffle || (batch_size === 1 && !packing);
}

/** The largest micro-batches of the first so many samples of a run, each of which is a pass. */
function unpackedSizes({ config, plan }: WindowPlan, lengths: Lengths, visits: number): RunSizes {
  const { batch_size, gradient_accumulation_steps: accumulation } = config;
  const count = plan.samples.length, sizes = smallest();
  for (let epoch = 0, left = visits; left > 0; epoch++, left -= count) {
    const order = epochSamples(plan, epoch);
    const end = Math.min(count, left);
    for (let first = 0; first < end; first += batch_size) {
      let tokens = 0, targets = 0;
      for (let at = first; at < Math.min(end, first + batch_size); at++) {
        const row = order[at];
        tokens += lengths.tokens[row];
        targets += lengths.targets[row];
        sizes.maxPosition = Math.max(sizes.maxPosition, lengths.longest[row]);
      }
      sizes.maxTokens = Math.max(sizes.maxTokens, tokens);
      sizes.maxTargets = Math.max(sizes.maxTargets, targets);
    }
  }
  const inWindow = Math.min(count, visits, batch_size * accumulation);
  sizes.maxSamples = largest(lengths.samples, inWindow, plan);
  return sizes;
}

const smallest = () => ({ maxTokens: 1, maxTargets: 1, maxPosition: 1, maxSamples: 1 });

/** The sum of the `count` largest numbers of rows; in a mixture, a window may have the same row several times. */
function largest(numbers: Uint32Array, count: number, { samples, mixture }: StepPlan): number {
  const sorted = Uint32Array.from(samples, (i) => numbers[i]).sort();
  if (mixture !== undefined) return count * sorted[sorted.length - 1];
  return sorted.subarray(-count).reduce((sum, number) => sum + number, 0);
}

/** What no order of the samples exceeds. */
function boundedSizes({ config, plan }: WindowPlan, lengths: Lengths): RunSizes {
  const { tokens, targets } = lengths, { packing } = config;
  const { inBatch, inWindow } = most(config, plan);
  const batchTokens = largest(tokens, inBatch, plan);
  // Micro-batches are joined up to a number of tokens, and none is cut.
  const maxTokens = packing
    ? Math.min(largest(tokens, inWindow, plan), Math.max(MAX_ROW_TOKENS, batchTokens))
    : batchTokens;
  const maxTargets = Math.min(maxTokens, largest(targets, packing ? inWindow : inBatch, plan));
  const maxPosition = largest(lengths.longest, 1, plan);
  return {
    maxTokens,
    maxTargets,
    maxPosition,
    maxSamples: largest(lengths.samples, inWindow, plan),
  };
}

/** Rows of a micro-batch and of a window at most. */
function most({ batch_size, gradient_accumulation_steps }: WindowPlan["config"], plan: StepPlan) {
  const count = plan.samples.length;
  return {
    inBatch: Math.min(count, batch_size),
    inWindow: Math.min(count, batch_size * gradient_accumulation_steps),
  };
}

/** What no samples exceed of which none has more tokens. */
function sizesWithin(mostTokens: number, { config, plan }: WindowPlan): RunSizes {
  const { inBatch, inWindow } = most(config, plan), batchTokens = inBatch * mostTokens;
  const maxTokens = config.packing
    ? Math.min(inWindow * mostTokens, Math.max(MAX_ROW_TOKENS, batchTokens))
    : batchTokens;
  return { maxTokens, maxTargets: maxTokens, maxPosition: mostTokens, maxSamples: inWindow };
}

/**
 * The largest passes of a run's steps. Of up to {@linkcode MOST_UNPACKED} samples over all epochs, and fewer with
 * packing, they are exact; of more, and of samples that are not tokenised yet, nothing is larger.
 */
export function windowSizes(of: WindowPlan): RunSizes {
  const { planner, config, samples: { mostTokens } } = of, visits = samplesVisited(of);
  if (mostTokens !== undefined) return sizesWithin(mostTokens, of);
  if (visits > (config.packing ? MOST_PACKED : MOST_UNPACKED)) {
    return boundedSizes(of, lengthsOf(of));
  }
  if (!config.packing) return unpackedSizes(of, lengthsOf(of), visits);
  return planner.sizes(windows(of));
}

/** The steps that show all windows: where batches are the same in every epoch, one epoch shows them. */
function shown(of: WindowPlan): StepPlan {
  return repeats(of) ? { ...of.plan, epochs: 1 } : of.plan;
}

/** How often these steps visit a sample. */
function samplesVisited(of: WindowPlan): number {
  const plan = shown(of), count = plan.samples.length, perEpoch = stepsInEpoch(plan);
  const steps = countSteps(plan), epochs = Math.floor(steps / perEpoch);
  const inStep = plan.batch_size * plan.gradient_accumulation_steps;
  return epochs * count + Math.min(count, (steps - epochs * perEpoch) * inStep);
}

/** The windows of these steps, and what is scored beside them. */
function* windows(of: WindowPlan) {
  for (const { window: indexes } of plannedSteps(shown(of))) {
    const window = windowSamples(indexes, of.samples);
    yield window;
    const beside = of.objective.scoredBeside?.(window);
    if (beside !== undefined) yield beside;
  }
}
