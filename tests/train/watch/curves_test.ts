/** From lines of metrics to what a chart shows. */
import assert from "node:assert/strict";
import { MetricColumns } from "../../../train/watch/columns.ts";
import { curvesOf } from "../../../train/watch/curves.ts";
import { decodeCurves, encodeCurves, METRICS, type View } from "../../../train/watch/page/view.ts";
import { metricsLine } from "./run_files.ts";

const ALL: View = { axis: "step", from: -Infinity, to: Infinity, points: 100, smoothing: 0 };

/** Columns of steps whose losses are these, from step 1 on. */
function columnsOf(losses: readonly (number | null)[]): MetricColumns {
  const columns = new MetricColumns();
  columns.lines(losses.map((loss, i) => metricsLine(i + 1, { loss }).trim()).join("\n"));
  return columns;
}

/** Losses without a pattern that points could hide. */
const losses = Array.from({ length: 5000 }, (_, i) => Math.fround((i * 7919 % 1009) / 7));

Deno.test("watch columns: sums, last figures and lines that are none", () => {
  const columns = new MetricColumns();
  columns.lines([
    metricsLine(1).trim(),
    '{"step":',
    "null",
    "[]",
    '{"step":1.5}',
    metricsLine(2, { skipped: true, loss: null, grad_norm: "x", tokens: null }).trim(),
  ].join("\n"));
  assert.equal(columns.rows, 2);
  assert.equal(columns.unreadable, 4);
  assert.deepEqual(columns.last, {
    step: 2,
    tokens: 100,
    seconds: 0.5,
    epoch: Math.fround(0.02),
    skipped: 1,
    loss: null,
  });
  assert.deepEqual([...columns.metrics.grad_norm.slice(0, 2)], [0.5, NaN]);
  assert.equal(columns.metrics.throughput[0], 400);
});

Deno.test("watch columns: a run that went back takes its later steps along", () => {
  const columns = columnsOf([1, 2, 3, 4]);
  columns.lines(metricsLine(3, { loss: 9 }).trim());
  assert.deepEqual([...columns.metrics.loss.slice(0, columns.rows)], [1, 2, 9]);
  assert.equal(columns.last.tokens, 300);
});

Deno.test("watch curves: few steps are shown one by one", () => {
  const { exact, x, metrics: { loss } } = curvesOf(columnsOf([3, null, 2]), ALL);
  assert.ok(exact);
  assert.deepEqual([...x], [1, 2, 3]);
  for (const part of [loss.low, loss.high, loss.line]) assert.deepEqual([...part], [3, NaN, 2]);
});

Deno.test("watch curves: of many steps every point has the least, the greatest and the mean", () => {
  const columns = columnsOf(losses);
  for (const points of [1, 7, 100, 999]) {
    const { exact, x, metrics: { loss } } = curvesOf(columns, { ...ALL, points });
    assert.ok(!exact);
    assert.ok(x.length <= points + 1 && x.length >= points / 2, `${x.length} of ${points}`);
    const width = x.length > 1 ? x[1] - x[0] : Infinity;
    for (const [point, place] of x.entries()) {
      const own = losses.filter((_, i) =>
        width === Infinity || Math.floor((i + 1) / width) === Math.floor(place / width)
      );
      assert.equal(loss.low[point], Math.min(...own));
      assert.equal(loss.high[point], Math.max(...own));
      const mean = own.reduce((sum, value) => sum + value, 0) / own.length;
      assert.ok(Math.abs(loss.line[point] - mean) <= 1e-5 * mean);
    }
  }
});

Deno.test("watch curves: a part that has room is exact, one step beyond its ends", () => {
  const view = { ...ALL, from: 1000, to: 1050 };
  const { exact, x, metrics: { loss } } = curvesOf(columnsOf(losses), view);
  assert.ok(exact);
  assert.deepEqual([...x], Array.from({ length: 53 }, (_, i) => 999 + i));
  assert.deepEqual([...loss.line], losses.slice(998, 1051));
});

Deno.test("watch curves: the moving average has no bias at its start and skips what is no number", () => {
  const values = [4, 1, null, 7, 2], smoothing = 0.5;
  const { metrics: { loss } } = curvesOf(columnsOf(values), { ...ALL, smoothing });
  const expected = values.map((_, i) => {
    const past = values.slice(0, i + 1).filter((value) => value !== null).reverse();
    const weights = past.map((_, age) => smoothing ** age);
    const sum = past.reduce((sum, value, age) => sum + value * weights[age], 0);
    return values[i] === null ? NaN : Math.fround(sum / weights.reduce((a, b) => a + b, 0));
  });
  assert.deepEqual([...loss.line], expected);
  assert.deepEqual([...loss.low], values.map((value) => value ?? NaN));
  const scales = new MetricColumns();
  scales.lines(
    [8, 4, 4].map((loss_scale, i) => metricsLine(i + 1, { loss_scale }).trim()).join("\n"),
  );
  const { metrics: { loss_scale } } = curvesOf(scales, { ...ALL, smoothing });
  assert.deepEqual([...loss_scale.line], [8, 4, 4], "what the run decides has no mean");
});

Deno.test("watch curves: by tokens and by time, and where there is nothing", () => {
  const columns = columnsOf([1, 2, 3]);
  assert.deepEqual([...curvesOf(columns, { ...ALL, axis: "tokens" }).x], [100, 200, 300]);
  assert.deepEqual([...curvesOf(columns, { ...ALL, axis: "seconds" }).x], [0.25, 0.5, 0.75]);
  assert.equal(curvesOf(new MetricColumns(), ALL).x.length, 0);
  const still = new MetricColumns();
  still.lines([1, 2, 3].map((step) => metricsLine(step, { tokens: 0 }).trim()).join("\n"));
  const { x, metrics } = curvesOf(still, { ...ALL, axis: "tokens", points: 2 });
  assert.deepEqual([x.length, metrics.loss.high[0]], [1, 2]);
  for (const [from, to] of [[1e300, 1e301], [-5, -4], [1e9, Infinity], [2, 2]]) {
    assert.ok(curvesOf(columns, { ...ALL, from, to, points: 1 }).x.length <= 2, `${from} ${to}`);
  }
});

Deno.test("watch curves: the page gets what the server has", () => {
  const curves = curvesOf(columnsOf(losses), { ...ALL, points: 33, smoothing: 0.9 });
  assert.deepEqual(decodeCurves(encodeCurves(curves).buffer), curves);
  assert.deepEqual(Object.keys(curves.metrics), [...METRICS]);
});
