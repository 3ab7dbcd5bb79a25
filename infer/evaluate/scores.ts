/**
 * What metrics have of each row, by `process_results` of lm_eval/api/task.py.
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import type { Outcome } from "../../model/transformer/continuations.ts";
import type { Item } from "./aggregation.ts";
import type { Answers } from "./filters.ts";
import type { Metric } from "./metrics.ts";
import type { PreparedTask, Question } from "./prepare.ts";
import { bytes, length, words } from "./python/strings.ts";

/** Place of the largest value, of several the first. */
function largest(values: readonly number[]): number {
  return values.reduce((best, value, i) => value > values[best] ? i : best, 0);
}

function softmax(values: readonly number[]): number[] {
  const most = Math.max(...values);
  const powers = values.map((value) => Math.exp(value - most));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

/** Metrics of a row with choices. */
function ofChoices(
  name: string,
  { choices, gold }: Question & { kind: "choices" },
  outcomes: readonly Outcome[],
): Item {
  const all = outcomes.map(({ logLikelihood }) => logLikelihood);
  const likelihoods = all.slice(0, choices.length), alone = all.slice(choices.length);
  const hit = (values: readonly number[]) => gold.includes(largest(values)) ? 1 : 0;
  switch (name) {
    case "acc":
      return hit(likelihoods);
    case "acc_norm":
      return hit(likelihoods.map((likelihood, i) => likelihood / length(choices[i])));
    case "acc_bytes":
      return hit(likelihoods.map((likelihood, i) => likelihood / bytes(choices[i])));
    case "acc_mutual_info":
      return hit(likelihoods.map((likelihood, i) => likelihood - alone[i]));
    case "exact_match":
      return gold.some((choice) => outcomes[choice].greedy) ? 1 : 0;
    case "brier_score":
      return { gold: gold[0], probabilities: softmax(likelihoods) };
    default:
      return [gold[0], largest(likelihoods)];
  }
}

/** Metrics of a text that is foretold window by window. */
function ofText(name: string, text: string, outcomes: readonly Outcome[]): Item {
  const likelihood = outcomes.reduce((total, { logLikelihood }) => total + logLikelihood, 0);
  return [likelihood, name === "word_perplexity" ? words(text) : bytes(text)];
}

/**
 * What a task's metrics have of a row whose question was scored.
 *
 * @throws {UserError} for metrics of one right choice where there are several.
 */
export function scoredItems(
  { task, severalTargets }: PreparedTask,
  question: Question,
  outcomes: readonly Outcome[],
): Map<string, Item> {
  const itemOf = ({ name }: Metric): Item => {
    if (question.kind === "choices") {
      if (severalTargets && ["f1", "mcc", "brier_score"].includes(name)) {
        throw new UserError(
          `${task.where}: metric ${name} needs one right choice a row; expected a doc_to_target that is no list`,
        );
      }
      return ofChoices(name, question, outcomes);
    }
    if (question.kind === "rolling") return ofText(name, question.text, outcomes);
    const [{ logLikelihood, greedy }] = outcomes;
    return name === "perplexity" ? logLikelihood : greedy ? 1 : 0;
  };
  return new Map(task.metrics.map((metric) => [metric.name, itemOf(metric)]));
}

/** What a task's metrics have of a row whose answers, or the one that was chosen, are these. */
export function answerItems(
  { task, severalTargets }: PreparedTask,
  gold: readonly string[],
  answers: Answers,
): Map<string, Item> {
  if (severalTargets && typeof answers !== "string") {
    throw new UserError(
      `${task.where}: its filters leave several answers a row, and its rows have several right ones; expected ` +
        "take_first as the last filter",
    );
  }
  return new Map(task.metrics.map(({ name, comparable }): [string, Item] => {
    const right = new Set(gold.map(comparable));
    const given = typeof answers === "string" ? [answers] : answers;
    const hits = given.filter((answer) => right.has(comparable(answer))).length;
    return [name, hits / given.length];
  }));
}
