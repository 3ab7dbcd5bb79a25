/**
 * The truncated singular value decomposition W ≈ U_k·S_k·V_kᵀ, by ml-matrix, and the errors of
 * approximations.
 *
 * @module
 */
import { Matrix, SingularValueDecomposition } from "ml-matrix";
import { norm, sum } from "./numbers.ts";

/** W = U·diag(S)·Vᵀ with singular values in falling order: U `[rows, n]`, S `[n]`, V `[columns, n]`. */
export interface Svd {
  u: Matrix;
  s: number[];
  v: Matrix;
}

/** Decomposes a matrix `[rows, columns]`. */
export function decompose(w: Matrix): Svd {
  const svd = new SingularValueDecomposition(w, { autoTranspose: true });
  return { u: svd.leftSingularVectors, s: svd.diagonal, v: svd.rightSingularVectors };
}

/**
 * Two factors whose product is the best approximation of rank k: A = U_k·√S_k `[rows, k]` and
 * B = √S_k·V_kᵀ `[k, columns]`.
 */
export function factors({ u, s, v }: Svd, k: number): { a: Matrix; b: Matrix } {
  const root = Matrix.diag(s.slice(0, k).map(Math.sqrt));
  return {
    a: u.subMatrix(0, u.rows - 1, 0, k - 1).mmul(root),
    b: root.mmul(v.subMatrix(0, v.rows - 1, 0, k - 1).transpose()),
  };
}

/** The approximation of rank k. */
export function truncated(svd: Svd, k: number): Matrix {
  const { a, b } = factors(svd, k);
  return a.mmul(b);
}

/** ‖W − approximation‖ in Frobenius' norm, relative to ‖W‖. */
export function relativeError(w: Matrix, approximation: Matrix): number {
  return norm(Matrix.sub(w, approximation).to1DArray()) / norm(w.to1DArray());
}

/** What the dropped singular values say that error is: √(Σ_{i>k} σᵢ² / Σ σᵢ²). */
export function droppedError(s: readonly number[], k: number): number {
  const dropped = sum(s.length - k, (i) => s[k + i] ** 2);
  return Math.sqrt(dropped / sum(s.length, (i) => s[i] ** 2));
}

/** The best approximation whose columns lie in the span of a basis `[rows, k]` of any k vectors. */
export function projected(w: Matrix, basis: Matrix): Matrix {
  const { u, s } = decompose(basis);
  const k = s.filter((value) => value > 1e-12 * s[0]).length;
  const q = u.subMatrix(0, u.rows - 1, 0, k - 1);
  return q.mmul(q.transpose().mmul(w));
}
