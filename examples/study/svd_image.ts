/**
 * Truncated SVD of a picture against other approximations of the same rank, and of matrices that it
 * suits well or badly. With a file name it writes the picture at every rank as a PNG.
 *
 *     ./lorikeet deno run examples/study/svd_image.ts
 *     ./lorikeet deno run --allow-write examples/study/svd_image.ts docs/study/ranks.png
 *
 * Source: Eckart and Young, "The approximation of one matrix by another of lower rank", 1936.
 *
 * @module
 */
import { Matrix } from "ml-matrix";
import { table, uniform } from "./numbers.ts";
import { picture, png, SIZE } from "./picture.ts";
import { decompose, droppedError, projected, relativeError, truncated } from "./svd.ts";

/** Ranks that are compared. */
export const RANKS = [1, 4, 16, 64];

/** Errors of one rank, relative to the picture in Frobenius' norm. */
export interface RankErrors {
  k: number;
  /** Of the truncated SVD, and what its dropped singular values say. */
  svd: number;
  dropped: number;
  /** Of projections on k columns of the picture, on k cosines, and on k random directions. */
  columns: number;
  cosines: number;
  random: number;
}

/** k columns of the picture, evenly spread. */
function spreadColumns(w: Matrix, k: number): Matrix {
  const chosen = Array.from({ length: k }, (_, i) => Math.floor((i + 0.5) * w.columns / k));
  return w.subMatrixColumn(chosen);
}

/** The first k vectors of the cosine transform. */
function cosines(rows: number, k: number): Matrix {
  const cosine = (row: number, i: number) => Math.cos(Math.PI * (row + 0.5) * i / rows);
  return new Matrix(
    Array.from({ length: rows }, (_, row) => Array.from({ length: k }, (_, i) => cosine(row, i))),
  );
}

/** Random directions. */
function randomMatrix(rows: number, columns: number, seed: number): Matrix {
  const next = uniform(seed);
  return new Matrix(
    Array.from({ length: rows }, () => Array.from({ length: columns }, next)),
  );
}

/** Errors of the picture's approximations. */
export function rankErrors(w: Matrix = picture()): RankErrors[] {
  const svd = decompose(w);
  return RANKS.map((k) => ({
    k,
    svd: relativeError(w, truncated(svd, k)),
    dropped: droppedError(svd.s, k),
    columns: relativeError(w, projected(w, spreadColumns(w, k))),
    cosines: relativeError(w, projected(w, cosines(w.rows, k))),
    random: relativeError(w, projected(w, randomMatrix(w.rows, k, k))),
  }));
}

/** Relative errors at rank 16 of square matrices of the picture's size. */
export function kindErrors(w: Matrix = picture()): { name: string; error: number }[] {
  const k = 16;
  const error = (w: Matrix) => droppedError(decompose(w).s, k);
  const factors = randomMatrix(SIZE, k, 3).mmul(randomMatrix(k, SIZE, 5));
  return [
    { name: "a product of rank 16", error: error(factors) },
    { name: "the picture", error: error(w) },
    { name: "noise", error: error(randomMatrix(SIZE, SIZE, 9)) },
    { name: "the identity", error: error(Matrix.eye(SIZE)) },
  ];
}

/** What the study guide quotes of the ranks. */
export function rankLines(errors: readonly RankErrors[]): string[] {
  return table([
    ["rank k", "truncated SVD", "dropped σ", "k columns", "k cosines", "k random directions"],
    ...errors.map(({ k, ...rest }) => [
      String(k),
      ...[rest.svd, rest.dropped, rest.columns, rest.cosines, rest.random]
        .map((error) => error.toFixed(4)),
    ]),
  ]);
}

/** What the study guide quotes of the kinds of matrices. */
export function kindLines(errors: readonly { name: string; error: number }[]): string[] {
  return table([
    [`${SIZE} × ${SIZE}, k = 16`, "relative error"],
    ...errors.map(({ name, error }) => [name, error.toFixed(4)]),
  ]);
}

/** The picture at every rank, and itself, as a PNG. */
export function figure(): Uint8Array {
  const w = picture(), svd = decompose(w);
  return png([...RANKS.map((k) => truncated(svd, k)), w]);
}

if (import.meta.main) {
  console.log([...rankLines(rankErrors()), "", ...kindLines(kindErrors())].join("\n"));
  if (Deno.args.length > 0) Deno.writeFileSync(Deno.args[0], figure());
}
