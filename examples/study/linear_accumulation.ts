/**
 * Gradient accumulation for a linear model in float64: 32 samples at once against mini-batches of 8,
 * and against mini-batches of different sizes.
 *
 *     ./lorikeet deno run examples/study/linear_accumulation.ts
 *
 * @module
 */
import { sum, table, uniform } from "./numbers.ts";

const W = 0.5, B = 0.25;

/** Inputs and targets of so many samples: noise around y = 2x − 1. */
function samples(count: number): { x: number; y: number }[] {
  const next = uniform(1);
  return Array.from({ length: count }, () => {
    const x = next();
    return { x, y: 2 * x - 1 + 0.3 * next() };
  });
}

/** ∂/∂w of the mean over a batch of (w·x + b − y)². */
function gradient(batch: readonly { x: number; y: number }[]): number {
  return sum(batch.length, (i) => 2 * (W * batch[i].x + B - batch[i].y) * batch[i].x) /
    batch.length;
}

/** Samples cut into batches of these sizes. */
function cut<T>(all: readonly T[], sizes: readonly number[]): T[][] {
  let first = 0;
  return sizes.map((size) => all.slice(first, first += size));
}

/** The gradient of one batch, and what accumulation makes of it. */
export interface LinearGradients {
  /** One batch of 32. */
  whole: number;
  /** Four mini-batches of 8, their gradients added up. */
  added: number;
  /** The same with every loss divided by 4. */
  divided: number;
  /** Mini-batches of 8, 8, 8, 4 and 4, every loss divided by 5. */
  unequal: number;
  /** The same with every loss weighted by its share of the samples. */
  weighted: number;
}

/** Computes all of them. */
export function linearGradients(): LinearGradients {
  const all = samples(32);
  const four = cut(all, [8, 8, 8, 8]), five = cut(all, [8, 8, 8, 4, 4]);
  return {
    whole: gradient(all),
    added: sum(4, (j) => gradient(four[j])),
    divided: sum(4, (j) => gradient(four[j]) / 4),
    unequal: sum(5, (j) => gradient(five[j]) / 5),
    weighted: sum(5, (j) => gradient(five[j]) * five[j].length / all.length),
  };
}

/** What the study guide quotes. */
export function lines(gradients: LinearGradients): string[] {
  const row = (what: string, value: number) => [
    what,
    value.toFixed(6),
    (value / gradients.whole).toFixed(6),
  ];
  return table([
    ["batches", "∂L/∂w", "of the first"],
    row("one of 32", gradients.whole),
    row("8 + 8 + 8 + 8, added", gradients.added),
    row("8 + 8 + 8 + 8, losses divided by 4", gradients.divided),
    row("8 + 8 + 8 + 4 + 4, losses divided by 5", gradients.unequal),
    row("8 + 8 + 8 + 4 + 4, losses times size / 32", gradients.weighted),
  ]);
}

if (import.meta.main) console.log(lines(linearGradients()).join("\n"));
