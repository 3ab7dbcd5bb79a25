/**
 * Whether a run still gets anywhere: a loss that is no number, and steps that are skipped however small the loss scale.
 *
 * @module
 */
import { UserError } from "../kernels/errors.ts";
import type { Gpu } from "../kernels/gpu/gpu.ts";
import { notFiniteNames } from "../model/checkpoint/finite_weights.ts";
import type { Llama } from "../model/transformer/llama.ts";
import { numericsOf } from "../model/transformer/modes.ts";
import { NotFinite } from "../model/transformer/not_finite.ts";
import type { TrainConfig } from "./config.ts";
import type { StepResult } from "./trainer.ts";

/** The loss scale that is never halved (kernels/ops/optimizer/loss_scale.ts); that of precision fp32. */
const LEAST_SCALE = 1;
/** Steps skipped in a row at that scale, after which the run is given up: one may be the fault of its samples. */
const MOST_SKIPPED = 5;

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

/** Watches the steps of a run. */
export class Health {
  #stuck = 0;
  /** Loss scales of the first and the last skipped step. */
  #scales: number[] = [];

  constructor(readonly settings: Settings) {}

  /**
   * Looks at a step.
   *
   * @throws {NotFinite} where its loss is NaN or infinite, or it is one too many that was skipped in vain.
   */
  look(step: number, { loss, losses, skipped, lossScale }: StepResult): void {
    const { precision } = this.settings;
    const range = { numerics: numericsOf(this.settings), mode: { kind: "train" } } as const;
    if (!Number.isFinite(loss)) {
      // The loss is taken before the loss scale: that the gradients overflow is another thing.
      const bad = losses.flatMap((loss, i) => Number.isFinite(loss) ? [] : [i + 1]);
      const where = losses.length === 1 ? "" : `, from micro-batch ${bad.join(", ")}`;
      const what = `step ${step}: the loss is ${loss}${where}`;
      throw new NotFinite(what, range, "the run diverged: try a lower --learning-rate");
    }
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
    throw new NotFinite(what, range, LOWER_RATE);
  }

  /**
   * Looks at the whole run, before what it trained is written.
   *
   * @param taken Steps that were not skipped, those of the runs that it goes on with included.
   * @throws {UserError} where there were steps and all of them were skipped.
   */
  finish(taken: number): void {
    if (taken > 0 || this.#scales.length === 0) return;
    const { precision, lora } = this.settings;
    const [first, last] = this.#scales.map((scale) => Number(scale.toPrecision(3)));
    const scales = first === last ? `of ${first}` : `from ${first} down to ${last}`;
    throw new UserError(
      `every step was skipped, as its gradients were NaN or infinite${
        precision === "mixed" ? ` with loss scales ${scales}` : ""
      }: nothing was trained, so no ${lora ? "adapter" : "model"} is written; expected ` +
        (precision === "mixed"
          ? "a lower --initial-loss-scale, more steps (each halves it), or --precision fp32"
          : "gradients that are finite: try a lower --learning-rate"),
    );
  }
}
