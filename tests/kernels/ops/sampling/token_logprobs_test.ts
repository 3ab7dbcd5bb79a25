import assert from "node:assert/strict";
import { roundUp } from "../../../../kernels/gpu/tensor.ts";
import {
  MOST_LOGPROBS,
  readRecord,
  RECORD_WORDS,
  tokenLogprobs,
} from "../../../../kernels/ops/sampling/token_logprobs.ts";
import { assertClose, download, gpuTest, poisoned, randomArray, upload } from "../../harness.ts";
import { order } from "./sample_reference.ts";
import { stored } from "./sample_run.ts";

gpuTest("tokenLogprobs tells of the chosen token and the likeliest ones", async (gpu) => {
  for (const vocab of [1, 7, 33, 257, 1000]) {
    const rows = Array.from({ length: 5 }, (_, r) => randomArray(vocab, r, 6).map(Math.fround));
    // Ties, which go by id.
    rows[1] = rows[1].map(Math.round);
    const first = 2, sequences = first + rows.length + 1, base = 17, width = roundUp(vocab, 4);
    const chosen = (sequence: number) => sequence * 13 % vocab;
    for (const count of [1, 5, MOST_LOGPROBS].filter((count) => count <= vocab)) {
      const report = poisoned(gpu, "u32", [base + sequences * RECORD_WORDS]);
      tokenLogprobs(gpu, {
        logits: upload(gpu, stored(rows, rows.length), "f32", [rows.length, width]),
        vocab,
        rows: rows.length,
        first,
        count,
        ids: upload(gpu, Array.from({ length: sequences }, (_, s) => chosen(s)), "u32", [
          sequences,
        ]),
        report,
        base,
      });
      const words = Uint32Array.from(await download(gpu, report));
      const isFree = (i: number) =>
        i < base + first * RECORD_WORDS || i >= base + (first + rows.length) * RECORD_WORDS;
      assert.ok(
        words.every((word, i) => !isFree(i) || word === 0xffffffff),
        "a record not asked for",
      );
      for (const [r, row] of rows.entries()) {
        const largest = Math.max(...row);
        const logSum = Math.log(row.reduce((sum, x) => sum + Math.exp(x - largest), 0));
        const sequence = first + r;
        const { logprob, top } = readRecord(words, base + sequence * RECORD_WORDS, count);
        const ids = order(row).slice(0, count), what = `${count} of ${vocab}, row ${r}`;
        assert.deepEqual(top.map(({ id }) => id), ids, what);
        assertClose(
          [logprob, ...top.map((token) => token.logprob)],
          [chosen(sequence), ...ids].map((id) => row[id] - largest - logSum),
          { atol: 1e-5, rtol: 1e-5, what },
        );
      }
    }
  }
});
