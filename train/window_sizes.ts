/**
 * The largest passes of a run's accumulation windows, found in a time that does not grow with the number of epochs: over
 * all windows while they are few, and beyond that as the most that any order of the samples could make.
 *
 * @module
 */
import { type SampleGroup, supervisedTokens, type TokenizedSample } from "../model/text/prompt.ts";
import type { TrainConfig } from "./config/config.ts";
import {
  countSteps,
  epochOrder,
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
  samples: readonly SampleGroup[];
  objective: Pick<Objective, "scoredBeside">;
}

/** Lengths of the rows that are trained on. */
interface Lengths {
  /** Tokens, and targets, of all samples of a row. */
  tokens: Uint32Array;
  targets: Uint32Array;
  /** Samples of a row, and tokens of the longest. */
  samples: Uint32Array;
  longest: Uint32Array;
}

function lengthsOf({ plan, samples }: WindowPlan): Lengths {
  const of = (length: (group: SampleGroup) => number) =>
    Uint32Array.from(plan.samples, (i) => length(samples[i]));
  const sum = (length: (sample: TokenizedSample) => number) =>
    of((group) => group.reduce((total, sample) => total + length(sample), 0));
  return {
    tokens: sum(({ ids }) => ids.length),
    targets: sum(supervisedTokens),
    samples: of(({ length }) => length),
    longest: of((group) => Math.max(...group.map(({ ids }) => ids.length))),
  };
}

/** Whether every epoch has the same micro-batches, up to their order. */
function repeats({ config: { shuffle, batch_size, packing } }: WindowPlan): boolean {
  return !shuffle || (batch_size === 1 && !packing);
}

/** The largest micro-batches of the first so many samples of a run, each of which is a pass. */
function unpackedSizes({ config, plan }: WindowPlan, lengths: Lengths, visits: number): RunSizes {
  const { batch_size, gradient_accumulation_steps: accumulation } = config;
  const count = plan.samples.length, sizes = smallest();
  for (let epoch = 0, left = visits; left > 0; epoch++, left -= count) {
    const order = epochOrder(count, epoch, plan.seed, plan.shuffle);
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
  sizes.maxSamples = largest(lengths.samples, Math.min(count, visits, batch_size * accumulation));
  return sizes;
}

const smallest = () => ({ maxTokens: 1, maxTargets: 1, maxPosition: 1, maxSamples: 1 });

/** The sum of the `count` largest numbers. */
function largest(numbers: Uint32Array, count: number): number {
  return numbers.toSorted().subarray(-count).reduce((sum, number) => sum + number, 0);
}

/** What no order of the samples exceeds. */
function boundedSizes({ config }: WindowPlan, lengths: Lengths): RunSizes {
  const { tokens, targets } = lengths;
  const { batch_size, gradient_accumulation_steps, packing } = config;
  const inWindow = Math.min(tokens.length, batch_size * gradient_accumulation_steps);
  const inBatch = Math.min(tokens.length, batch_size), batchTokens = largest(tokens, inBatch);
  // Micro-batches are joined up to a number of tokens, and none is cut.
  const maxTokens = packing
    ? Math.min(largest(tokens, inWindow), Math.max(MAX_ROW_TOKENS, batchTokens))
    : batchTokens;
  const maxTargets = Math.min(maxTokens, largest(targets, packing ? inWindow : inBatch));
  const maxPosition = largest(lengths.longest, 1), maxSamples = largest(lengths.samples, inWindow);
  return { maxTokens, maxTargets, maxPosition, maxSamples };
}

/**
 * The largest passes of a run's steps. Of up to {@linkcode MOST_UNPACKED} samples over all epochs, and fewer with
 * packing, they are exact; of more, nothing is larger.
 */
export function windowSizes(of: WindowPlan): RunSizes {
  const { planner, config } = of, visits = samplesVisited(of);
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
