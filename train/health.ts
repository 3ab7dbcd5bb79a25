/**
 * Whether a run still gets anywhere: a loss that is no number or far beyond guessing, steps that are skipped however
 * small the loss scale, and steps without a gradient.
 *
 * @module
 */
import { EXIT, ExitError } from "../cli/exit_codes.ts";
import type { Gpu } from "../kernels/gpu/gpu.ts";
import { notFiniteNames } from "../model/checkpoint/finite_weights.ts";
import type { Llama } from "../model/transformer/llama.ts";
import { numericsOf } from "../model/transformer/modes.ts";
import { NotFinite } from "../model/transformer/not_finite.ts";
import type { TrainConfig } from "./config/config.ts";
import type { StepResult } from "./trainer.ts";

/** The loss scale that is never halved (kernels/ops/optimizer/loss_scale.ts); that of precision fp32. */
const LEAST_SCALE = 1;
/** Steps skipped in a row at that scale, after which the run is given up: one may be the fault of its samples. */
const MOST_SKIPPED = 5;
/**
 * A loss beyond this many times that of guessing, or that of the first step where it was higher, is one of a model that
 * training has ruined: a model that gives every token of a vocabulary V the same chance has ln V.
 */
const BEYOND_GUESSING = 1.5;
/** Steps in a row with such a loss, after which the run is given up; at its end, the last ones that count. */
const MOST_BEYOND = 5, LAST_BEYOND = 2;
/** First steps of a run whose gradients are all exactly zero, after which it is given up. */
const MOST_ZERO = 20;

/** A run that is given up. Its last good state is kept. */
export class Diverged extends ExitError {
  override name = "Diverged";

  constructor(message: string) {
    super(message, EXIT.diverged);
  }
}

type Settings = Pick<TrainConfig, "precision" | "exact_products" | "lora">;

const LOWER_RATE = "the run diverged: try a lower --learning-rate or --max-grad-norm 1";

/**
 * Looks at what was trained before it is written, over something older and better maybe.
 *
 * @param doing What is not done otherwise.
 * @throws {NotFinite} where a weight is NaN or infinite in the dtype that is computed in.
 */
export async function refuseDiverged(gpu: Gpu, model: Llama, doing: string): Promise<void> {
  const [first, ...others] = await notFiniteNames(gpu, model.trained);
  if (first === undefined) return;
  const and = others.length === 0 ? "" : ` and ${others.length} more`;
  const what = `tensor "${first}"${and} of what is trained holds NaN or infinity, so ${doing}`;
  throw new NotFinite(what, model, LOWER_RATE);
}

/** What a run's health is judged by. */
export interface HealthOptions {
  settings: Settings;
  /** Tokens of the vocabulary. */
  vocabulary: number;
  /** Loss of the run's first step, where it is one that goes on. */
  firstLoss: number | null;
}

/** Watches the steps of a run. */
export class Health {
  readonly settings: Settings;
  readonly #guessing: number;
  #firstLoss: number | null;
  #goodUntil = 0;
  #stuck = 0;
  #beyond = 0;
  /** Steps so far that were not skipped, and whether one of them had a gradient. */
  #zero = 0;
  #effective = false;
  /** Loss scales of the first and the last skipped step. */
  #scales: number[] = [];

  constructor({ settings, vocabulary, firstLoss }: HealthOptions) {
    this.settings = settings;
    this.#guessing = Math.log(vocabulary);
    this.#firstLoss = firstLoss;
  }

  /** Whether the last steps look as if the run diverged: a state of theirs is to replace no older one. */
  get doubtful(): boolean {
    return this.#beyond > 0;
  }

  /** The last step whose weights are known to be good: the step after it had a loss as it should be. */
  get goodUntil(): number {
    return this.#goodUntil;
  }

  /**
   * Looks at a step.
   *
   * @throws {Diverged} where its loss is NaN or infinite, or it is one too many that was skipped in vain, had a loss
   *   far beyond guessing or no gradient.
   */
  look(step: number, result: StepResult): void {
    this.#lookAtNumbers(step, result);
    this.#firstLoss ??= result.loss;
    this.#lookAtLoss(step, result);
    this.#lookAtSkips(step, result);
    this.#lookAtGradient(step, result);
  }

  #lookAtNumbers(step: number, { loss, losses }: StepResult): void {
    if (Number.isFinite(loss)) return;
    // The loss is taken before the loss scale: that the gradients overflow is another thing.
    const bad = losses.flatMap((loss, i) => Number.isFinite(loss) ? [] : [i + 1]);
    const where = losses.length === 1 ? "" : `, from micro-batch ${bad.join(", ")}`;
    const what = `step ${step}: the loss is ${loss}${where}`;
    throw this.#notFinite(what, "the run diverged: try a lower --learning-rate");
  }

  /** The loss beyond which a model is ruined. */
  get #ruined(): number {
    return BEYOND_GUESSING * Math.max(this.#guessing, this.#firstLoss ?? 0);
  }

  #lookAtLoss(step: number, { loss }: StepResult): void {
    this.#beyond = loss > this.#ruined ? this.#beyond + 1 : 0;
    if (this.#beyond === 0) this.#goodUntil = step - 1;
    if (this.#beyond >= MOST_BEYOND) throw this.#diverged(step);
  }

  #diverged(step: number): Diverged {
    const [first, guessing] = [this.#firstLoss ?? 0, this.#guessing].map((loss) => loss.toFixed(2));
    return new Diverged(
      `the losses of steps ${step - this.#beyond + 1} to ${step} are above ` +
        `${
          this.#ruined.toFixed(2)
        }, where the run began with ${first} and guessing has ${guessing}: ` +
        `expected a loss that falls: ${LOWER_RATE}`,
    );
  }

  #lookAtSkips(step: number, { skipped, lossScale }: StepResult): void {
    const { precision } = this.settings;
    if (!skipped) {
      this.#stuck = 0;
      return;
    }
    this.#scales = [this.#scales[0] ?? lossScale, lossScale];
    this.#stuck = lossScale <= LEAST_SCALE ? this.#stuck + 1 : 0;
    if (this.#stuck < MOST_SKIPPED) return;
    const what =
      `steps ${step - MOST_SKIPPED + 1} to ${step} were skipped: their gradients are NaN or ` +
      `infinite${precision === "mixed" ? ", also at a loss scale of 1" : ""}`;
    throw this.#notFinite(what, LOWER_RATE);
  }

  #lookAtGradient(step: number, { skipped, gradNorm, loss, lossScale }: StepResult): void {
    if (skipped) return;
    // A loss of zero has no gradient: there is nothing left to learn.
    if (gradNorm > 0 || loss === 0) this.#effective = true;
    if (this.#effective) return;
    this.#zero++;
    if (this.#zero >= MOST_ZERO) throw this.#noGradient(`in all steps up to ${step}`, lossScale);
  }

  #noGradient(when: string, lossScale: number): Diverged {
    const mixed = this.settings.precision === "mixed";
    const scale = mixed ? ` (loss scale ${Number(lossScale.toPrecision(3))})` : "";
    return new Diverged(
      `the gradient is zero ${when}${scale}: nothing was trained, so no ${this.#product} is written; ` +
        (mixed
          ? "expected a higher --initial-loss-scale (65536 is usual), or --precision fp32"
          : "expected an adapter or weights that the loss depends on"),
    );
  }

  get #product(): string {
    return this.settings.lora ? "adapter" : "model";
  }

  #notFinite(what: string, cause: string): Diverged {
    const range = { numerics: numericsOf(this.settings), mode: { kind: "train" } } as const;
    return new Diverged(new NotFinite(what, range, cause).message);
  }

  /**
   * Looks at the whole run, before what it trained is written.
   *
   * @param taken Steps that were not skipped, those of the runs that it goes on with included.
   * @param last What the last step did, where there was one.
   * @throws {Diverged} where there were steps and none of them had an effect, or the last ones were ruined.
   */
  finish(taken: number, last?: { step: { step: number }; result: StepResult }): void {
    if (last === undefined) return;
    if (this.#beyond >= LAST_BEYOND) throw this.#diverged(last.step.step);
    if (taken > 0 && taken === this.#zero) {
      throw this.#noGradient("in all steps", last.result.lossScale);
    }
    if (taken > 0) return;
    const { precision } = this.settings;
    const [first, least] = this.#scales.map((scale) => Number(scale.toPrecision(3)));
    const scales = first === least ? `of ${first}` : `from ${first} down to ${least}`;
    throw new Diverged(
      `every step was skipped, as its gradients were NaN or infinite${
        precision === "mixed" ? ` with loss scales ${scales}` : ""
      }: nothing was trained, so no ${this.#product} is written; expected ` +
        (precision === "mixed"
          ? "a lower --initial-loss-scale, more steps (each halves it), or --precision fp32"
          : "gradients that are finite: try a lower --learning-rate"),
    );
  }
}
