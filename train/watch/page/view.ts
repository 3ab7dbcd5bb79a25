/**
 * What the page asks for and the server answers: the part of a run's curves that a chart shows. Both sides take it
 * from here.
 *
 * @module
 */

/** What a run's steps are laid out by: their numbers, or the sums of their tokens or seconds. */
export const AXES = ["step", "tokens", "seconds"] as const;
export type Axis = typeof AXES[number];

/** What is drawn, by its field in metrics.jsonl; throughput is tokens by seconds. Runs of preferences alone have rewards. */
export const METRICS = [
  "loss",
  "learning_rate",
  "grad_norm",
  "throughput",
  "loss_scale",
  "rewards_accuracies",
  "rewards_margins",
] as const;
export type Metric = typeof METRICS[number];

/** Points of a curve at most. */
export const MOST_POINTS = 2000;

/** The part of a run that is shown, and how. */
export interface View {
  readonly axis: Axis;
  /** First and last place on the axis; infinite for all. */
  readonly from: number;
  readonly to: number;
  /** Points of a curve at most, from 1 to {@linkcode MOST_POINTS}. */
  readonly points: number;
  /** Weight of the past in the moving average, from 0 to 0.999. */
  readonly smoothing: number;
}

/** One metric over `points`: least and greatest value around each, and its moving average. NaN where there is none. */
export interface Curve {
  readonly low: Float32Array;
  readonly high: Float32Array;
  readonly line: Float32Array;
}

/** A run's curves over a view. */
export interface Curves {
  /** Whether each point is one step; else it stands for those around it. */
  readonly exact: boolean;
  readonly x: Float64Array;
  readonly metrics: Readonly<Record<Metric, Curve>>;
}

/** Numbers before the points: how many there are, and whether they are exact. */
const HEADER = 2;
const PARTS = ["low", "high", "line"] as const;

/** Curves as bytes: a header and x in f64, then three rows a metric in f32, in the machine's order of bytes. */
export function encodeCurves({ exact, x, metrics }: Curves): Uint8Array<ArrayBuffer> {
  const count = x.length, start = 8 * (HEADER + count);
  const bytes = new ArrayBuffer(start + 4 * PARTS.length * METRICS.length * count);
  const head = new Float64Array(bytes, 0, HEADER + count);
  head.set([count, Number(exact)]);
  head.set(x, HEADER);
  const rows = new Float32Array(bytes, start);
  METRICS.forEach((metric, i) =>
    PARTS.forEach((part, j) => rows.set(metrics[metric][part], (PARTS.length * i + j) * count))
  );
  return new Uint8Array(bytes);
}

/** The curves that {@linkcode encodeCurves} made bytes of. */
export function decodeCurves(bytes: ArrayBuffer): Curves {
  const [count, exact] = new Float64Array(bytes, 0, HEADER);
  const start = 8 * (HEADER + count);
  const row = (i: number) => new Float32Array(bytes, start + 4 * i * count, count);
  const curve = (_: unknown, i: number): Curve => ({
    low: row(PARTS.length * i),
    high: row(PARTS.length * i + 1),
    line: row(PARTS.length * i + 2),
  });
  const curves = METRICS.map(curve);
  return {
    exact: exact === 1,
    x: new Float64Array(bytes, 8 * HEADER, count),
    metrics: Object.fromEntries(METRICS.map((metric, i) => [metric, curves[i]])) as Record<
      Metric,
      Curve
    >,
  };
}

/** A held-out loss, by where it was measured. */
export interface EvaluationPoint {
  readonly step: number;
  readonly tokens: number;
  readonly seconds: number;
  readonly loss: number;
}

/** Memory of a GPU in MB (10^6 bytes): the greatest sum, and what it was for. */
export interface MemoryUse {
  readonly total: number;
  readonly categories: Readonly<Record<string, number>>;
}

/** How a run is. */
export type RunStatus = "waiting" | "running" | "stopping" | "silent" | "finished" | "missing";

/** What the page knows of a run at once. */
export interface RunReport {
  /** Its number among those watched, from 0 on. */
  readonly id: number;
  readonly name: string;
  readonly status: RunStatus;
  /** Another number whenever anything in its folder changed. */
  readonly version: number;
  /** Steps whose metrics are there, and lines that are none. */
  readonly steps: number;
  readonly unreadable: number;
  readonly step: number;
  readonly epoch: number | null;
  readonly loss: number | null;
  readonly skipped: number;
  readonly tokens: number;
  readonly seconds: number;
  /** Seconds since its metrics changed; null where there are none. */
  readonly age: number | null;
  readonly memory: MemoryUse | null;
  readonly evaluations: readonly EvaluationPoint[];
  /** Steps of the evaluations with answers, the last ones. */
  readonly samples: readonly number[];
}

/** What the page knows of all runs. */
export interface Report {
  /** Whether more is being read right now. */
  readonly reading: boolean;
  readonly runs: readonly RunReport[];
}

/** A prompt of an evaluation and the model's answer. */
export interface SampleAnswer {
  readonly prompt: string;
  readonly answer: string;
  /** What the data have as the answer; absent where nobody knows. */
  readonly expected?: string;
}
