/**
 * The straight line nearest to points, and how near it is.
 *
 * @module
 */
import { Matrix, solve } from "ml-matrix";

/** y ≈ intercept + slope·x. */
export interface LineFit {
  slope: number;
  intercept: number;
  /** Share of y's variance that the line explains: R², 1 where all points are on it. */
  r2: number;
}

/** Ordinary least squares over at least two different x. */
export function fitLine(points: readonly { x: number; y: number }[]): LineFit {
  const y = Matrix.columnVector(points.map((point) => point.y));
  const design = new Matrix(points.map(({ x }) => [1, x]));
  const coefficients = solve(design, y);
  const residuals = Matrix.sub(y, design.mmul(coefficients));
  const variance = Matrix.sub(y, y.mean()).norm() ** 2;
  const [intercept, slope] = coefficients.to1DArray();
  return { slope, intercept, r2: variance === 0 ? 1 : 1 - residuals.norm() ** 2 / variance };
}
