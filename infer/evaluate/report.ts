/**
 * Results for people and for programs: a table, one JSON object, and a line of JSON a row.
 *
 * @module
 */
import { writeJsonText } from "../../model/text/templates/jinja/json.ts";
import { Dict, text, Undefined } from "../../model/text/templates/jinja/values.ts";
import type { GroupResult, MetricResult, RowResult, TaskResult } from "./results.ts";
import type { PreparedTask, Question } from "./prepare.ts";

/** All results of an evaluation. */
export interface Results {
  tasks: readonly TaskResult[];
  groups: readonly GroupResult[];
}

/** What a task or a group is told with. */
interface Told {
  name: string;
  alias: string;
  version: string;
  shots: string;
  metrics: readonly MetricResult[];
}

function versionOf({ task: { keys } }: PreparedTask): string | number {
  const metadata = keys.metadata;
  const version = typeof metadata === "object" && metadata !== null && "version" in metadata
    ? metadata.version
    : undefined;
  return typeof version === "string" || typeof version === "number" ? version : "Yaml";
}

const ofTask = ({ prepared, metrics }: TaskResult): Told => ({
  name: prepared.task.name,
  alias: prepared.task.keys.task_alias ?? prepared.task.name,
  version: String(versionOf(prepared)),
  shots: String(prepared.numFewshot),
  metrics,
});

const ofGroup = ({ group, metrics }: GroupResult): Told => ({
  name: group.name,
  alias: group.alias,
  version: group.version === undefined ? "N/A" : String(group.version),
  shots: "",
  metrics,
});

/** Tasks and groups in order, those of a group after it and set in. */
function* inOrder({ tasks, groups }: Results): Generator<Told> {
  const inner = new Set(groups.flatMap(({ group }) => group.children));
  function* from(name: string, depth: number): Generator<Told> {
    const group = groups.find((one) => one.group.name === name);
    const task = tasks.find(({ prepared }) => prepared.task.name === name);
    const told = group ? ofGroup(group) : task && ofTask(task);
    if (told === undefined) return;
    yield { ...told, alias: depth > 0 ? `${" ".repeat(depth)}- ${told.alias}` : told.alias };
    for (const child of group?.group.children ?? []) yield* from(child, depth + 1);
  }
  for (const { group: { name } } of groups) if (!inner.has(name)) yield* from(name, 0);
  for (const { prepared: { task: { name } } } of tasks) if (!inner.has(name)) yield* from(name, 0);
}

const HEADER = ["Tasks", "Version", "Filter", "n-shot", "Metric", "", "Value", "", "Stderr"];
/** Columns of numbers. */
const RIGHT = [1, 3, 6, 8];

/** The table, in lines. */
export function tableLines(results: Results): string[] {
  const cells: string[][] = [HEADER];
  for (const { alias, version, shots, metrics } of inOrder(results)) {
    if (metrics.length === 0) cells.push([alias, version, ...Array<string>(7).fill("")]);
    for (const [i, { metric, filter, higherIsBetter, value, error }] of metrics.entries()) {
      cells.push([
        i === 0 ? alias : "",
        i === 0 ? version : "",
        filter,
        shots,
        metric,
        higherIsBetter ? "↑" : "↓",
        value.toFixed(4),
        "±",
        error === null ? "N/A" : error.toFixed(4),
      ]);
    }
  }
  const widths = HEADER.map((_, column) => Math.max(...cells.map((row) => row[column].length)));
  const line = (row: readonly string[]) =>
    `|${
      row.map((cell, column) =>
        RIGHT.includes(column) ? cell.padStart(widths[column]) : cell.padEnd(widths[column])
      ).join("|")
    }|`;
  const rule = line(
    widths.map((width, column) =>
      RIGHT.includes(column) ? "-".repeat(Math.max(0, width - 1)) + ":" : "-".repeat(width)
    ),
  );
  const [header, ...rows] = cells.map(line);
  return [header, rule, ...rows];
}

/** Metrics as `metric,filter` and `metric_stderr,filter`. */
function metricEntries(metrics: readonly MetricResult[]): Record<string, number | string> {
  return Object.fromEntries(metrics.flatMap(({ metric, filter, value, error }) => [
    [`${metric},${filter}`, value],
    [`${metric}_stderr,${filter}`, error ?? "N/A"],
  ]));
}

/** The results as lm-evaluation-harness writes them. */
export function resultsObject(
  { tasks, groups }: Results,
  config: Record<string, unknown>,
): Record<string, unknown> {
  const byTask = <T>(of: (result: TaskResult) => T) =>
    Object.fromEntries(tasks.map((result) => [result.prepared.task.name, of(result)]));
  const groupEntries = groups.map((result) =>
    [result.group.name, {
      alias: result.group.alias,
      sample_len: result.rows,
      ...metricEntries(result.metrics),
    }] as const
  );
  return {
    results: {
      ...byTask(({ prepared: { task, rows }, metrics }) => ({
        alias: task.keys.task_alias ?? task.name,
        sample_len: rows.length,
        ...metricEntries(metrics),
      })),
      ...Object.fromEntries(groupEntries),
    },
    groups: Object.fromEntries(
      groupEntries.filter(([name]) =>
        groups.find(({ group }) => group.name === name)?.group.metrics.length
      ),
    ),
    group_subtasks: Object.fromEntries(groups.map(({ group }) => [group.name, group.children])),
    versions: byTask(({ prepared }) => versionOf(prepared)),
    "n-shot": byTask(({ prepared }) => prepared.numFewshot),
    higher_is_better: byTask(({ metrics }) =>
      Object.fromEntries(metrics.map(({ metric, higherIsBetter }) => [metric, higherIsBetter]))
    ),
    "n-samples": byTask(({ prepared }) => ({
      original: prepared.splitRows,
      effective: prepared.rows.length,
    })),
    config,
  };
}

const COMPACT = {
  ensureAscii: false,
  indent: undefined,
  itemSeparator: text(","),
  keySeparator: text(":"),
  sortKeys: false,
};

function documentJson(fields: Dict): string {
  const there = fields.items().map(([key, value]) =>
    [key, value instanceof Undefined ? null : value] as const
  );
  return writeJsonText(new Dict(there), COMPACT).value;
}

/** What the model was asked, a list a request. */
function argumentsOf(question: Question): unknown[] {
  switch (question.kind) {
    case "choices":
      return [...question.pairs];
    case "continuation":
      return [[question.context, question.continuation]];
    case "rolling":
      return [[question.text]];
    case "generation":
      return [[question.context]];
  }
}

/** What the model said, and what the filters left of it. */
function responsesOf({ row: { question }, outcomes, answers, filtered }: RowResult) {
  if (question.kind === "generation") return { resps: [answers], filtered_resps: [filtered] };
  const all = question.kind === "rolling"
    ? [outcomes.reduce((sum, { logLikelihood }) => sum + logLikelihood, 0)]
    : outcomes.map(({ logLikelihood, greedy }) => [logLikelihood, greedy]);
  return { resps: all.map((one) => [one]), filtered_resps: all };
}

/** A line of JSON for a row, with the fields of lm-evaluation-harness's samples. */
export function sampleLine(task: string, result: RowResult): string {
  const { row: { id, document, question, target }, filter, items } = result;
  const before = JSON.stringify({ task, doc_id: id }).slice(0, -1);
  const after = JSON.stringify({
    target,
    arguments: argumentsOf(question),
    ...responsesOf(result),
    filter,
    metrics: [...items.keys()],
    ...Object.fromEntries(items),
  }).slice(1);
  return `${before},"doc":${documentJson(document.fields)},${after}`;
}
