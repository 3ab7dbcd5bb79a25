/** How tokens of several sequences are laid out as one batch. */
import assert from "node:assert/strict";
import { layPieces } from "../../../model/engine/pieces.ts";

const piece = (ids: number[], from: number, base: number, last = true) => ({
  ids,
  from,
  length: from + ids.length,
  base,
  last,
  adapter: base / 100,
});

Deno.test("pieces: keys don't go back, and wanted logits are in the order given", () => {
  // As their rows of steps are, and not as they lie in the cache.
  const pieces = [piece([7], 39, 300), piece([4, 5], 0, 100), piece([6], 2, 200, false)];
  const batch = layPieces([...pieces, piece([8], 1, 0)], {
    slidingWindow: Infinity,
    cached: true,
  });
  assert.deepEqual([...batch.ids], [8, 4, 5, 6, 7]);
  assert.deepEqual([...batch.starts], [0, 100, 100, 200, 300]);
  assert.deepEqual([...batch.ends], [2, 101, 102, 203, 340]);
  assert.deepEqual([...batch.cacheRows ?? []], [1, 100, 101, 202, 339]);
  assert.deepEqual([...batch.adapters ?? []], [0, 1, 1, 2, 3]);
  assert.deepEqual([...batch.targetRows], [4, 2, 0]);
});
