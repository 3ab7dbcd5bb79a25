/**
 * The evaluations of a run of the command: what they are made with, and where their results go.
 *
 * @module
 */
import { noteLine } from "../kernels/terminal.ts";
import { UserError } from "../kernels/errors.ts";
import { contextLength } from "../model/families/config.ts";
import type { SampleList } from "../model/text/data/sample_list.ts";
import type { TokenizedSample } from "../model/text/prompt.ts";
import { SampleEncoder } from "../model/text/sample_encoder.ts";
import { stopTokens } from "../model/text/tokenizer/stop_tokens.ts";
import { NotFinite } from "../model/transformer/not_finite.ts";
import { BestFolder } from "./evaluation/best.ts";
import { Evaluation } from "./evaluation/evaluation.ts";
import { EvaluationPrompts } from "./evaluation/evaluation_prompts.ts";
import { EvaluationHistory, type EvaluationRecord, recordOf } from "./evaluation/history.ts";
import type { MetricsFiles } from "./metrics/metrics_files.ts";
import { writeTrained } from "./run/output.ts";
import type { TrainingSetup } from "./setup.ts";
import type { StopRequest } from "./run/stop_request.ts";
import type { Training } from "./training.ts";

/** The first sample of each group. */
function* firstSamples(groups: SampleList): Generator<TokenizedSample, void> {
  for (const group of groups) yield* group.slice(0, 1);
}

/** The prompts that a run answers at its evaluations, where it does. @throws {UserError} where they can't be answered. */
export async function evaluationPrompts(
  { tokenizer, tokenizerPath, config, evaluation, source }: TrainingSetup,
): Promise<EvaluationPrompts | undefined> {
  const encoder = new SampleEncoder(tokenizer, { ...config, tokenizerPath });
  const questions: Uint32Array[] = [];
  for (const instruction of config.eval_prompts) {
    await encoder.openFor({ instruction, input: "", output: "" });
    questions.push(encoder.question(instruction));
  }
  return EvaluationPrompts.of(tokenizer, config, {
    evaluation: firstSamples(evaluation),
    context: contextLength(source.config),
    stop: stopTokens(source.config, tokenizer, source.folder),
    questions,
  });
}

/** Whether the weights that a run has now are to be kept as the best, and keeps them. */
async function keepBest(training: Training, best: BestFolder, record: EvaluationRecord) {
  const { gpu, trainer: { model }, setup } = training;
  try {
    await best.keep(record, (parent) => writeTrained(gpu, model, parent, setup));
  } catch (error) {
    // A run goes on without it; one whose weights are NaN does not.
    if (!(error instanceof UserError) || error instanceof NotFinite) throw error;
    noteLine(`${error.message}; the best after step ${record.step} is not kept, the run goes on`);
  }
}

/** The evaluations of a run under way, those that it goes on with included. */
export function openEvaluation(
  training: Training,
  { metrics, prompts, stop }: {
    metrics: MetricsFiles;
    prompts?: EvaluationPrompts;
    stop: StopRequest;
  },
): Evaluation {
  const { gpu, trainer, progress, folder, setup: { config, plan, evaluation } } = training;
  const { evaluated } = metrics, isKnown = progress.evaluations.at(-1)?.step === evaluated?.step;
  // The state of a step is saved before its evaluation.
  if (evaluated !== undefined && !isKnown) progress.evaluations.push(recordOf(evaluated));
  const best = config.keep_best ? new BestFolder(folder.file("best")) : undefined;
  best?.recover();
  return new Evaluation({
    gpu,
    trainer,
    samples: evaluation,
    answering: prompts && { prompts, engine: training.engine(prompts.prompts) },
    plan: { plan, eval_every: config.eval_every },
    history: new EvaluationHistory(config, progress.evaluations),
    check: () => stop.check(),
    done: async (result, isBest) => {
      progress.evaluations.push(recordOf(result));
      metrics.evaluation(result);
      const isKept = result.step > 0 && (isBest || best?.isEmpty);
      if (best !== undefined && isKept) await keepBest(training, best, recordOf(result));
    },
  });
}
