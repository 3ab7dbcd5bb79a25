/**
 * The names of what lies in a run's folder.
 *
 * @module
 */

/** What lies in a run's folder. */
export const RUN_FILES = {
  lock: "run.lock",
  config: "config.yaml",
  metrics: "metrics.jsonl",
  evaluations: "evaluations.jsonl",
  states: "states",
  adapter: "adapter",
  model: "model",
  best: "best",
  summary: "summary.json",
  csv: "metrics.csv",
  evaluationsCsv: "evaluations.csv",
  tensorboard: "tensorboard",
  stop: "stop",
} as const;

/** One thing in a run's folder. */
export type RunFile = keyof typeof RUN_FILES;
