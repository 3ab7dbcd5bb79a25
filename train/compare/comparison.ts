/**
 * Runs side by side: the keys in which they differ, as columns of a table, of CSV or of JSON.
 *
 * @module
 */
import { csvLine, type CsvValue } from "../metrics/csv.ts";
import type { RunRecord } from "./run_record.ts";

/** Keys that say where a run lies or what is shown and kept of it, and those with a column of their own. */
const LEFT_OUT: ReadonlySet<string> = new Set([
  "output",
  "resume",
  "allow_change",
  "verify_weights",
  "save_every",
  "keep_states",
  "keep_best",
  "eval_every",
  "eval_samples",
  "eval_prompts",
  "eval_max_tokens",
  "tensorboard",
  "csv",
  "profile",
  "print_wgsl",
  "learning_rate",
  "seed",
]);

/** The keys of the configuration that the runs do not agree on, in order. */
export function differingKeys(runs: readonly RunRecord[]): string[] {
  const configs = runs.map(({ config }) => config);
  const keys = new Set(configs.flatMap((config) => Object.keys(config)));
  return [...keys].filter((key) => {
    if (LEFT_OUT.has(key)) return false;
    const [group, inner] = key.split(".");
    // A run without a configuration is not asked, and one without a group not about the group's keys.
    const asked = configs.filter((config) =>
      inner === undefined ? "seed" in config : config[group] === "on"
    );
    return new Set(asked.map((config) => JSON.stringify(config[key]))).size > 1;
  });
}

/** A value of a configuration in one field. */
function plain(value: unknown): CsvValue {
  if (value === undefined || value === null) return null;
  if (typeof value === "number" || typeof value === "boolean") return value;
  if (Array.isArray(value)) return value.join(",");
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** Runs with one configuration are told apart by these; all but the names of CSV. */
const FIGURES = [
  "steps",
  "first_loss",
  "last_loss",
  "best_loss",
  "evaluations",
  "last_eval_loss",
  "best_eval_loss",
  "perplexity",
  "best_step",
  "tokens",
  "seconds",
  "tokens_per_second",
  "skipped_steps",
  "peak_memory_mb",
  "resumable_from",
] as const satisfies readonly (keyof RunRecord)[];

/** A line a run, with every figure and the keys that differ. */
export function comparisonCsv(runs: readonly RunRecord[]): string {
  const keys = ["learning_rate", "seed", ...differingKeys(runs)];
  const head = ["run", "state", "problem", ...FIGURES, ...keys];
  return csvLine(head) + runs.map((run) =>
    csvLine([
      run.run,
      run.state,
      run.problem ?? null,
      ...FIGURES.map((name) => run[name]),
      ...keys.map((key) => plain(run.config[key])),
    ])
  ).join("");
}

/** A column of the table for people. */
interface Column {
  title: string;
  /** Absent where a run has none. */
  of: (run: RunRecord) => string | undefined;
  /** Whether numbers of a row stand below each other's last digit. */
  right: boolean;
}

const figure = (
  title: string,
  of: (run: RunRecord) => number | null,
  show: (value: number) => string,
): Column => {
  const shown = (run: RunRecord) => {
    const value = of(run);
    return value === null ? undefined : show(value);
  };
  return { title, of: shown, right: true };
};
const loss = (value: number) => value.toFixed(4);
const setting = (key: string, title = key): Column => ({
  title,
  of: ({ config }) => plain(config[key])?.toString(),
  right: true,
});

/** How a run stands, with the step that it could go on from. */
function stateWords({ state, resumable_from: from, steps }: RunRecord): string {
  const resumes = from !== null && (state === "interrupted" || state === "diverged");
  return resumes && from !== steps ? `${state}, state of step ${from}` : state;
}

/** The table for people: a line a run, and what is wrong with some below. Columns that no run has a value for are left out. */
export function comparisonTable(runs: readonly RunRecord[]): string {
  const columns: Column[] = [
    { title: "run", of: ({ run }) => run, right: false },
    { title: "state", of: stateWords, right: false },
    figure("steps", ({ steps }) => steps, String),
    figure("first loss", ({ first_loss }) => first_loss, loss),
    figure("last", ({ last_loss }) => last_loss, loss),
    figure("best", ({ best_loss }) => best_loss, loss),
    figure("held-out", ({ best_eval_loss }) => best_eval_loss, loss),
    figure("perplexity", ({ perplexity }) => perplexity, (value) => value.toPrecision(4)),
    figure("at step", ({ best_step }) => best_step, String),
    setting("learning_rate", "lr"),
    setting("seed"),
    ...differingKeys(runs).map((key) => setting(key)),
    figure("tokens/s", (run) => run.tokens_per_second, (value) => String(Math.round(value))),
    figure("skipped", ({ skipped_steps: n }) => n === 0 ? null : n, String),
    figure("MB", ({ peak_memory_mb }) => peak_memory_mb, (value) => value.toFixed(1)),
  ];
  const shown = columns.filter(({ of }) => runs.some((run) => of(run) !== undefined));
  const cells = [
    shown.map(({ title }) => title),
    ...runs.map((run) => shown.map(({ of }) => of(run) ?? "–")),
  ];
  const widths = shown.map((_, i) => Math.max(...cells.map((row) => row[i].length)));
  const lines = cells.map((row) =>
    row.map((cell, i) => shown[i].right ? cell.padStart(widths[i]) : cell.padEnd(widths[i]))
      .join("  ").trimEnd()
  );
  const problems = runs.flatMap(({ run, problem }) => problem ? [`${run}: ${problem}`] : []);
  return [...lines, ...problems.length > 0 ? ["", ...problems] : []].join("\n");
}
