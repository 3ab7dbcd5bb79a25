/**
 * Tokens of several sequences as one batch: end to end, each token attending to its own sequence alone.
 *
 * @module
 */
import type { Tensor } from "../../kernels/gpu/tensor.ts";
import type { Batch } from "../transformer/batch.ts";

/** Tokens of one sequence that a pass computes. */
export interface PromptPiece {
  /** As {@linkcode Batch.ids}. */
  ids: ArrayLike<number>;
  /** Position of the first. */
  from: number;
  /** Tokens of the whole sequence, those of other pieces included. */
  length: number;
  /** First row of the sequence in the cache. */
  base: number;
  /** Whether its last token's logits are wanted. */
  last: boolean;
  /** The adapter of its sequence, counted from 1; 0 for none. */
  adapter: number;
}

/**
 * Pieces laid end to end, in the order in which their sequences lie in the cache; the wanted logits are in the order
 * given. `slidingWindow`: most keys a token sees. `history`: as in {@linkcode Batch}.
 */
export function layPieces(
  pieces: readonly PromptPiece[],
  { slidingWindow, cached, history }: { slidingWindow: number; cached: boolean; history?: Tensor },
): Batch {
  const tokens = pieces.reduce((sum, { ids }) => sum + ids.length, 0);
  const column = () => new Uint32Array(tokens);
  const batch = {
    ids: column(),
    positions: column(),
    lengths: column(),
    starts: column(),
    ends: column(),
    queryEnds: column().fill(tokens),
    cacheRows: cached ? column() : undefined,
    adapters: column(),
  };
  // Attention wants ranges of keys that don't go back: sequences may lie in another order than their rows.
  const inOrder = pieces.toSorted((one, other) => one.base - other.base);
  const lastRows = new Map<PromptPiece, number>();
  let row = 0;
  for (const piece of inOrder) {
    const { ids, from, length, base, adapter } = piece;
    // The row of the sequence's first key, where this pass looks for keys.
    const firstKey = cached ? base : row;
    for (let i = 0; i < ids.length; i++) {
      const position = from + i;
      batch.ids[row] = ids[i];
      batch.positions[row] = position;
      batch.lengths[row] = length;
      batch.starts[row] = firstKey + Math.max(0, position + 1 - slidingWindow);
      batch.ends[row] = firstKey + position + 1;
      batch.adapters[row] = adapter;
      if (batch.cacheRows) batch.cacheRows[row] = base + position;
      row++;
    }
    if (piece.last) lastRows.set(piece, row - 1);
  }
  const targetRows = pieces.flatMap((piece) => lastRows.get(piece) ?? []);
  const targetCount = targetRows.length;
  return {
    ...batch,
    tokens,
    targetCount,
    targetRows: Uint32Array.from(targetRows),
    targets: new Uint32Array(targetCount),
    weights: new Float32Array(targetCount),
    lossGroups: [],
    history,
  };
}
