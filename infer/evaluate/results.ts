/**
 * The results of an evaluation, by task and group, and what of each row they come from.
 *
 * @module
 */
import { present } from "../../kernels/present.ts";
import type { Outcome } from "../../model/transformer/continuations.ts";
import { aggregate, type Aggregated, type Item } from "./aggregation.ts";
import { meanOf } from "./group_metrics.ts";
import type { PreparedRow, PreparedTask } from "./prepare.ts";
import type { Requests, TaskRequests } from "./requests.ts";
import { answerItems, scoredItems } from "./scores.ts";
import type { Group } from "./task_files.ts";

/** What a model said to all requests. */
export interface Responses {
  outcomes: readonly Outcome[];
  answers: readonly string[];
}

/** A row with what came of it. */
export interface RowResult {
  row: PreparedRow;
  filter: string;
  outcomes: readonly Outcome[];
  /** The model's answers, one a repeat; none where continuations were scored. */
  answers: readonly string[];
  /** What the filters left of them. */
  filtered: string | readonly string[];
  /** By metric. */
  items: ReadonlyMap<string, Item>;
}

/** A metric over all rows. */
export interface MetricResult extends Aggregated {
  metric: string;
  filter: string;
  higherIsBetter: boolean;
}

/** The results of a task. */
export interface TaskResult {
  prepared: PreparedTask;
  metrics: readonly MetricResult[];
  rows: readonly RowResult[];
}

/** The results of a group. */
export interface GroupResult {
  group: Group;
  metrics: readonly MetricResult[];
  /** Rows of all its tasks. */
  rows: number;
}

function rowResults({ prepared, rows }: TaskRequests, responses: Responses): RowResult[] {
  const { task } = prepared;
  return task.filters.flatMap(({ name: filter, apply }) =>
    rows.map(({ row, first, count }): RowResult => {
      const { question, document } = row;
      if (question.kind === "generation") {
        // Greedy decoding gives the same answer every time.
        const answers = Array<string>(task.keys.repeats).fill(responses.answers[first]);
        const filtered = apply(answers, document);
        const items = answerItems(prepared, question.gold, filtered);
        return { row, filter, outcomes: [], answers, filtered, items };
      }
      const outcomes = responses.outcomes.slice(first, first + count);
      const items = scoredItems(prepared, question, outcomes);
      return { row, filter, outcomes, answers: [], filtered: [], items };
    })
  );
}

/**
 * The results of tasks.
 *
 * @param rounds Resamples for the standard errors that are told so; 0 for no errors.
 */
export function taskResults(
  { tasks }: Requests,
  responses: Responses,
  rounds: number,
): TaskResult[] {
  return tasks.map((requests) => {
    const { prepared } = requests, rows = rowResults(requests, responses);
    const metrics = prepared.task.filters.flatMap(({ name: filter }) => {
      const filtered = rows.filter((row) => row.filter === filter);
      return prepared.task.metrics.map(({ name, aggregation, higherIsBetter }): MetricResult => {
        const items = filtered.map(({ items }) => present(items.get(name), `${name} of a row`));
        return { metric: name, filter, higherIsBetter, ...aggregate(aggregation, items, rounds) };
      });
    });
    return { prepared, metrics, rows };
  });
}

/** The results of groups: means of those of their tasks. */
export function groupResults(
  groups: readonly Group[],
  results: readonly TaskResult[],
): GroupResult[] {
  return groups.map((group) => {
    const tasks = results.filter(({ prepared }) => group.tasks.includes(prepared.task.name));
    const metrics = group.metrics.flatMap(({ metric, filters, weightBySize }) => {
      const found = tasks.flatMap(({ metrics, prepared }) =>
        metrics.filter((one) => one.metric === metric)
          .map((one) => ({ ...one, rows: prepared.rows.length }))
      );
      const names = filters ?? [...new Set(found.map(({ filter }) => filter))].sort();
      return names.flatMap((filter): MetricResult[] => {
        const same = found.filter((one) => one.filter === filter);
        if (same.length === 0) return [];
        const [{ higherIsBetter }] = same;
        return [{ metric, filter, higherIsBetter, ...meanOf(same, weightBySize) }];
      });
    });
    const rows = tasks.reduce((sum, { prepared }) => sum + prepared.rows.length, 0);
    return { group, metrics, rows };
  });
}
