/**
 * How time and memory of a training step grow with its tokens: each step is one row of so many, packed from
 * samples of usual length.
 *
 * @module
 */
import { megabytes } from "../kernels/gpu/memory.ts";
import { median } from "../kernels/measure/timing.ts";
import { noteLine } from "../kernels/terminal.ts";
import { planMemory } from "../model/transformer/capacity.ts";
import { contextLength } from "../model/families/config.ts";
import { supervisedTokens } from "../model/text/prompt.ts";
import { type AccumulationWindow, PassPlanner } from "../train/planner.ts";
import { fitLine, type LineFit } from "./line_fit.ts";
import { randomRow } from "./samples.ts";
import { trainingFlops } from "./train_flops.ts";
import { type Bench, makeTrainer, openTrainer, stepSeconds } from "./train_run.ts";

/** Timed steps of each length: at least and at most, and the seconds after which there are enough. */
const STEPS = { least: 2, most: 5, seconds: 2 };
/** Tokens of one sample at most, as in the course's run. */
const LONGEST = 512;

/** One line of the result; memory in MB (2^20 bytes). */
export interface ScalingRow {
  tokens: number;
  /** Of one step, the median. */
  seconds: number;
  tokens_per_second: number;
  useful_tflops_per_second: number;
  /** Of a run with steps of this length: what it plans, which is what it allocates. */
  memory_mb: number;
}

/** The rows, and the straight lines through them. */
export interface Scaling {
  rows: ScalingRow[];
  seconds_fit: LineFit;
  memory_fit: LineFit;
  /** Most that was allocated: the plan of the longest step. */
  peak_memory_mb: number;
}

/** Times steps of each of these lengths with one set of weights. */
export async function benchScaling(given: Bench, lengths: readonly number[]): Promise<Scaling> {
  // Every token of a length is to be computed.
  const bench = { ...given, config: { ...given.config, share_prefixes: false } };
  const { gpu, source: { config }, config: { lora } } = bench;
  const limit = Math.min(LONGEST, contextLength(config));
  const windows = lengths.map((
    tokens,
  ): AccumulationWindow => [randomRow(tokens, config.vocab_size, limit)]);
  const sizesOf = (windows: readonly AccumulationWindow[]) => ({
    ...PassPlanner.of(bench.config, config).sizes(windows),
    maxMicroBatches: 1,
  });
  const trainer = await openTrainer(bench, sizesOf(windows));
  const rows: ScalingRow[] = [];
  for (const [i, tokens] of lengths.entries()) {
    const window = windows[i], times: number[] = [];
    await trainer.precompile(gpu, [window]);
    await stepSeconds(gpu, trainer, window); // the first one touches new memory
    const began = performance.now();
    while (
      times.length < STEPS.least ||
      times.length < STEPS.most && performance.now() - began < 1000 * STEPS.seconds
    ) times.push(await stepSeconds(gpu, trainer, window));
    const documents = window[0].map(({ ids }) => ids.length), seconds = median(times);
    const targets = window[0].reduce((sum, sample) => sum + supervisedTokens(sample), 0);
    const flops = trainingFlops(config, { documents, targets, lora });
    const plan = planMemory(gpu.memory.limits, makeTrainer(bench, sizesOf([window])));
    noteLine(`${tokens} tokens: ${seconds.toFixed(3)} s`);
    rows.push({
      tokens,
      seconds,
      tokens_per_second: tokens / seconds,
      useful_tflops_per_second: flops / seconds / 1e12,
      memory_mb: megabytes(plan.peakTotal),
    });
  }
  const fit = (field: "seconds" | "memory_mb") =>
    fitLine(rows.map((row) => ({ x: row.tokens, y: row[field] })));
  return {
    rows,
    seconds_fit: fit("seconds"),
    memory_fit: fit("memory_mb"),
    peak_memory_mb: megabytes(gpu.memory.peakTotal),
  };
}

/** `12.3 + 0.0456·tokens, R² 0.99987`. */
function describeFit({ slope, intercept, r2 }: LineFit): string {
  const [a, b] = [intercept, slope].map((value) => value.toPrecision(4));
  return `${a} + ${b} · tokens, R² = ${r2.toFixed(5)}`;
}

/** A table for people. */
export function scalingLines({ rows, seconds_fit, memory_fit }: Scaling): string[] {
  const cells = (texts: readonly string[]) => texts.map((text) => text.padStart(14)).join("");
  return [
    cells(["tokens", "ms a step", "tokens/s", "TFLOP/s", "memory (MB)"]),
    ...rows.map((row) =>
      cells([
        String(row.tokens),
        (1000 * row.seconds).toFixed(1),
        row.tokens_per_second.toFixed(0),
        row.useful_tflops_per_second.toFixed(3),
        row.memory_mb.toFixed(1),
      ])
    ),
    `seconds: ${describeFit(seconds_fit)}`,
    `MB: ${describeFit(memory_fit)}`,
  ];
}

/** Two plots side by side: time and memory against tokens, each with its straight line. */
export async function plotScaling(path: string, title: string, scaling: Scaling): Promise<void> {
  const { linePlots } = await import("./plot.ts");
  const ends = [Math.min, Math.max].map((end) => end(...scaling.rows.map(({ tokens }) => tokens)));
  const panel = (field: "seconds" | "memory_mb", { slope, intercept, r2 }: LineFit) => ({
    xTitle: "tokens in a step",
    yTitle: field === "seconds" ? "seconds" : "memory, MB",
    series: [
      {
        name: "measured",
        points: scaling.rows.map((row) => ({ x: row.tokens, y: row[field] })),
        shape: "points" as const,
      },
      {
        name: `straight line, R² = ${r2.toFixed(4)}`,
        points: ends.map((x) => ({ x, y: intercept + slope * x })),
        shape: "line" as const,
      },
    ],
  });
  const panels = [panel("seconds", scaling.seconds_fit), panel("memory_mb", scaling.memory_fit)];
  await Deno.writeTextFile(path, await linePlots(title, panels));
}
