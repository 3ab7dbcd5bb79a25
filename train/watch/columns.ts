/**
 * A run's metrics in columns of numbers, which a hundred thousand steps fill without an object each.
 *
 * @module
 */
import type { LineReader } from "./tail.ts";
import { type Axis, type Metric, METRICS, type RunReport } from "./page/view.ts";

/** Figures of a run's last step, and the sums up to it. */
export type LastStep = Pick<
  RunReport,
  "step" | "tokens" | "seconds" | "epoch" | "skipped" | "loss"
>;

const FIRST_ROOM = 1024;
/** Losses of a step's micro-batches: nothing shows them, and lines without are parsed in three quarters of the time. */
const LOSSES = /"losses":\[[^\]"]*\]/g;

/** A number that a line has; NaN where it has none. */
function number(value: unknown): number {
  return typeof value === "number" ? value : NaN;
}

/** A column for each metric. */
function columnsOf(make: (metric: Metric) => Float32Array): Record<Metric, Float32Array> {
  return Object.fromEntries(METRICS.map((metric) => [metric, make(metric)])) as Record<
    Metric,
    Float32Array
  >;
}

/** The lines of metrics.jsonl. */
export class MetricColumns implements LineReader {
  /** Number of steps. */
  rows = 0;
  /** Lines that are no metrics of a step. */
  unreadable = 0;
  /** Where on each axis the steps are, ascending. */
  axes: Record<Axis, Float64Array> = {
    step: new Float64Array(FIRST_ROOM),
    tokens: new Float64Array(FIRST_ROOM),
    seconds: new Float64Array(FIRST_ROOM),
  };
  metrics = columnsOf(() => new Float32Array(FIRST_ROOM));
  #epoch = new Float32Array(FIRST_ROOM);
  /** Steps skipped so far. */
  #skipped = new Uint32Array(FIRST_ROOM);

  restart(): void {
    this.rows = 0;
    this.unreadable = 0;
  }

  lines(text: string): void {
    for (const line of text.replace(LOSSES, '"losses":[]').split("\n")) {
      if (!this.#add(line)) this.unreadable++;
    }
  }

  /** Figures of the last step, all 0 before there is one; null for what its line does not have. */
  get last(): LastStep {
    const { axes: { step, tokens, seconds }, metrics: { loss } } = this, row = this.rows - 1;
    if (row < 0) return { step: 0, tokens: 0, seconds: 0, epoch: 0, skipped: 0, loss: null };
    const finite = (value: number) => Number.isFinite(value) ? value : null;
    return {
      step: step[row],
      tokens: tokens[row],
      seconds: seconds[row],
      epoch: finite(this.#epoch[row]),
      skipped: this.#skipped[row],
      loss: finite(loss[row]),
    };
  }

  /** The number of steps up to `place` on an axis, those at it included. */
  until(axis: Axis, place: number): number {
    return this.#count(axis, (other) => other <= place);
  }

  /** The number of steps before `place` on an axis. */
  before(axis: Axis, place: number): number {
    return this.#count(axis, (other) => other < place);
  }

  /** The number of steps from the first on whose places are `early`. */
  #count(axis: Axis, early: (place: number) => boolean): number {
    const places = this.axes[axis];
    let low = 0, high = this.rows;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (early(places[middle])) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Adds the step of a line. @returns Whether it is one. */
  #add(text: string): boolean {
    let line: Record<string, unknown>;
    try {
      line = JSON.parse(text);
    } catch {
      return false;
    }
    const step = number(line?.step);
    if (!Number.isSafeInteger(step) || step < 0) return false;
    // A run that went back, whose later lines are still there.
    if (this.rows > 0 && step <= this.axes.step[this.rows - 1]) {
      this.rows = this.before("step", step);
    }
    const row = this.rows;
    if (row === this.#epoch.length) this.#grow();
    const { axes, metrics } = this;
    // Sums stay sums where a line lacks a number.
    const tokens = Math.max(0, number(line.tokens) || 0);
    const seconds = Math.max(0, number(line.seconds) || 0);
    axes.step[row] = step;
    axes.tokens[row] = tokens + (row > 0 ? axes.tokens[row - 1] : 0);
    axes.seconds[row] = seconds + (row > 0 ? axes.seconds[row - 1] : 0);
    for (const metric of METRICS) metrics[metric][row] = number(line[metric]);
    metrics.throughput[row] = seconds > 0 ? tokens / seconds : NaN;
    this.#epoch[row] = number(line.epoch);
    this.#skipped[row] = Number(line.skipped === true) + (row > 0 ? this.#skipped[row - 1] : 0);
    this.rows++;
    return true;
  }

  /** Makes room for as many steps again. */
  #grow(): void {
    const doubled = <T extends Float64Array | Float32Array | Uint32Array>(column: T): T => {
      const larger = new (column.constructor as new (length: number) => T)(2 * column.length);
      larger.set(column);
      return larger;
    };
    const { axes: { step, tokens, seconds }, metrics } = this;
    this.axes = { step: doubled(step), tokens: doubled(tokens), seconds: doubled(seconds) };
    this.metrics = columnsOf((metric) => doubled(metrics[metric]));
    this.#epoch = doubled(this.#epoch);
    this.#skipped = doubled(this.#skipped);
  }
}
