/**
 * The straight line nearest to points, and how near it is.
 *
 * @module
 */

/** y ≈ intercept + slope·x. */
export interface LineFit {
  slope: number;
  intercept: number;
  /** Share of y's variance that the line explains: R², 1 where all points are on it. */
  r2: number;
}

/** Ordinary least squares over at least two different x. */
export function fitLine(points: readonly { x: number; y: number }[]): LineFit {
  const mean = (of: (point: { x: number; y: number }) => number) =>
    points.reduce((sum, point) => sum + of(point), 0) / points.length;
  const x0 = mean(({ x }) => x), y0 = mean(({ y }) => y);
  const slope = mean(({ x, y }) => (x - x0) * (y - y0)) / mean(({ x }) => (x - x0) ** 2);
  const intercept = y0 - slope * x0;
  const variance = mean(({ y }) => (y - y0) ** 2);
  const left = mean(({ x, y }) => (y - intercept - slope * x) ** 2);
  return { slope, intercept, r2: variance === 0 ? 1 : 1 - left / variance };
}
