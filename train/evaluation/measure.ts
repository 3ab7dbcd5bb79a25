/**
 * What a model in training makes of samples that are held out.
 *
 * @module
 */
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { eachSample, type SampleList } from "../../model/text/data/sample_list.ts";
import { meanNll } from "../../model/transformer/evaluate.ts";
import { DAMAGED, NotFinite } from "../../model/transformer/not_finite.ts";
import { evaluationWindows } from "../data.ts";
import type { Figures } from "../objective/objective.ts";
import type { Trainer } from "../trainer.ts";

/** A loss on held-out samples. */
export interface Measured {
  loss: number;
  /** exp(loss) where that is one of a token; null elsewhere, and where JSON can't hold it. */
  perplexity: number | null;
  /** What the objective tells beside the loss. */
  figures: Figures;
}

/**
 * The loss of held-out samples by the present weights: per supervised token, or, with an objective of preferences, its own: the
 * mean over micro-batches, each by its rows of data. Nothing is dropped out.
 *
 * @param groups One or more.
 * @param check Called now and then; what it throws ends it.
 * @throws {NotFinite} for a loss that is no number.
 */
export async function measureHeldOut(
  gpu: Gpu,
  trainer: Trainer,
  groups: SampleList,
  check: () => void,
): Promise<Measured> {
  const { objective, model, config } = trainer;
  if (objective.scoredWith.length === 0) {
    const loss = await meanNll(gpu, model, eachSample(groups), check), perplexity = Math.exp(loss);
    return { loss, perplexity: Number.isFinite(perplexity) ? perplexity : null, figures: {} };
  }
  const windows = evaluationWindows(groups, config.batch_size);
  const names = ["loss", ...objective.figures] as const;
  const sums = new Map(names.map((name) => [name, { sum: 0, rows: 0 }]));
  for (const [i, { rows, window }] of windows.entries()) {
    const { loss, figures } = await trainer.evaluate(gpu, window);
    if (!Number.isFinite(loss)) {
      const what = `micro-batch ${i + 1} of ${windows.length}: its loss is ${loss}`;
      throw new NotFinite(what, model, DAMAGED);
    }
    for (const [name, sum] of sums) {
      const value = name === "loss" ? loss : figures[name] ?? NaN;
      // A micro-batch may have none of the kind that a figure is of.
      if (Number.isNaN(value)) continue;
      sum.sum += rows * value;
      sum.rows += rows;
    }
    check();
  }
  const means = Object.fromEntries(Array.from(sums, ([name, { sum, rows }]) => [name, sum / rows]));
  const { loss, ...figures } = means as Record<"loss", number> & Figures;
  return { loss, perplexity: null, figures };
}
