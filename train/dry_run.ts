/**
 * `lorikeet train --dry-run`: what a run would do and take, from its plan and from a few of its steps, of which nothing is
 * kept.
 *
 * @module
 */
import { clock } from "../cli/progress.ts";
import { megabytes, memoryLines } from "../kernels/gpu/memory.ts";
import { type SampleGroup, tokensOf } from "../model/text/prompt.ts";
import { plannedSteps, type StepPlan, stepsInEpoch } from "./data.ts";
import type { Training } from "./training.ts";

/** Steps that are timed, and seconds after which no further one is begun. The first step warms up. */
const MEASURED_STEPS = 8, MEASURED_SECONDS = 10;

/** Tokens that the steps after the first `done` read, however many epochs there are. */
export function plannedTokens(
  plan: StepPlan,
  groups: readonly SampleGroup[],
  done: number,
): number {
  const lengths = (indexes: ArrayLike<number>) =>
    tokensOf(Array.from(indexes, (i) => groups[i]).flat());
  const ofEpoch = lengths(plan.samples), perEpoch = stepsInEpoch(plan);
  /** Tokens of the first so many steps: of whole epochs without looking at their order, and of a begun one. */
  const upTo = (steps: number) => {
    const epoch = Math.floor(steps / perEpoch);
    let tokens = epoch * ofEpoch;
    if (steps === epoch * perEpoch) return tokens;
    for (const { step, window } of plannedSteps(plan, epoch * perEpoch)) {
      if (step > steps) break;
      tokens += lengths(window.flat());
    }
    return tokens;
  };
  const all = Math.min(perEpoch * plan.epochs, plan.max_steps ?? Infinity);
  return upTo(all) - upTo(Math.min(done, all));
}

/** Tokens a second of a few steps of the run, which change the model in memory alone. */
async function measure(
  training: Training,
  check: () => void,
): Promise<{ steps: number; tokensPerSecond: number }> {
  let steps = 0, tokens = 0, seconds = 0, first: number | undefined;
  for await (const { result, seconds: taken } of training.run()) {
    check();
    if (first === undefined) first = result.tokens / taken;
    else {
      steps++;
      tokens += result.tokens;
      seconds += taken;
    }
    if (steps >= MEASURED_STEPS || seconds >= MEASURED_SECONDS) break;
  }
  return steps > 0
    ? { steps, tokensPerSecond: tokens / seconds }
    : { steps: 1, tokensPerSecond: first ?? NaN };
}

/**
 * What a run would do and take, a line each. Changes the model in memory.
 *
 * @param check Called between steps; what it throws ends the measurement.
 */
export async function dryRunLines(
  training: Training,
  check: () => void = () => {},
): Promise<string[]> {
  const { gpu, setup: { config: { max_length }, plan, samples, evaluation }, progress, total } =
    training;
  const { available } = gpu.memory;
  const left = Math.max(0, total - progress.step);
  const tokens = plannedTokens(plan, samples, progress.step);
  const cut = samples.filter((group) => group.some(({ truncated }) => truncated)).length;
  const heldOut = evaluation.length > 0 ? `, ${evaluation.length} held out` : "";
  const have = available === undefined
    ? "unknown"
    : `${megabytes(available).toFixed(1).padStart(12)} MB`;
  const lines = [
    `Steps: ${left} (${stepsInEpoch(plan)} an epoch)`,
    `Samples: ${plan.samples.length} an epoch${heldOut}, ${cut} cut at ${max_length} tokens`,
    `Tokens: ${tokens}`,
    "Memory by category:",
    ...memoryLines(gpu.memory.peak, gpu.memory.peakTotal),
    `  ${"there is".padEnd(12)}${have}`,
  ];
  if (left === 0) return [...lines, "Nothing is left to do."];
  const { steps, tokensPerSecond } = await measure(training, check);
  const measured = `${Math.round(tokensPerSecond)} tokens/s in ${steps} measured ${
    steps === 1 ? "step" : "steps"
  }`;
  return [
    ...lines,
    `Time: about ${clock(tokens / tokensPerSecond)} without evaluations and saving (${measured})`,
    "Nothing was written.",
  ];
}
