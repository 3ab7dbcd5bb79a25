/**
 * `lorikeet score`: how likely a model finds the answers of a data set.
 *
 * @module
 */
import { z } from "zod";
import { lessMemory } from "../cli/less_memory.ts";
import { runMain } from "../cli/run_main.ts";
import { UserError } from "../kernels/errors.ts";
import { megabytes } from "../kernels/gpu/memory.ts";
import { profileLines } from "../kernels/gpu/profiler.ts";
import { noteLine, printJson, printLine } from "../kernels/terminal.ts";
import { command, parseFlags } from "../cli/command_line.ts";
import * as common from "../cli/common_settings.ts";
import { ProgressBar } from "../cli/progress.ts";
import { contextLength } from "../model/families/config.ts";
import { meanNll, rehearseNll } from "../model/transformer/evaluate.ts";
import { DAMAGED } from "../model/transformer/not_finite.ts";
import { loadDataset } from "../model/text/data/dataset.ts";
import { supervisedTokens, type TokenizedSample } from "../model/text/prompt.ts";
import { modelKeys, runKeys } from "./flags.ts";
import { findModel } from "../model/session.ts";
import { type Score, scoreMode } from "../model/transformer/modes.ts";
import { loadModel } from "./open.ts";

const schema = z.strictObject({
  ...modelKeys,
  data: common.data,
  samples: common.samples,
  ...common.encodingKeys,
  max_length: common.max_length,
  ...runKeys,
});

const SCORE = command(
  "score",
  "--model M --data D [--flag value ...]",
  "Measures how likely the model finds the answers of a data set: negative log-likelihood (nats) and\n" +
    "perplexity per token of the answers.",
  schema,
);

/** What `--json` prints. */
export interface ScoreResult {
  /** Mean over all supervised tokens, in nats. */
  nll_per_token: number;
  /** exp(nll_per_token). */
  perplexity: number;
  /** Number of supervised tokens. */
  tokens: number;
}

/** The passes of {@linkcode meanNll}: a sample each. */
export function scoringMode(samples: readonly TokenizedSample[]): Score {
  // One by one: a call takes no more arguments than the stack holds, and data sets are long.
  let maxTokens = 1, maxTargets = 1;
  for (const sample of samples) {
    maxTokens = Math.max(maxTokens, sample.ids.length);
    maxTargets = Math.max(maxTargets, supervisedTokens(sample));
  }
  return scoreMode({ maxTokens, maxTargets });
}

/**
 * The result of scoring samples that have this mean.
 *
 * @throws {UserError} where the perplexity is beyond every number: no sound model finds a text so unlikely.
 */
export function scoreResult(
  samples: readonly TokenizedSample[],
  nll_per_token: number,
): ScoreResult {
  const tokens = samples.reduce((sum, sample) => sum + supervisedTokens(sample), 0);
  const perplexity = Math.exp(nll_per_token);
  if (!Number.isFinite(perplexity)) {
    throw new UserError(
      `the negative log-likelihood is ${nll_per_token} nats per token, and its perplexity infinite; ` +
        `expected finite numbers: ${DAMAGED}`,
    );
  }
  return { nll_per_token, perplexity, tokens };
}

/** Runs the command. */
export async function score(args: string[]): Promise<void> {
  const flags = parseFlags(SCORE, args);
  const found = await findModel(flags);
  const groups = await loadDataset(found.tokenizer, {
    ...flags,
    tokenizerPath: found.tokenizerPath,
    context: contextLength(found.source.config),
    say: noteLine,
  });
  const samples = [...groups].flat(), mode = scoringMode(samples);
  await using session = await loadModel(found, flags, {
    mode,
    also: () => undefined,
    advice: lessMemory("a smaller --max-length"),
    rehearse: (gpu, _, model) => rehearseNll(gpu, model, samples),
  });
  const { gpu, loaded: { model } } = session;
  const bar = new ProgressBar("Scoring", samples.length);
  const nll = await meanNll(gpu, model, samples, (done) => bar.update(done, "samples"));
  const result = scoreResult(samples, nll);
  if (flags.json) printJson(result);
  else {
    printLine(`Negative log-likelihood per token: ${nll.toFixed(6)} nats`);
    printLine(`Perplexity: ${result.perplexity.toFixed(4)}`);
    printLine(`Supervised tokens: ${result.tokens}`);
  }
  noteLine(`Peak GPU memory: ${megabytes(gpu.memory.peakTotal).toFixed(1)} MB`);
  if (gpu.profiler) noteLine(`\n${profileLines(await gpu.profiler.take()).join("\n")}`);
}

if (import.meta.main) await runMain(score);
