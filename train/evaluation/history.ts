/**
 * What the evaluations of a run have come to: the best of them, and whether there is still any progress.
 *
 * @module
 */
import type { FigureName } from "../objective/objective.ts";
import { isObject } from "../../model/files/json_file.ts";

/** What an evaluation found, in numbers; with an objective of preferences, its figures are some of them. */
export interface EvaluationRecord extends Partial<Record<FigureName, number | null>> {
  /** Steps done. */
  step: number;
  /** How much of the epochs is done: 1.5 is the middle of the second. */
  epoch: number;
  /** Mean negative log-likelihood of a supervised token, in nats; with an objective of preferences, its own. */
  loss: number;
  /** exp(loss); null where it is no loss of a token, and where JSON can't hold it. */
  perplexity: number | null;
  /** Supervised tokens of the held-out samples. */
  tokens: number;
  seconds: number;
}

/** What an evaluation found. */
export interface EvaluationResult extends EvaluationRecord {
  /** What the model answered. */
  samples: readonly SampleAnswer[];
}

/** An evaluation's numbers. */
export function recordOf({ samples: _, ...record }: EvaluationResult): EvaluationRecord {
  return record;
}

/** Whether a value from JSON is the record of an evaluation. Perplexities can be beyond JSON's numbers. */
export function isEvaluationRecord(value: unknown): value is EvaluationRecord {
  if (!isObject(value) || !Number.isSafeInteger(value.step)) return false;
  const { perplexity, ...numbers } = value;
  return (perplexity === null || typeof perplexity === "number") &&
    ["epoch", "loss", "tokens", "seconds"].every((key) => typeof numbers[key] === "number");
}

/** An answer of the model in training. */
export interface SampleAnswer {
  prompt: string;
  answer: string;
  /** What the data have as the answer; absent for prompts of the configuration. */
  expected?: string;
}

/** When a run is to end before its last step. */
export interface EarlyStopping {
  /** Evaluations in a row without a lower loss; 0 is never. */
  early_stopping: number;
  /** How much lower it must be. */
  early_stopping_min_delta: number;
}

/** Evaluations of a run in order, those of a run that it goes on with included. */
export class EvaluationHistory {
  readonly #all = new Map<number, EvaluationRecord>();
  #best?: EvaluationRecord;
  /** The loss that counts as the lowest so far for early stopping, and evaluations since. */
  #lowest = Infinity;
  #since = 0;

  /** @param past Those made before. */
  constructor(readonly settings: EarlyStopping, past: readonly EvaluationRecord[] = []) {
    for (const record of past) this.add(record);
  }

  /** Takes the next one. @returns Whether its weights are the best so far; those that nothing trained are never. */
  add(result: EvaluationRecord): boolean {
    this.#all.set(result.step, result);
    if (result.loss < this.#lowest - this.settings.early_stopping_min_delta) {
      this.#lowest = result.loss;
      this.#since = 0;
    } else this.#since++;
    const isBest = result.step > 0 && result.loss < (this.#best?.loss ?? Infinity);
    if (isBest) this.#best = result;
    return isBest;
  }

  /** Held-out losses, in order. */
  get losses(): number[] {
    return Array.from(this.#all.values(), ({ loss }) => loss);
  }

  /** The evaluation after `step`, where it was made. */
  after(step: number): EvaluationRecord | undefined {
    return this.#all.get(step);
  }

  get isEmpty(): boolean {
    return this.#all.size === 0;
  }

  /** The evaluation with the lowest loss, of those after a step; the earliest of equals. */
  get best(): EvaluationRecord | undefined {
    return this.#best;
  }

  /** Whether there were as many evaluations in a row without a lower loss as the run is to end after. */
  get exhausted(): boolean {
    const { early_stopping } = this.settings;
    return early_stopping > 0 && this.#since >= early_stopping;
  }

  /** Why the run has ended, for people. */
  get reason(): string {
    const { early_stopping: patience, early_stopping_min_delta: delta } = this.settings;
    const times = patience === 1 ? "the last evaluation" : `${patience} evaluations in a row`;
    const by = delta === 0 ? "" : ` by more than ${delta}`;
    return `the held-out loss did not fall${by} in ${times}`;
  }
}
