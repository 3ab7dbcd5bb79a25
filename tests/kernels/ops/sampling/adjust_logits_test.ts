import assert from "node:assert/strict";
import {
  adjustLogits,
  type Adjustment,
  ADJUSTMENT_WORDS,
  adjustmentWords,
  allowedWords,
  countTokens,
  FORBIDDEN,
} from "../../../../kernels/ops/sampling/adjust_logits.ts";
import { roundUp } from "../../../../kernels/gpu/tensor.ts";
import {
  assertClose,
  AWKWARD,
  download,
  gpuTest,
  poisoned,
  randomArray,
  upload,
} from "../../harness.ts";

const PLAIN: Adjustment = {
  frequency_penalty: 0,
  presence_penalty: 0,
  biased: false,
  masked: false,
};
/** Sequences in all their kinds; what one does not ask for is not read, and holds NaN or ones here. */
const KINDS: Adjustment[] = [
  PLAIN,
  { ...PLAIN, frequency_penalty: 0.7 },
  { ...PLAIN, presence_penalty: -1.3 },
  { ...PLAIN, biased: true },
  { ...PLAIN, masked: true },
  { frequency_penalty: -0.5, presence_penalty: 2, biased: true, masked: true },
];

gpuTest("adjustLogits changes each sequence's logits as it asks for", async (gpu) => {
  for (const vocab of [...AWKWARD, 1000]) {
    // Rows belong to the sequences from the second on.
    const sequences = KINDS.length + 1, width = roundUp(vocab, 4), rows = KINDS.length;
    const x = randomArray(rows * width, 1, 8), bias = randomArray(sequences * width, 2, 5);
    const counts = randomArray(sequences * width, 3, 3).map((v) => Math.max(0, Math.floor(v)));
    const isAllowed = randomArray(sequences * width, 4).map((v) => v > 0 ? 1 : 0);
    const words = allowedWords(vocab), bits = new Uint32Array(sequences * words);
    for (let s = 0; s < sequences; s++) {
      for (let id = 0; id < vocab; id++) {
        bits[s * words + Math.floor(id / 32)] |= isAllowed[s * width + id] << id % 32;
      }
    }
    const kinds = [PLAIN, ...KINDS];
    const adjusted = poisoned(gpu, "f32", [rows + 1, width]);
    adjustLogits(gpu, {
      logits: upload(gpu, x, "f32", [rows, width]),
      rows,
      first: 1,
      biases: upload(
        gpu,
        bias.map((v, i) => kinds[Math.floor(i / width)].biased ? v : NaN),
        "f32",
        [sequences, width],
      ),
      counts: upload(gpu, counts, "u32", [sequences, width]),
      allowed: upload(gpu, bits, "u32", [sequences, words]),
      settings: upload(gpu, kinds.flatMap((kind) => [...adjustmentWords(kind)]), "u32", [
        sequences,
        ADJUSTMENT_WORDS,
      ]),
      adjusted,
    });
    const found = await download(gpu, adjusted);
    for (const [r, kind] of KINDS.entries()) {
      const at = (r + 1) * width;
      const expected = Array.from({ length: vocab }, (_, id) => {
        if (kind.masked && isAllowed[at + id] === 0) return Math.fround(FORBIDDEN);
        const count = counts[at + id];
        return Math.fround(x[r * width + id]) + (kind.biased ? bias[at + id] : 0) -
          kind.frequency_penalty * count - (count > 0 ? kind.presence_penalty : 0);
      });
      assertClose(found.subarray(r * width, r * width + vocab), expected, {
        atol: 1e-5,
        rtol: 1e-6,
        what: `kind ${r} of ${vocab}`,
      });
    }
    assert.ok(found.subarray(rows * width).every(Number.isNaN), "a row not asked for");
  }
});

gpuTest("countTokens counts each sequence's token", async (gpu) => {
  for (const rows of [1, 7, 257]) {
    const sequences = rows + 2, width = 12;
    const counts = upload(gpu, new Uint32Array(sequences * width).fill(5), "u32", [
      sequences,
      width,
    ]);
    const id = (sequence: number) => sequence * 5 % width;
    const ids = upload(gpu, Array.from({ length: sequences }, (_, s) => id(s)), "u32", [sequences]);
    for (let time = 0; time < 2; time++) countTokens(gpu, { ids, counts, rows, first: 1 });
    const expected = Array.from({ length: sequences * width }, (_, i) => {
      const sequence = Math.floor(i / width);
      return sequence >= 1 && sequence <= rows && i % width === id(sequence) ? 7 : 5;
    });
    assert.deepEqual(Array.from(await download(gpu, counts)), expected);
  }
});
