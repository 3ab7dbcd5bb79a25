/**
 * The order of a run: which samples are held out, in which order the others come, and what makes up
 * each optimizer step. Everything follows from the configuration and its seed alone, so that a run
 * can be resumed at any step.
 *
 * @module
 */

import type { SampleGroup, TokenizedSample } from "../model/text/prompt.ts";

/** Purposes that random numbers are drawn for, so that they don't repeat one another. */
const SHUFFLE = 1, EVALUATION = 2;

/** The finaliser of MurmurHash3: every bit of the result depends on every bit of `x`. */
function mix(x: number): number {
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}

/** A state and one more coordinate as a state. */
function mixIn(state: number, coordinate: number): number {
  return mix(state ^ mix(coordinate + 0x9e3779b9));
}

/** 0 … count − 1. */
function ascending(count: number): Uint32Array {
  const order = new Uint32Array(count);
  for (let i = 0; i < count; i++) order[i] = i;
  return order;
}

/**
 * A Fisher-Yates shuffle of 0 … count − 1. Its 32-bit random numbers are functions of four coordinates, the last of
 * which is the position (a counter-based generator).
 */
function permutation(count: number, seed: number, purpose: number, epoch: number): Uint32Array {
  const order = ascending(count);
  const state = mixIn(mixIn(mix(seed + 0x9e3779b9), purpose), epoch);
  for (let i = count - 1; i > 0; i--) {
    const j = Math.floor(mixIn(state, i) / 2 ** 32 * (i + 1)), swapped = order[i];
    order[i] = order[j];
    order[j] = swapped;
  }
  return order;
}

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
  return shuffle ? permutation(count, seed, SHUFFLE, epoch) : ascending(count);
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
  const asked = fraction > 0 ? Math.max(1, Math.round(count * fraction)) : 0;
  const heldOut = Math.max(0, Math.min(asked, count - 1));
  const order = permutation(count, seed, EVALUATION, 0);
  return { evaluation: order.slice(0, heldOut).sort(), train: order.slice(heldOut).sort() };
}

/** Cuts a list into parts of `size`; the last one holds what is left. */
function chunks<T>(list: ArrayLike<T>, size: number): T[][] {
  const parts: T[][] = [];
  for (let i = 0; i < list.length; i += size) {
    parts.push(Array.prototype.slice.call(list, i, i + size));
  }
  return parts;
}

/**
 * The windows of an epoch: window → micro-batch → sample indexes. The last window, and the last
 * micro-batch in it, may be short.
 */
export function accumulationWindows(
  order: ArrayLike<number>,
  batchSize: number,
  accumulation: number,
): number[][][] {
  return chunks(chunks(order, batchSize), accumulation);
}

/** What decides the steps of a run. */
export interface StepPlan {
  /** Indexes of the rows of data to train on. */
  samples: ArrayLike<number>;
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

function epochWindows(plan: StepPlan, epoch: number): number[][][] {
  const positions = epochOrder(plan.samples.length, epoch, plan.seed, plan.shuffle);
  const order = Array.from(positions, (position) => plan.samples[position]);
  return accumulationWindows(order, plan.batch_size, plan.gradient_accumulation_steps);
}

/**
 * The optimizer steps of a run, without the first `done` of them: those that follow are the same as
 * in a run from the start, which is what resuming needs.
 */
export function* plannedSteps(plan: StepPlan, done: number = 0): Generator<PlannedStep> {
  // Epochs that are done need not be put in order once more.
  const perEpoch = stepsInEpoch(plan), first = perEpoch === 0 ? 0 : Math.floor(done / perEpoch);
  let step = first * perEpoch;
  for (let epoch = first; epoch < plan.epochs; epoch++) {
    const windows = epochWindows(plan, epoch);
    for (const [i, window] of windows.entries()) {
      if (step >= (plan.max_steps ?? Infinity)) return;
      step++;
      if (step > done) yield { step, epoch, progress: epoch + (i + 1) / windows.length, window };
    }
  }
}

/** The samples of a window of indexes. */
export function windowSamples(
  window: readonly (readonly number[])[],
  groups: readonly SampleGroup[],
): TokenizedSample[][] {
  return window.map((microBatch) => microBatch.flatMap((i) => groups[i]));
}

/** Windows in which held-out samples are evaluated: a micro-batch each. */
export function evaluationWindows(
  groups: readonly SampleGroup[],
  batchSize: number,
): { rows: number; window: TokenizedSample[][] }[] {
  return chunks(groups, batchSize).map((rows) => ({ rows: rows.length, window: [rows.flat()] }));
}

/** The number of optimizer steps of a whole run, for the schedule and the progress bar. */
export function countSteps(plan: StepPlan): number {
  return Math.min(stepsInEpoch(plan) * plan.epochs, plan.max_steps ?? Infinity);
}
