/**
 * When a run saves its states, and what happens where one can't be written: the run goes on and tries again.
 *
 * @module
 */
import { noteLine } from "../kernels/terminal.ts";
import { UserError } from "../kernels/errors.ts";
import type { TrainConfig } from "./config/config.ts";
import type { Training } from "./training.ts";

/** Milliseconds after which a state that could not be written is tried again. */
const RETRY = 60_000;

/** What is kept, as far as it matters here. */
export type KeptTraining =
  & Pick<Training, "saveState" | "saved" | "saveFailure" | "isSaving">
  & { readonly setup: { readonly config: Pick<TrainConfig, "save_every"> } };

/** Saves a run's state every so many steps, later where the run looks bad, and again where that failed. */
export class StateKeeping {
  #putOff = false;
  /** Why the last state could not be written, and when that is tried again. */
  #failure?: Error;
  #retryAt = Infinity;

  constructor(
    readonly training: KeptTraining,
    readonly now: () => number = () => performance.now(),
  ) {}

  /** Whether the state after this step is to be saved. */
  isDue(step: number): boolean {
    const { save_every } = this.training.setup.config;
    const regular = save_every > 0 && step % save_every === 0;
    return regular || this.#putOff || this.now() >= this.#retryAt;
  }

  /**
   * Saves the state after a step, where it is due; it is written while later steps run.
   *
   * @param doubtful Whether the run looks bad: then the state is put off until it looks better.
   */
  async keep(step: number, doubtful: boolean): Promise<void> {
    if (!this.isDue(step)) return;
    this.#putOff = doubtful;
    if (doubtful) return;
    this.#retryAt = Infinity;
    await this.training.saveState();
  }

  /**
   * Looks at what came of the last state. That it can't be written is said once until it can.
   *
   * @throws what kept it from being written, where that is no failure of a file.
   */
  look(): void {
    const { saveFailure, isSaving } = this.training;
    if (saveFailure === this.#failure || isSaving) return;
    if (saveFailure === undefined) noteLine("\nThe state is written again.");
    else if (!(saveFailure instanceof UserError)) throw saveFailure;
    else {
      this.#retryAt = this.now() + RETRY;
      if (this.#failure === undefined) {
        noteLine(`\n${saveFailure.message}; the run goes on, and tries again in a minute`);
      }
    }
    this.#failure = saveFailure;
  }

  /** Saves the state now and waits for it. @throws {UserError} where it can't be written. */
  async keepNow(): Promise<void> {
    await this.training.saveState();
    await this.training.saved();
  }
}
