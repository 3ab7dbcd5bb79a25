/**
 * Where the sixteen numbers of NF4 come from: quantiles of a normal distribution, as bitsandbytes'
 * `create_normal_map` takes them.
 *
 *     ./lorikeet deno run examples/study/nf4_values.ts
 *
 * Source: Dettmers et al., "QLoRA: Efficient Finetuning of Quantized LLMs", 2023, section 3.
 *
 * @module
 */
import { NF4_VALUES } from "../../kernels/ops/weights/nf4_values.ts";
import { grouped, table } from "./numbers.ts";

/** All codes, those above zero, and those below: zero itself has one, too. */
const CODES = 16, ABOVE = 8, BELOW = 7;

/** The middle of the last of 16 equally probable parts is 1/32 from the end, that of 15 parts 1/30. */
export const FROM_END = { sixteen: 2 * CODES, fifteen: 2 * (CODES - 1) };

/** The probability of the largest: the mean of both. */
export const OUTERMOST = 1 - (1 / FROM_END.sixteen + 1 / FROM_END.fifteen) / 2;

/** The probability that a normally distributed number is at most x, by its series around zero. */
export function normalProbability(x: number): number {
  let term = x, sum = x;
  for (let n = 3; Math.abs(term) > 1e-18; n += 2) {
    term *= x * x / n;
    sum += term;
  }
  return 0.5 + sum * Math.exp(-x * x / 2) / Math.sqrt(2 * Math.PI);
}

/** The number that a normally distributed one is below with this probability. */
export function normalQuantile(probability: number): number {
  let low = -6, high = 6;
  for (let step = 0; step < 60; step++) {
    const middle = (low + high) / 2;
    if (normalProbability(middle) < probability) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

/** A code before it is divided by the largest. */
export interface Quantile {
  probability: number;
  quantile: number;
}

const same = (value: number) => value;

/**
 * The sixteen quantiles, ascending: at equal steps of probability from a half to the outermost.
 *
 * @param rounded What becomes of a probability.
 */
function nf4Quantiles(outermost: number, rounded: (value: number) => number): Quantile[] {
  const side = (codes: number) => {
    const step = rounded(rounded(outermost - 0.5) / codes);
    return Array.from({ length: codes }, (_, i) => {
      // As PyTorch's linspace has it, each half from its own end.
      const p = i < codes / 2 ? 0.5 + step * (i + 1) : outermost - step * (codes - 1 - i);
      return rounded(p);
    });
  };
  const below = side(BELOW).reverse().map((p) => ({
    probability: 1 - p,
    quantile: -normalQuantile(p),
  }));
  const above = side(ABOVE).map((p) => ({ probability: p, quantile: normalQuantile(p) }));
  return [...below, { probability: 0.5, quantile: 0 }, ...above];
}

/** The sixteen numbers, in units of a block's largest magnitude. */
export function derivedValues(): number[] {
  const quantiles = nf4Quantiles(OUTERMOST, same).map(({ quantile }) => quantile);
  return quantiles.map((quantile) => quantile / quantiles[CODES - 1]);
}

/** The same as bitsandbytes computes it: the outermost probability written with seven digits, and all else in f32. */
export function roundedValues(): Float32Array {
  const outermost = Math.fround(Number(OUTERMOST.toFixed(7)));
  const quantiles = Float32Array.from(
    nf4Quantiles(outermost, Math.fround),
    ({ quantile }) => quantile,
  );
  return quantiles.map((quantile) => quantile / quantiles[CODES - 1]);
}

/** What the study guide quotes. */
export function lines(): string[] {
  const values = derivedValues();
  const rows = nf4Quantiles(OUTERMOST, same).map(({ probability, quantile }, code) => [
    String(code),
    grouped(probability, 4),
    grouped(quantile, 4),
    grouped(values[code], 6),
    grouped(NF4_VALUES[code], 6),
  ]);
  return table([
    ["code", "probability", "quantile", "over the largest", "NF4 of kernels"],
    ...rows,
  ]);
}

if (import.meta.main) console.log(lines().join("\n"));
