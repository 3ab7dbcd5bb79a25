/** Greedy generation and scoring against PyTorch float32, with and without the KV cache. */
import assert from "node:assert/strict";
import type { Gpu } from "../../kernels/gpu.ts";
import { scoreResult, scoreSizes } from "../../infer/score.ts";
import { KvCache } from "../../model/cache.ts";
import { meanNll } from "../../model/evaluate.ts";
import { greedy } from "../../model/generate.ts";
import type { Llama } from "../../model/llama.ts";
import type { TokenizedSample } from "../../model/prompt.ts";
import { loadFixtureModel } from "../fixture_model.ts";
import { type FixtureSubject, type GreedyCase, readFixture } from "../fixtures.ts";
import { assertClose, gpuTest } from "../kernels/harness.ts";

/** Cases by model and adapter, so that each is loaded once. */
function bySubject(cases: readonly GreedyCase[]): [FixtureSubject, GreedyCase[]][] {
  const groups = Map.groupBy(cases, ({ model, adapter }) => `${model} ${adapter}`);
  return [...groups.values()].map((group) => [group[0], group]);
}

/** All tokens of one answer. */
async function answer(
  gpu: Gpu,
  model: Llama,
  prompt: readonly number[],
  options: { maxTokens: number; stop?: number[]; cache?: KvCache },
): Promise<number[]> {
  const settings = { stop: [], ...options };
  return await Array.fromAsync(greedy(gpu, model, Uint32Array.from(prompt), settings));
}

gpuTest("generate: tokens are PyTorch's, with the cache and without, adapters too", async (gpu) => {
  const subjects = bySubject(readFixture("greedy.json"));
  assert.ok(subjects.length >= 3);
  for (const [subject, cases] of subjects) {
    const model = await loadFixtureModel(gpu, subject);
    const cache = new KvCache(gpu.memory, model.config, 128, model.dtype);
    for (const { prompt, ids } of cases) {
      const what = `${subject.model} ${subject.adapter}, ${prompt.length} tokens`;
      const maxTokens = ids.length;
      assert.deepEqual(await answer(gpu, model, prompt, { maxTokens, cache }), ids, what);
      assert.equal(cache.length, prompt.length + ids.length - 1, what);
      assert.deepEqual(await answer(gpu, model, prompt, { maxTokens }), ids, `${what}, no cache`);
    }
  }
});

gpuTest("generate: f16 gives the same tokens with the cache and without", async (gpu) => {
  for (const [subject, cases] of bySubject(readFixture("greedy.json"))) {
    const model = await loadFixtureModel(gpu, subject, { precision: "mixed" });
    const cache = new KvCache(gpu.memory, model.config, 128, model.dtype);
    for (const { prompt } of cases) {
      const cached = await answer(gpu, model, prompt, { maxTokens: 24, cache });
      const plain = await answer(gpu, model, prompt, { maxTokens: 24 });
      assert.equal(cached.length, 24);
      assert.deepEqual(cached, plain, `${subject.model} ${subject.adapter}, ${prompt.length}`);
    }
  }
});

gpuTest("generate: ends before a stop token, which is not part of the answer", async (gpu) => {
  const [first] = readFixture("greedy.json");
  const model = await loadFixtureModel(gpu, first);
  const cache = new KvCache(gpu.memory, model.config, 64, model.dtype);
  const end = first.ids.indexOf(first.ids[5]);
  const stop = [first.ids[5], 2];
  for (const options of [{ cache }, {}]) {
    const ids = await answer(gpu, model, first.prompt, { maxTokens: 24, stop, ...options });
    assert.deepEqual(ids, first.ids.slice(0, end));
  }
});

gpuTest("score: mean and perplexity are PyTorch's", async (gpu) => {
  const samples = readFixture("samples.json").map(({ ids, promptLength }): TokenizedSample => ({
    ids: Uint32Array.from(ids),
    promptLength,
    truncated: false,
  }));
  for (const c of readFixture("score.json")) {
    const model = await loadFixtureModel(gpu, c, scoreSizes(samples));
    const done: number[] = [];
    const nll = await meanNll(gpu, model, samples, (count) => done.push(count));
    const result = scoreResult(samples, nll);
    const { tokens, nll_per_token, perplexity } = c;
    assert.equal(result.tokens, tokens);
    assertClose(
      [result.nll_per_token, result.perplexity],
      [nll_per_token, perplexity],
      { atol: 0, rtol: 1e-4, what: `${c.model} ${c.adapter}` },
    );
    assert.deepEqual(done, samples.map((_, i) => i + 1));
  }
});
