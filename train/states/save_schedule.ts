/**
 * When a run saves its state.
 *
 * @module
 */

/** Milliseconds after which a state that could not be written is tried again. */
const RETRY = 60_000;

/** Every so many steps, later where the run looks bad, and again where a state could not be written. */
export class SaveSchedule {
  #putOff = false;
  #retryAt = Infinity;

  /** @param every Steps between states; 0 for none. */
  constructor(readonly every: number, readonly now: () => number = () => performance.now()) {}

  /** Whether the state after this step is to be saved. */
  isDue(step: number): boolean {
    const regular = this.every > 0 && step % this.every === 0;
    return regular || this.#putOff || this.now() >= this.#retryAt;
  }

  /** Takes note that a state was due: it is so again after the next step where it was put off. */
  wasDue(putOff: boolean): void {
    this.#putOff = putOff;
    if (!putOff) this.#retryAt = Infinity;
  }

  /** Takes note that a state could not be written. */
  failed(): void {
    if (this.#retryAt === Infinity) this.#retryAt = this.now() + RETRY;
  }
}
