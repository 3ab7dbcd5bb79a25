/**
 * What is told of a group of tasks: means of its tasks' metrics, by lm_eval/api/group.py.
 *
 * @module
 */
import { z } from "zod";
import { UserError } from "../../kernels/errors.ts";
import { brief } from "../../model/files/json_file.ts";
import type { Aggregated } from "./aggregation.ts";

/** A metric of a group. */
export interface AggregatedMetric {
  metric: string;
  /** The filters that it is told for; undefined for all that tasks have. */
  filters: readonly string[] | undefined;
  /** Whether a task counts by its rows. */
  weightBySize: boolean;
}

const SCHEMA = z.strictObject({
  metric: z.string(),
  filter_list: z.union([z.string(), z.array(z.string()), z.null()]).optional(),
  aggregation: z.literal("mean").default("mean"),
  weight_by_size: z.boolean().default(true),
});

/** `aggregate_metric_list` of a group. @throws {UserError} where it is wrong. */
export function groupMetrics(value: unknown, where: string): AggregatedMetric[] {
  return [value ?? []].flat().map((entry) => {
    const read = SCHEMA.safeParse(entry);
    if (!read.success) {
      throw new UserError(
        `${where}: aggregate_metric_list has ${
          brief(entry)
        }; expected metric, and filter_list, aggregation: mean and ` +
          "weight_by_size",
      );
    }
    const { metric, filter_list, weight_by_size } = read.data;
    return {
      metric,
      filters: filter_list === undefined || filter_list === null ? undefined : [filter_list].flat(),
      weightBySize: weight_by_size,
    };
  });
}

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);

/** A metric of a task, with the rows that it is of. */
export interface SizedMetric extends Aggregated {
  rows: number;
}

/** The mean over tasks, and its error where each has one. */
export function meanOf(tasks: readonly SizedMetric[], weightBySize: boolean): Aggregated {
  const weights = tasks.map(({ rows }) => weightBySize ? rows : 1);
  const value = sum(tasks.map((task, i) => task.value * weights[i])) / sum(weights);
  const errors = tasks.flatMap(({ error }) => error ?? []);
  if (errors.length < tasks.length) return { value, error: null };
  if (!weightBySize) {
    return { value, error: Math.sqrt(sum(errors.map((error) => error ** 2))) / errors.length };
  }
  const rows = tasks.map((task) => task.rows), all = sum(rows);
  const pooled = sum(rows.map((n, i) => (n - 1) * errors[i] ** 2 * n)) / (all - rows.length);
  return { value, error: Math.sqrt(pooled / all) };
}
