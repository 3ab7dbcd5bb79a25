/**
 * The keys of evaluations in a run, of what they decide, and of the forms that metrics are written in.
 *
 * @module
 */
import { atLeastZero, flag, text, texts, whole } from "../../cli/settings.ts";

/** The keys, with the same rules as those of {@linkcode trainSchema}: none of them changes a step. */
export const evaluationKeys = {
  eval_data: text("file", "a JSON, JSON Lines, CSV, TSV or Parquet file").optional().describe(
    "Held-out samples in a file of their own, in any format of data, instead of eval_fraction.",
  ).meta({ resume: "contents" }),
  eval_every: whole(0).default(0).describe(
    "Evaluate on held-out samples after every so many steps; 0 is after every epoch.",
  ).meta({ resume: "free" }),
  eval_samples: whole(0, 64).default(0).describe(
    "Answer the prompts of so many held-out samples at every evaluation.",
  ).meta({ resume: "free" }),
  eval_prompts: texts("text", "a list of texts that are not empty").default([]).describe(
    "Instructions to be answered at every evaluation, in Alpaca's template or the one that template names; the flag may be repeated.",
  ).meta({ resume: "free" }),
  eval_max_tokens: whole(1, 4096).default(64).describe("Tokens of such an answer at most.").meta({
    resume: "free",
  }),
  keep_best: flag().default(false).describe(
    "Keep the adapter or model with the lowest held-out loss in best/, beside the last one.",
  ).meta({ resume: "free" }),
  early_stopping: whole(0).default(0).describe(
    "End the run after so many evaluations in a row without a lower held-out loss; 0 is never.",
  ).meta({ resume: "free" }),
  early_stopping_min_delta: atLeastZero().default(0).describe(
    "A held-out loss that fell by no more than this is not lower for early_stopping.",
  ).meta({ resume: "free" }),
  tensorboard: flag().default(false).describe(
    "Write the metrics as event files of TensorBoard as well, in tensorboard/.",
  ).meta({ resume: "free" }),
  csv: flag().default(false).describe(
    "Write the metrics as metrics.csv and evaluations.csv as well.",
  ).meta({ resume: "free" }),
};
