/** Scoring against PyTorch. */
import assert from "node:assert/strict";
import { UserError } from "../../kernels/errors.ts";
import { scoreResult, scoringMode } from "../../infer/score.ts";
import { meanNll } from "../../model/transformer/evaluate.ts";
import { loadFixtureModel } from "../fixture_model.ts";
import { readFixture, tokenizedSamples } from "../fixtures.ts";
import { assertClose, gpuTest } from "../kernels/harness.ts";

Deno.test("score: a perplexity beyond every number is refused", () => {
  assert.throws(() => scoreResult([], 710), (error) => {
    assert.ok(error instanceof UserError);
    assert.match(error.message, /710 nats per token, and its perplexity infinite; expected finite/);
    return true;
  });
  assert.ok(scoreResult([], 700).perplexity > 1e300);
});

gpuTest("score: mean and perplexity are PyTorch's", async (gpu) => {
  const samples = tokenizedSamples(readFixture("samples.json"));
  for (const c of readFixture("score.json")) {
    const model = await loadFixtureModel(gpu, c, { mode: scoringMode(samples) });
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
