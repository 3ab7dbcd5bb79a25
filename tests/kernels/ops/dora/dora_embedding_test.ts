import assert from "node:assert/strict";
import { embeddingDoraFactors } from "../../../../kernels/ops/dora/dora_embedding.ts";
import type { Gpu } from "../../../../kernels/gpu/gpu.ts";
import { type Dtype, Tensor } from "../../../../kernels/gpu/tensor.ts";
import {
  assertClose,
  AWKWARD4,
  download,
  gpuTest,
  poisoned,
  quantize,
  randomArray,
  upload,
} from "../../harness.ts";
import { withMaxBinding } from "../../small_binding.ts";

/** Sizes of one test. */
interface Case {
  tokens: number;
  hidden: number;
  rank: number;
  dtype: Dtype;
}

const BASE: Case = { tokens: 132, hidden: 36, rank: 8, dtype: "f32" };
const SCALE = 0.75;

async function test(gpu: Gpu, change: Partial<Case>): Promise<void> {
  const { tokens, hidden, rank, dtype } = { ...BASE, ...change }, what = JSON.stringify(change);
  const e = quantize(randomArray(tokens * hidden, 1), dtype);
  const a = quantize(randomArray(rank * tokens, 2), "f32");
  const b = quantize(randomArray(hidden * rank, 3), "f32");
  const m = quantize(randomArray(hidden, 4, 9), "f32");
  // A feature that no token has, and that the adapter does not add.
  for (let v = 0; v < tokens; v++) e[v * hidden + 2] = 0;
  b.fill(0, 2 * rank, 3 * rank);
  const lengths = Float64Array.from({ length: hidden }, (_, h) => {
    let squares = 0;
    for (let v = 0; v < tokens; v++) {
      let value = e[v * hidden + h];
      for (let k = 0; k < rank; k++) value += SCALE * a[k * tokens + v] * b[h * rank + k];
      squares += value ** 2;
    }
    return Math.sqrt(squares);
  });
  const tensors = {
    weight: upload(gpu, e, dtype, [tokens, hidden]),
    a: upload(gpu, a, "f32", [rank, tokens]),
    b: upload(gpu, b, "f32", [hidden, rank]),
    magnitude: upload(gpu, m, "f32", [hidden]),
  };
  for (const lanes of [1, 16]) {
    const [norm, factor] = [1, 2].map(() => poisoned(gpu, "f32", [hidden]));
    embeddingDoraFactors(gpu, { ...tensors, scale: SCALE, norm, factor }, lanes);
    const close = { atol: 0, rtol: 5e-6 };
    assertClose(await download(gpu, norm), lengths, { ...close, what: `${what} norm by ${lanes}` });
    const factors = lengths.map((n, h) => n > 0 ? m[h] / n : 0);
    assert.equal(factors[2], 0);
    assertClose(await download(gpu, factor), factors, { ...close, what: `${what} factor` });
  }
}

gpuTest("DoRA's factors of an embedding are m over its columns' lengths", async (gpu) => {
  for (const tokens of AWKWARD4) await test(gpu, { tokens });
  for (const hidden of AWKWARD4) await test(gpu, { hidden });
  for (const rank of [4, 12, 64, 256]) await test(gpu, { rank });
  await test(gpu, { dtype: "f16", tokens: 260, hidden: 132 });
});

gpuTest("DoRA's factors of an embedding that is bound in parts", async () => {
  await withMaxBinding(8448, async (small) => {
    await test(small, { hidden: 64, tokens: 132 });
    await test(small, { hidden: 64, tokens: 260, dtype: "f16" });
  });
});

Deno.test("a DoRA adapter of other sizes than its embedding is refused", () => {
  const planned = (...shape: number[]) => new Tensor("t", "f32", shape, undefined);
  const [weight, a, b] = [planned(12, 8), planned(4, 12), planned(8, 4)];
  const vectors = { magnitude: planned(8), norm: planned(8), factor: planned(8) };
  const changes: Record<string, Tensor>[] = [
    { a: planned(4, 8) },
    { b: planned(12, 4) },
    { magnitude: planned(12) },
    { weight: planned(10, 8), a: planned(4, 10) },
  ];
  for (const change of changes) {
    const module = { weight, a, b, scale: 1, ...vectors, ...change };
    assert.throws(() => embeddingDoraFactors({} as Gpu, module, 1), /do not fit/);
  }
});
