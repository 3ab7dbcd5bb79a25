/**
 * From what a metric has of each row to one number and its standard error, as lm_eval/api/metrics.py has them.
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import { Random } from "./python/random.ts";

/** What a metric has of a row. */
export type Item =
  /** A score, a log-likelihood. */
  | number
  /** A log-likelihood and what it is divided by, or the numbers of the right choice and of the chosen one. */
  | readonly [number, number]
  /** The right choice, and the probabilities of all. */
  | { readonly gold: number; readonly probabilities: readonly number[] };

/** What an aggregation takes. */
export type ItemKind = "number" | "weighted" | "labels" | "probabilities";

/** How items become one number. */
interface Aggregation {
  takes: ItemKind;
  of(items: readonly Item[]): number;
  /** How the standard error is told: of a mean, by resampling, or not at all. */
  error: "mean" | "bootstrap" | "none";
}

const numberOf = (item: Item): number => typeof item === "number" ? item : NaN;
const pairOf = (item: Item): readonly [number, number] =>
  typeof item === "object" && !("gold" in item) ? item : [NaN, NaN];

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
const mean = (items: readonly Item[]) => sum(items.map(numberOf)) / items.length;

function weightedMean(items: readonly Item[]): number {
  const pairs = items.map(pairOf);
  return sum(pairs.map(([value]) => value)) / sum(pairs.map(([, weight]) => weight));
}

function median(items: readonly Item[]): number {
  const sorted = items.map(numberOf).sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

function nanmean(items: readonly Item[]): number {
  const there = items.map(numberOf).filter((value) => !Number.isNaN(value));
  return there.length === 0 ? NaN : mean(there);
}

/** scikit-learn's `f1_score` of two classes, of which 1 is the positive one. */
function f1(items: readonly Item[]): number {
  let hits = 0, others = 0;
  for (const [gold, chosen] of items.map(pairOf)) {
    if (gold > 1 || chosen > 1) {
      throw new UserError("f1 is of two classes, and a row has a third; expected choices 0 and 1");
    }
    if (gold === 1 && chosen === 1) hits++;
    else if (gold === 1 || chosen === 1) others++;
  }
  return hits + others === 0 ? 0 : 2 * hits / (2 * hits + others);
}

/** scikit-learn's `matthews_corrcoef`. */
function matthews(items: readonly Item[]): number {
  const pairs = items.map(pairOf), n = pairs.length;
  const classes = 1 + Math.max(...pairs.flat());
  const golds = Array<number>(classes).fill(0), chosen = Array<number>(classes).fill(0);
  let right = 0;
  for (const [gold, choice] of pairs) {
    golds[gold]++;
    chosen[choice]++;
    if (gold === choice) right++;
  }
  const product = (a: readonly number[], b: readonly number[]) => sum(a.map((x, i) => x * b[i]));
  const spread = (n * n - product(chosen, chosen)) * (n * n - product(golds, golds));
  return spread === 0 ? 0 : (right * n - product(golds, chosen)) / Math.sqrt(spread);
}

function brier(items: readonly Item[]): number {
  const losses = items.map((item): number => {
    if (typeof item !== "object" || !("gold" in item)) return NaN;
    const { gold, probabilities } = item;
    return sum(probabilities.map((p, choice) => (p - (choice === gold ? 1 : 0)) ** 2));
  });
  return mean(losses);
}

/** The aggregations, by the names that tasks have for them. */
export const AGGREGATIONS: Readonly<Record<string, Aggregation>> = {
  mean: { takes: "number", of: mean, error: "mean" },
  median: { takes: "number", of: median, error: "bootstrap" },
  nanmean: { takes: "number", of: nanmean, error: "bootstrap" },
  perplexity: { takes: "number", of: (items) => Math.exp(-mean(items)), error: "bootstrap" },
  weighted_perplexity: {
    takes: "weighted",
    of: (items) => Math.exp(-weightedMean(items)),
    error: "none",
  },
  bits_per_byte: {
    takes: "weighted",
    of: (items) => -weightedMean(items) / Math.LN2,
    error: "none",
  },
  f1: { takes: "labels", of: f1, error: "bootstrap" },
  matthews_corrcoef: { takes: "labels", of: matthews, error: "bootstrap" },
  brier_score: { takes: "probabilities", of: brier, error: "none" },
};

/** Resamples that one seed is for. */
const CHUNK = 1000;

function sampleDeviation(values: readonly number[]): number {
  const middle = mean(values);
  return Math.sqrt(sum(values.map((value) => (value - middle) ** 2)) / (values.length - 1));
}

/** The deviation of an aggregation over so many resamples, with Python's random numbers of the seeds 0, 1, 2 and so on. */
function bootstrapError(aggregation: Aggregation, items: readonly Item[], rounds: number): number {
  const chunk = Math.min(CHUNK, rounds), found: number[] = [];
  for (let seed = 0; seed < Math.floor(rounds / chunk); seed++) {
    const random = new Random(BigInt(seed));
    for (let i = 0; i < chunk; i++) {
      found.push(
        aggregation.of(items.map(() => items[Math.floor(random.random() * items.length)])),
      );
    }
  }
  return sampleDeviation(found);
}

/** A metric over all rows; the error is null where there is none to tell. */
export interface Aggregated {
  value: number;
  error: number | null;
}

/**
 * A metric over all rows.
 *
 * @param name One of {@linkcode AGGREGATIONS}.
 * @param rounds Resamples for errors that are told so; 0 for no errors.
 */
export function aggregate(name: string, items: readonly Item[], rounds: number): Aggregated {
  const aggregation = AGGREGATIONS[name];
  const value = aggregation.of(items);
  if (rounds === 0 || items.length < 2 || aggregation.error === "none") {
    return { value, error: null };
  }
  const error = aggregation.error === "mean"
    ? sampleDeviation(items.map(numberOf)) / Math.sqrt(items.length)
    : bootstrapError(aggregation, items, rounds);
  return { value, error };
}
