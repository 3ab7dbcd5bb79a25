/**
 * From a run's columns to the curves that a chart has room for.
 *
 * @module
 */
import type { MetricColumns } from "./columns.ts";
import { type Curve, type Curves, type Metric, METRICS, type View } from "./page/view.ts";

/** What the run decides and does not measure: a mean with the past would show what was never so. */
const DECIDED: readonly Metric[] = ["learning_rate", "loss_scale"];

/** The rows that a view shows, and which point each of them belongs to. */
interface Points {
  /** First row, and the one after the last. */
  readonly start: number;
  readonly end: number;
  readonly count: number;
  readonly of: (row: number) => number;
}

/**
 * Moving average of a column, with the bias of its start taken out: the weighted mean of what came before, whose
 * weights fall by `smoothing` a step. Values that are no numbers are left out.
 */
function curve(
  column: Float32Array,
  { start, end, count, of }: Points,
  smoothing: number,
): Curve {
  const low = new Float32Array(count).fill(Infinity);
  const high = new Float32Array(count).fill(-Infinity);
  const sums = new Float64Array(count), counts = new Uint32Array(count);
  let sum = 0, weight = 0;
  for (let row = smoothing > 0 ? 0 : start; row < end; row++) {
    const value = column[row];
    if (!Number.isFinite(value)) continue;
    sum = smoothing * sum + (1 - smoothing) * value;
    weight = smoothing * weight + 1 - smoothing;
    if (row < start) continue;
    const point = of(row);
    if (value < low[point]) low[point] = value;
    if (value > high[point]) high[point] = value;
    sums[point] += sum / weight;
    counts[point]++;
  }
  const line = new Float32Array(count);
  for (let point = 0; point < count; point++) {
    line[point] = sums[point] / counts[point];
    if (counts[point] === 0) low[point] = high[point] = NaN;
  }
  return { low, high, line };
}

/**
 * A run's curves over a view: its steps themselves where there is room for them, else so many points of equal
 * distance, the same for all runs, each with the least, the greatest and the mean value around it. Just outside of the
 * view one step more is taken, so that lines go on to the edge.
 */
export function curvesOf(columns: MetricColumns, view: View): Curves {
  const { axis, points, smoothing } = view, places = columns.axes[axis], { rows } = columns;
  const from = Math.max(view.from, rows > 0 ? places[0] : 0);
  const to = Math.min(view.to, rows > 0 ? places[rows - 1] : 0);
  const start = Math.max(0, columns.before(axis, from) - 1);
  const end = Math.max(start, Math.min(rows, columns.until(axis, to) + 1));
  const exact = end - start <= points;
  // Edges at multiples of a power of two stay where they are when the last step moves on.
  const width = 2 ** Math.ceil(Math.log2((to - from || 1) / points));
  const first = Math.floor(from / width);
  const count = exact ? end - start : Math.floor(to / width) - first + 1;
  const pointOf = (row: number) =>
    Math.max(0, Math.min(count - 1, Math.floor(places[row] / width) - first));
  const chosen: Points = { start, end, count, of: exact ? (row) => row - start : pointOf };
  const x = exact
    ? places.slice(start, end)
    : Float64Array.from({ length: count }, (_, point) => (first + point + 0.5) * width);
  const of = (metric: Metric) =>
    curve(columns.metrics[metric], chosen, DECIDED.includes(metric) ? 0 : smoothing);
  return {
    exact,
    x,
    metrics: Object.fromEntries(METRICS.map((metric) => [metric, of(metric)])) as Record<
      Metric,
      Curve
    >,
  };
}
