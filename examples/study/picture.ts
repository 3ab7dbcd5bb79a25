/**
 * A grey picture of a lorikeet on a branch, drawn by formulas, and pictures side by side as a PNG.
 *
 * @module
 */
import { encode } from "fast-png";
import { Matrix } from "ml-matrix";

/** Pixels along each side. */
export const SIZE = 128;

/** Whether a point is inside an ellipse with half axes a and b, turned by an angle. */
function inside(
  [x, y]: readonly [number, number],
  { x: cx, y: cy, a, b, angle = 0 }: { x: number; y: number; a: number; b: number; angle?: number },
): boolean {
  const [dx, dy] = [x - cx, y - cy];
  const along = dx * Math.cos(angle) + dy * Math.sin(angle);
  const across = dy * Math.cos(angle) - dx * Math.sin(angle);
  return (along / a) ** 2 + (across / b) ** 2 < 1;
}

/** Grey, 0 to 1, of a point of the unit square; y points down. */
function grey(x: number, y: number): number {
  const at = [x, y] as const;
  if (inside(at, { x: 0.665, y: 0.235, a: 0.018, b: 0.018 })) return 0.02; // pupil
  if (inside(at, { x: 0.665, y: 0.235, a: 0.034, b: 0.034 })) return 0.95; // eye
  if (inside(at, { x: 0.775, y: 0.285, a: 0.075, b: 0.042, angle: 0.7 })) return 0.85; // beak
  if (inside(at, { x: 0.65, y: 0.26, a: 0.13, b: 0.12 })) return 0.3; // head
  if (inside(at, { x: 0.41, y: 0.52, a: 0.26, b: 0.085, angle: 2.2 })) {
    return 0.35 + 0.12 * Math.sin(60 * (x + y)); // wing, with feathers
  }
  if (inside(at, { x: 0.5, y: 0.5, a: 0.28, b: 0.165, angle: 2.2 })) {
    return 0.62 + 0.08 * Math.sin(45 * y + 8 * x); // breast
  }
  if (inside(at, { x: 0.27, y: 0.84, a: 0.2, b: 0.04, angle: 2.1 })) return 0.45; // tail
  if (Math.abs(y - 0.74 - 0.08 * x - 0.012 * Math.sin(18 * x)) < 0.028) return 0.15; // branch
  for (const [lx, ly, angle] of [[0.12, 0.6, 0.6], [0.85, 0.68, 2.4], [0.92, 0.9, 0.9]]) {
    if (inside(at, { x: lx, y: ly, a: 0.11, b: 0.035, angle })) return 0.4; // leaves
  }
  return 0.95 - 0.2 * y + 0.04 * Math.sin(9 * x) * Math.cos(7 * y); // sky
}

/** The picture `[SIZE, SIZE]`, each pixel the mean of sixteen points. */
export function picture(): Matrix {
  const points = [1, 3, 5, 7].map((i) => i / 8);
  const rows = Array.from(
    { length: SIZE },
    (_, row) =>
      Array.from({ length: SIZE }, (_, column) => {
        const greys = points.flatMap((dy) =>
          points.map((dx) => grey((column + dx) / SIZE, (row + dy) / SIZE))
        );
        return greys.reduce((sum, value) => sum + value, 0) / greys.length;
      }),
  );
  return new Matrix(rows);
}

/** Pictures of equal height beside each other, white between them, as a PNG. */
export function png(pictures: readonly Matrix[]): Uint8Array {
  const gap = 8, height = pictures[0].rows;
  const width = pictures.reduce((sum, { columns }) => sum + columns + gap, -gap);
  const data = new Uint8Array(width * height).fill(255);
  let left = 0;
  for (const matrix of pictures) {
    for (let row = 0; row < height; row++) {
      for (let column = 0; column < matrix.columns; column++) {
        const value = Math.round(255 * Math.min(1, Math.max(0, matrix.get(row, column))));
        data[row * width + left + column] = value;
      }
    }
    left += matrix.columns + gap;
  }
  return encode({ width, height, data, channels: 1, depth: 8 });
}
