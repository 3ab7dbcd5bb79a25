/**
 * What a run comes to.
 *
 * @module
 */
import type { Progress } from "./state.ts";

/** What the steps of this run added up to; those of a run it resumes are not in it. */
export interface Outcome {
  progress: Progress;
  /** Loss of the last step, or null where there was none. */
  lastLoss: number | null;
  /** Tokens trained on, and the seconds that the steps took. */
  tokens: number;
  seconds: number;
  /** Whether the user asked it to stop; its results are then left to a run that resumes it. */
  stopped: boolean;
}
