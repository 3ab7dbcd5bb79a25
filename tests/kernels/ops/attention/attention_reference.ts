/** Attention in float64, for the tests of its programs. */

export interface Shape {
  heads: number;
  kvHeads: number;
  headDim: number;
  /** What scores are capped to, if they are. */
  softcap?: number;
}

/** A score that may be capped. */
export function capped(score: number, { softcap }: Shape): number {
  return softcap === undefined ? score : softcap * Math.tanh(score / softcap);
}

/** Keys of each query: the first, and one past the last. */
export interface KeyRanges {
  starts: number[];
  ends: number[];
  /** Keys in between that a query does not attend to, from and to; by query. */
  excludedKeys?: [from: number, to: number][];
}

/** Whether key j of its range is one that query i attends to. */
export function isKey({ excludedKeys }: KeyRanges, i: number, j: number): boolean {
  return excludedKeys === undefined || j < excludedKeys[i][0] || j >= excludedKeys[i][1];
}

/** out and lse in float64. */
export function attentionReference(
  q: Float64Array,
  k: Float64Array,
  v: Float64Array,
  keyRanges: KeyRanges,
  shape: Shape,
): { out: Float64Array; lse: Float64Array } {
  const { heads, kvHeads, headDim } = shape;
  const { starts, ends } = keyRanges, rows = starts.length, out = new Float64Array(q.length);
  const lse = new Float64Array(rows * heads);
  for (let i = 0; i < rows; i++) {
    for (let h = 0; h < heads; h++) {
      const kvHead = Math.floor(h / (heads / kvHeads)), to = (i * heads + h) * headDim;
      const scores: number[] = [];
      for (let j = starts[i]; j < ends[i]; j++) {
        let sum = 0;
        for (let c = 0; c < headDim; c++) {
          sum += q[to + c] * k[(j * kvHeads + kvHead) * headDim + c];
        }
        const score = capped(sum / Math.sqrt(headDim), shape);
        scores.push(isKey(keyRanges, i, j) ? score : -Infinity);
      }
      const top = Math.max(...scores);
      const total = scores.reduce((sum, s) => sum + Math.exp(s - top), 0);
      lse[i * heads + h] = top + Math.log(total);
      scores.forEach((s, n) => {
        const p = Math.exp(s - top) / total, from = ((starts[i] + n) * kvHeads + kvHead) * headDim;
        for (let c = 0; c < headDim; c++) out[to + c] += p * v[from + c];
      });
    }
  }
  return { out, lse };
}
