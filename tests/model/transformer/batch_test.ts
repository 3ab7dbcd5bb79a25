import assert from "node:assert/strict";
import { archSpec } from "../../../model/families/config.ts";
import { presetConfig } from "../../../model/families/presets.ts";
import { attendedPairs, type Document, makeBatch } from "../../../model/transformer/batch.ts";
import { narrowestWindow, widestWindow } from "../../../model/transformer/layers.ts";
import { targetsAfter } from "../../../model/text/targets.ts";

const document = (ids: number[], rest: Partial<Document> = {}): Document => ({
  ids: Uint32Array.from(ids),
  targets: targetsAfter(3, ids),
  weight: 1,
  ...rest,
});
const head = document([1, 2, 3, 4]), other = document([9, 8, 7, 6], { slot: 1 });
const follower = document([1, 2, 5, 6, 7], { shared: 2, weight: 0.5 });
const last = document([1, 2, 3, 8], { shared: 2, slot: 1 });

Deno.test("a batch: documents that share rows attend to those and to their own", () => {
  // A sliding window that cuts no document changes nothing, however far the shared rows are.
  for (const slidingWindow of [null, 5]) {
    const batch = makeBatch([head, follower, last, other], slidingWindow);
    assert.equal(batch.tokens, 13);
    assert.deepEqual([...batch.ids], [1, 2, 3, 4, 5, 6, 7, 3, 8, 9, 8, 7, 6]);
    assert.deepEqual([...batch.positions], [0, 1, 2, 3, 2, 3, 4, 2, 3, 0, 1, 2, 3]);
    assert.deepEqual([...batch.starts], [0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 9, 9, 9]);
    assert.deepEqual([...batch.ends], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
    assert.deepEqual([...batch.queryEnds], [9, 9, 4, 4, 7, 7, 7, 9, 9, 13, 13, 13, 13]);
    const excluded = Array.from(
      { length: 13 },
      (_, i) => [...batch.excludedKeys!.slice(2 * i, 2 * i + 2)],
    );
    const none = [0, 0];
    assert.deepEqual(excluded, [
      ...[none, none, none, none],
      ...[[2, 4], [2, 4], [2, 4], [2, 7], [2, 7]],
      ...[none, none, none, none],
    ]);
    assert.equal(attendedPairs(batch), 10 + (3 + 4 + 5) + (3 + 4) + 10);
  }
});

Deno.test("sliding windows: of layers with several, batches have the widest, and samples share within the narrowest", () => {
  const spec = archSpec(presetConfig("tiny")), [layer] = spec.layers;
  const windows = (...windows: (number | null)[]) => {
    const made = { ...spec, layers: windows.map((window) => ({ ...layer, window })) };
    return [widestWindow(made), narrowestWindow(made)];
  };
  assert.deepEqual(windows(null, null), [null, null]);
  assert.deepEqual(windows(4, 4), [4, 4]);
  assert.deepEqual(windows(4, null, 4), [null, 4]);
  assert.deepEqual(windows(4, 16, 8), [16, 4]);
});

Deno.test("a batch: targets go by slot, wherever their documents lie", () => {
  const batch = makeBatch([other, head, last, follower].map((one) => ({ ...one, shared: 0 })));
  // Two of slot 0 and two of slot 1, apart from each other.
  assert.deepEqual([...batch.targetRows], [6, 14, 15, 2, 10]);
  assert.deepEqual([...batch.targets], [4, 6, 7, 6, 8]);
  assert.deepEqual([...batch.weights], [1, 0.5, 0.5, 1, 1]);
  assert.deepEqual(batch.lossGroups, [
    { slot: 0, firstRow: 0, rows: 3 },
    { slot: 1, firstRow: 3, rows: 2 },
  ]);
  assert.equal(batch.targetCount, 5);
  assert.equal(batch.excludedKeys, undefined);
  // Targets of a document that shares rows lie in its own.
  assert.deepEqual([...makeBatch([head, follower]).targetRows], [2, 4, 5]);
});

Deno.test("a batch: only what lies within the spans is a target", () => {
  const several = document([5, 6, 7, 8, 9], { targets: [[1, 2], [3, 4]], weight: 2 });
  const batch = makeBatch([document([1, 2, 3]), several, document([4, 3], { targets: [[1, 2]] })]);
  assert.deepEqual([...batch.targetRows], [3, 5, 8]);
  assert.deepEqual([...batch.targets], [6, 8, 3]);
  assert.deepEqual([...batch.weights], [2, 2, 1]);
  assert.deepEqual(batch.lossGroups, [{ slot: 0, firstRow: 0, rows: 3 }]);
});

Deno.test("a batch: what can't be shared is refused", () => {
  const refused = (documents: Document[], message: RegExp, slidingWindow?: number) =>
    assert.throws(() => makeBatch(documents, slidingWindow), message);
  refused([other, follower], /does not begin with the 2 ids/);
  refused([document([1]), follower], /does not begin with the 2 ids/);
  refused([follower], /does not begin with the 2 ids/);
  refused([head, document([1, 2, 3, 5], { shared: 3 })], /3 shared ids of a prompt of 3/);
  refused([head, follower], /sliding window cuts/, 4);
});
