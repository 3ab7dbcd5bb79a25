/**
 * The order of a run: which samples are held out, in which order the others come, and what makes up
 * each optimizer step. Everything follows from the configuration and its seed alone, so that a run
 * can be resumed at any step.
 *
 * @module
 */

import { UserError } from "../kernels/errors.ts";
import type { SampleList } from "../model/text/data/sample_list.ts";
import type { SampleGroup, TokenizedSample } from "../model/text/prompt.ts";
import { mixtureOrder, type Source } from "./mixture.ts";
import { ascending, permutation } from "./random_order.ts";

/** Purposes of orders by chance. */
const SHUFFLE = 1, EVALUATION = 2;

/**
 * The order in which an epoch visits samples 0 … count − 1: as they are, or by a Fisher-Yates
 * shuffle whose random numbers are a hash of (seed, epoch, position). A seed gives the same order on
 * every machine.
 *
 * @param epoch Counted from 0.
 */
export function epochOrder(
  count: number,
  epoch: number,
  seed: number,
  shuffle: boolean,
): Uint32Array {
  return shuffle ? permutation(count, seed, { purpose: SHUFFLE, epoch }) : ascending(count);
}

/**
 * Holds out `fraction` of the samples, drawn by the seed: the nearest whole number, but at least one
 * where `fraction` is not 0, and never all. Both parts are ascending.
 */
export function splitEvaluation(
  count: number,
  fraction: number,
  seed: number,
): { train: Uint32Array; evaluation: Uint32Array } {
  if (fraction === 0) return { evaluation: new Uint32Array(), train: ascending(count) };
  const asked = Math.max(1, Math.round(count * fraction));
  const heldOut = Math.max(0, Math.min(asked, count - 1));
  const order = permutation(count, seed, { purpose: EVALUATION, epoch: 0 });
  return { evaluation: order.slice(0, heldOut).sort(), train: order.slice(heldOut).sort() };
}

/** Cuts a list into parts of `size`, from the `from`-th on; the last one holds what is left. */
function* chunks(list: Uint32Array, size: number, from: number): Generator<Uint32Array, void> {
  for (let at = from * size; at < list.length; at += size) yield list.subarray(at, at + size);
}

/**
 * The windows of an epoch: window → micro-batch → sample indexes. The last window, and the last
 * micro-batch in it, may be short.
 *
 * @param from Without so many first windows.
 */
export function* accumulationWindows(
  order: Uint32Array,
  batchSize: number,
  accumulation: number,
  from: number = 0,
): Generator<number[][], void> {
  for (const window of chunks(order, batchSize * accumulation, from)) {
    yield Array.from(chunks(window, batchSize, 0), (microBatch) => [...microBatch]);
  }
}

/** What decides the steps of a run. */
export interface StepPlan {
  /** Indexes of the rows of data to train on. */
  samples: ArrayLike<number>;
  /** The same by file, where an epoch takes of each its share by weight: some several times, some not at all. */
  mixture?: readonly Source[];
  epochs: number;
  /** Stop after so many optimizer steps, even inside an epoch. */
  max_steps?: number;
  batch_size: number;
  gradient_accumulation_steps: number;
  seed: number;
  shuffle: boolean;
}

/** One optimizer step. */
export interface PlannedStep {
  /** Counted from 1. */
  step: number;
  /** The epoch it belongs to, counted from 0. */
  epoch: number;
  /** How much of the epochs is done after it: 1.5 is the middle of the second. */
  progress: number;
  /** Micro-batch → indexes of rows. */
  window: number[][];
}

/** The optimizer steps of an epoch. */
export function stepsInEpoch(plan: StepPlan): number {
  const microBatches = Math.ceil(plan.samples.length / plan.batch_size);
  return Math.ceil(microBatches / plan.gradient_accumulation_steps);
}

/** The samples that an epoch visits, in order. */
export function epochSamples(plan: StepPlan, epoch: number): Uint32Array {
  if (plan.mixture !== undefined) return mixtureOrder(plan.mixture, epoch, plan);
  return epochOrder(plan.samples.length, epoch, plan.seed, plan.shuffle)
    .map((position) => plan.samples[position]);
}

/**
 * The optimizer steps of a run, without the first `done` of them: those that follow are the same as
 * in a run from the start, which is what resuming needs.
 */
export function* plannedSteps(plan: StepPlan, done: number = 0): Generator<PlannedStep> {
  const { batch_size, gradient_accumulation_steps, max_steps = Infinity } = plan;
  // Epochs that are done need not be put in order once more.
  const perEpoch = stepsInEpoch(plan), first = perEpoch === 0 ? 0 : Math.floor(done / perEpoch);
  for (let epoch = first; epoch < plan.epochs; epoch++) {
    if (epoch * perEpoch >= max_steps) return;
    const order = epochSamples(plan, epoch);
    let i = Math.max(0, done - epoch * perEpoch);
    for (const window of accumulationWindows(order, batch_size, gradient_accumulation_steps, i)) {
      const step = epoch * perEpoch + ++i;
      if (step > max_steps) return;
      yield { step, epoch, progress: epoch + i / perEpoch, window };
    }
  }
}

/**
 * The samples of a window of indexes. Where a row of data that is read only now has nothing to learn, the next one that
 * has takes its place.
 *
 * @param among The rows that may, ascending.
 */
export function windowSamples(
  window: readonly (readonly number[])[],
  groups: SampleList,
  among: ArrayLike<number> = [],
): TokenizedSample[][] {
  return window.map((microBatch) =>
    microBatch.flatMap((i) => groups.at(i) ?? nextGroup(i, groups, among))
  );
}

/** The group of the first row after this one that has something to learn; after the last row comes the first. */
function nextGroup(index: number, groups: SampleList, among: ArrayLike<number>): SampleGroup {
  let first = 0;
  for (let end = among.length; first < end;) {
    const middle = (first + end) >> 1;
    if (among[middle] <= index) first = middle + 1;
    else end = middle;
  }
  for (let i = 0; i < among.length; i++) {
    const group = groups.at(among[(first + i) % among.length]);
    if (group !== undefined) return group;
  }
  throw new UserError("no sample of the data has any of its output within max_length");
}

/** Windows in which held-out samples are evaluated: a micro-batch each. */
export function evaluationWindows(
  groups: SampleList,
  batchSize: number,
): { rows: number; window: TokenizedSample[][] }[] {
  const all = [...groups], count = Math.ceil(all.length / batchSize);
  return Array.from({ length: count }, (_, i) => {
    const rows = all.slice(i * batchSize, (i + 1) * batchSize);
    return { rows: rows.length, window: [rows.flat()] };
  });
}

/** The number of optimizer steps of a whole run, for the schedule and the progress bar. */
export function countSteps(plan: StepPlan): number {
  return Math.min(stepsInEpoch(plan) * plan.epochs, plan.max_steps ?? Infinity);
}
