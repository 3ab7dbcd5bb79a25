/**
 * `lorikeet train --dry-run`: what a run would do and take, from its plan and from a few of its steps, of which nothing is
 * kept.
 *
 * @module
 */
import { clock } from "../cli/progress.ts";
import { megabytes, memoryLines } from "../kernels/gpu/memory.ts";
import type { SampleList } from "../model/text/data/sample_list.ts";
import { tokensOf } from "../model/text/prompt.ts";
import { plannedSteps, type StepPlan, stepsInEpoch } from "./data.ts";
import type { Training } from "./training.ts";

/** Steps that are timed, and seconds after which no further one is begun. The first step warms up. */
const MEASURED_STEPS = 8, MEASURED_SECONDS = 10;

/**
 * Tokens that the steps after the first `done` read, however many epochs there are; undefined where samples are not
 * tokenised yet, or epochs have other samples each.
 */
export function plannedTokens(
  plan: StepPlan,
  groups: SampleList,
  done: number,
): number | undefined {
  if (groups.mostTokens !== undefined || plan.mixture !== undefined) return undefined;
  const lengths = (indexes: ArrayLike<number>) =>
    Array.from(indexes, (i) => tokensOf(groups.at(i) ?? []))
      .reduce((sum, length) => sum + length, 0);
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

/** Tokens of a few steps of the run, and tokens a second; they change the model in memory alone. */
async function measure(
  training: Training,
  check: () => void,
): Promise<{ steps: number; tokensPerStep: number; tokensPerSecond: number }> {
  let steps = 0, tokens = 0, seconds = 0, first: { tokens: number; seconds: number } | undefined;
  for await (const { result, seconds: taken } of training.run()) {
    check();
    if (first === undefined) first = { tokens: result.tokens, seconds: taken };
    else {
      steps++;
      tokens += result.tokens;
      seconds += taken;
    }
    if (steps >= MEASURED_STEPS || seconds >= MEASURED_SECONDS) break;
  }
  if (steps > 0) return { steps, tokensPerStep: tokens / steps, tokensPerSecond: tokens / seconds };
  const one = first ?? { tokens: NaN, seconds: NaN };
  return { steps: 1, tokensPerStep: one.tokens, tokensPerSecond: one.tokens / one.seconds };
}

/** How many groups have a sample that was cut. */
function countCut(samples: SampleList): number {
  let cut = 0;
  for (const group of samples) if (group.some(({ truncated }) => truncated)) cut++;
  return cut;
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
  const cut = samples.mostTokens === undefined
    ? `, ${countCut(samples)} cut at ${max_length} tokens`
    : "";
  const heldOut = evaluation.length > 0 ? `, ${evaluation.length} held out` : "";
  const have = available === undefined
    ? "unknown"
    : `${megabytes(available).toFixed(1).padStart(12)} MB`;
  const lines = [
    `Steps: ${left} (${stepsInEpoch(plan)} an epoch)`,
    `Samples: ${plan.samples.length} an epoch${heldOut}${cut}`,
    ...(tokens === undefined ? [] : [`Tokens: ${tokens}`]),
    "Memory by category:",
    ...memoryLines(gpu.memory.peak, gpu.memory.peakTotal),
    `  ${"there is".padEnd(12)}${have}`,
  ];
  if (left === 0) return [...lines, "Nothing is left to do."];
  const { steps, tokensPerStep, tokensPerSecond } = await measure(training, check);
  const all = tokens ?? Math.round(left * tokensPerStep);
  const measured = `${Math.round(tokensPerSecond)} tokens/s in ${steps} measured ${
    steps === 1 ? "step" : "steps"
  }`;
  return [
    ...lines,
    ...(tokens === undefined ? [`Tokens: about ${all}`] : []),
    `Time: about ${clock(all / tokensPerSecond)} without evaluations and saving (${measured})`,
    "Nothing was written.",
  ];
}
