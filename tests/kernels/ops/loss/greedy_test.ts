import { greedyTargets } from "../../../../kernels/ops/loss/greedy.ts";
import assert from "node:assert/strict";
import {
  AWKWARD,
  download,
  gpuTest,
  poisoned,
  quantize,
  randomArray,
  upload,
} from "../../harness.ts";

gpuTest("greedyTargets tells the targets that no other logit exceeds", async (gpu) => {
  // A chunk from the middle: 6 rows in memory, 5 used, which are rows 2 to 6 of 8.
  const allocated = 6, rows = 5, firstRow = 2, all = 8;
  for (const vocab of [...AWKWARD, 1031]) {
    const width = Math.ceil(vocab / 4) * 4;
    const logits = quantize(randomArray(allocated * width, vocab, 30), "f32");
    // What lies in the padding must not matter.
    logits.forEach((_, i) => {
      if (i % width >= vocab) logits[i] = 2 ** 100;
    });
    const rowOf = (r: number) => logits.subarray(r * width, r * width + vocab);
    const largest = (r: number) => rowOf(r).indexOf(Math.max(...rowOf(r)));
    // The largest; another one; of two that are equal the second and the first; the last of all.
    const targets = Array<number>(all).fill(0);
    targets[firstRow] = largest(0);
    targets[firstRow + 1] = (largest(1) + 1) % vocab;
    for (const r of [2, 3]) rowOf(r)[0] = rowOf(r)[vocab - 1] = 2 ** 20;
    targets[firstRow + 2] = vocab - 1;
    targets[firstRow + 3] = 0;
    rowOf(4)[vocab - 1] = 2 ** 20;
    targets[firstRow + 4] = vocab - 1;
    const greedy = poisoned(gpu, "f32", [all]);
    greedyTargets(gpu, {
      logits: upload(gpu, logits, "f32", [allocated, width]),
      targets: upload(gpu, targets, "u32", [all]),
      greedy,
      rows,
      firstRow,
      vocab,
    });
    const found = Array.from(await download(gpu, greedy));
    const one = vocab === 1 ? 1 : 0;
    assert.deepEqual(found.slice(firstRow, firstRow + rows), [1, one, one, 1, 1], `${vocab}`);
    for (const s of [0, 1, 7]) assert.ok(Number.isNaN(found[s]), `row ${s} is another chunk's`);
  }
});
