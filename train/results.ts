/**
 * What a run writes at its end. Where nothing of it can be written, hours of training would be lost: it is tried again for
 * some minutes, in which somebody may make room.
 *
 * @module
 */
import { noteLine } from "../kernels/terminal.ts";
import { UserError } from "../kernels/errors.ts";
import { NotFinite } from "../model/transformer/not_finite.ts";
import { Diverged } from "./health.ts";
import type { StopRequest } from "./run/stop_request.ts";
import type { Training } from "./training.ts";

/** Milliseconds between attempts, and in which they are made. */
const BETWEEN = 10_000, LONGEST = 5 * 60_000;
/** Milliseconds between looks at whether somebody asks to stop. */
const LOOK = 100;

/** What came of the writing. */
export interface Results {
  /** The folder of the adapter or model, where it was written. */
  trained?: string;
  /** What could not be written, and why. */
  problems: string[];
}

/**
 * Writes the state, and then the adapter or model: each is tried whatever became of the other.
 *
 * @param times Milliseconds between attempts and in which they are made, where neither can be written.
 * @throws what is no failure of a file.
 */
export async function writeResults(
  training: Pick<Training, "saveState" | "saved" | "writeTrained">,
  stop: Pick<StopRequest, "requested">,
  { between, longest } = { between: BETWEEN, longest: LONGEST },
): Promise<Results> {
  const began = performance.now();
  for (let isFirst = true;; isFirst = false) {
    const problems: string[] = [];
    await attempt(problems, async () => {
      await training.saveState();
      await training.saved();
    });
    const trained = await attempt(problems, () => training.writeTrained());
    const isLast = performance.now() - began + between > longest || stop.requested;
    if (problems.length < 2 || isLast) return { trained, problems };
    if (isFirst) {
      noteLine(
        `${
          problems.join("; ")
        }. All that was trained since the last state would be lost: this is tried again ` +
          `for ${longest / 60_000} minutes, so make room; Ctrl-C gives up.`,
      );
    }
    for (const end = performance.now() + between; performance.now() < end && !stop.requested;) {
      await new Promise((resolve) => setTimeout(resolve, Math.min(LOOK, between)));
    }
  }
}

/** Does what may fail for a file's sake, which is added to the problems. */
export async function attempt<T>(
  problems: string[],
  work: () => T | Promise<T>,
): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    const diverged = error instanceof NotFinite || error instanceof Diverged;
    if (!(error instanceof UserError) || diverged) throw error;
    problems.push(error.message);
  }
}
