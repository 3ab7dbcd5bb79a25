/**
 * The learning rate of each optimizer step.
 *
 * @module
 */

/** How the learning rate moves over a run. */
export interface Schedule {
  schedule: "constant" | "linear" | "cosine";
  /** The highest rate. */
  learning_rate: number;
  warmup_steps: number;
}

/**
 * The rate of step `step` (from 1) of `steps`: rising linearly over the warm-up, then constant,
 * falling linearly towards 0, or along half a cosine.
 */
export function learningRate(
  { schedule, learning_rate, warmup_steps }: Schedule,
  step: number,
  steps: number,
): number {
  const s = step - 1;
  if (s < warmup_steps) return learning_rate * step / warmup_steps;
  if (schedule === "constant") return learning_rate;
  const share = (s - warmup_steps) / Math.max(1, steps - warmup_steps);
  return learning_rate * (schedule === "linear" ? 1 - share : (1 + Math.cos(Math.PI * share)) / 2);
}
