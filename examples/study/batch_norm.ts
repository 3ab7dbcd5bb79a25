/**
 * Batch normalisation breaks gradient accumulation, RMSNorm does not: one layer y = w·norm(x) with a
 * squared loss in float64, 32 samples at once against four mini-batches of 8 whose losses are divided
 * by 4.
 *
 *     ./lorikeet deno run examples/study/batch_norm.ts
 *
 * Sources: Ioffe and Szegedy, "Batch Normalization", 2015; Zhang and Sennrich, "Root Mean Square
 * Layer Normalization", 2019.
 *
 * @module
 */
import { sum, table, uniform } from "./numbers.ts";

const W = 0.5, EPS = 1e-5, BATCH = 32, PARTS = 4;

/** Two features and a target. */
type Sample = [x0: number, x1: number, y: number];
/** Replaces the first feature of each sample of a batch by its normalised value. */
type Norm = (batch: readonly Sample[]) => number[];

/** Every feature by mean and variance over the batch: a sample's value depends on its neighbours. */
const batchNorm: Norm = (batch) => {
  const mean = sum(batch.length, (i) => batch[i][0]) / batch.length;
  const variance = sum(batch.length, (i) => (batch[i][0] - mean) ** 2) / batch.length;
  return batch.map(([x]) => (x - mean) / Math.sqrt(variance + EPS));
};

/** Every sample by the root mean square of its own features, as Llama does. */
const rmsNorm: Norm = (batch) => batch.map(([a, b]) => a / Math.sqrt((a * a + b * b) / 2 + EPS));

/** ∂/∂w of the mean over a batch of (w·norm(x) − y)². */
function gradient(batch: readonly Sample[], norm: Norm): number {
  const x = norm(batch);
  return sum(batch.length, (i) => 2 * (W * x[i] - batch[i][2]) * x[i]) / batch.length;
}

/** Gradients of one batch and of accumulated mini-batches, and the first sample's normalised value. */
export interface NormComparison {
  whole: number;
  accumulated: number;
  firstInWhole: number;
  firstInPart: number;
}

function compare(norm: Norm): NormComparison {
  const next = uniform(7);
  // A batch that drifts, as data in some order does: its parts have different means.
  const all = Array.from(
    { length: BATCH },
    (_, i): Sample => [next() + i / 8, next(), 3 * next()],
  );
  const size = BATCH / PARTS;
  const part = (j: number) => all.slice(j * size, (j + 1) * size);
  return {
    whole: gradient(all, norm),
    accumulated: sum(PARTS, (j) => gradient(part(j), norm) / PARTS),
    firstInWhole: norm(all)[0],
    firstInPart: norm(part(0))[0],
  };
}

/** Both layers on the same samples. */
export function normComparisons(): { batchNorm: NormComparison; rmsNorm: NormComparison } {
  return { batchNorm: compare(batchNorm), rmsNorm: compare(rmsNorm) };
}

/** What the study guide quotes. */
export function lines({ batchNorm, rmsNorm }: ReturnType<typeof normComparisons>): string[] {
  const row = (what: string, { whole, accumulated, firstInWhole, firstInPart }: NormComparison) => [
    what,
    ...[firstInWhole, firstInPart, whole, accumulated].map((value) => value.toFixed(4)),
    (accumulated / whole).toFixed(4),
  ];
  return table([
    ["", "x̂₁ of 32", "x̂₁ of 8", "∂L/∂w of 32", "4 × 8", "ratio"],
    row("batch normalisation", batchNorm),
    row("RMSNorm", rmsNorm),
  ]);
}

if (import.meta.main) console.log(lines(normComparisons()).join("\n"));
