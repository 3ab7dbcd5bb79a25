/** Beam search on a model whose vocabulary is small enough to try every answer. */
import assert from "node:assert/strict";
import type { Gpu } from "../../../kernels/gpu/gpu.ts";
import { makeBatch } from "../../../model/transformer/batch.ts";
import { BeamSearcher } from "../../../model/engine/beams.ts";
import { presetConfig } from "../../../model/families/presets.ts";
import { Engine } from "../../../model/engine/engine.ts";
import type { EngineSizes } from "../../../model/engine/slots.ts";
import { EXACT } from "../../../kernels/ops/numerics.ts";
import { generateMode } from "../../../model/transformer/modes.ts";
import { Llama } from "../../../model/transformer/llama.ts";
import { setParameter } from "../../../model/checkpoint/load.ts";
import { parameterCount } from "../../../model/transformer/parameters.ts";
import { gpuTest, randomArray } from "../../kernels/harness.ts";

const VOCAB = 4, LENGTH = 4, END = 2, PROMPT = [1, 3, 0, 1, 2];
/** So many beams that none is ever dropped. */
const ALL = VOCAB ** (LENGTH - 1);

/** A model with weights large enough for clear preferences. */
function makeModel(gpu: Gpu, sizes: EngineSizes): Llama {
  const config = {
    ...presetConfig("tiny"),
    vocab_size: VOCAB,
    hidden_size: 16,
    intermediate_size: 24,
    num_hidden_layers: 2,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    head_dim: 8,
  };
  const model = new Llama(gpu.memory, {
    config,
    numerics: EXACT,
    mode: generateMode(sizes),
  });
  model.initialize(gpu);
  model.weights.forEach((parameter, i) => {
    const values = Float32Array.from(randomArray(parameterCount(parameter), i + 5, 1.2));
    setParameter(gpu, parameter, values);
  });
  return model;
}

/** Log-probabilities of the next token after a text. */
async function nextLogprobs(gpu: Gpu, model: Llama, ids: readonly number[]): Promise<number[]> {
  const batch = makeBatch([{
    ids: Uint32Array.from([...ids, 0]),
    targets: [[ids.length, ids.length + 1]],
    weight: 1,
  }]);
  const logits = Array.from(
    (await gpu.readF32(model.logits(gpu, batch).rows(0, 1))).slice(0, VOCAB),
  );
  const total = Math.log(logits.reduce((sum, x) => sum + Math.exp(x), 0));
  return logits.map((x) => x - total);
}

/** Every answer up to `LENGTH` tokens with the sum of its log-probabilities; END is the last token. */
async function everyAnswer(
  gpu: Gpu,
  model: Llama,
  ids: number[] = [],
  sum = 0,
): Promise<{ ids: number[]; sum: number }[]> {
  if (ids.length === LENGTH || ids.at(-1) === END) return [{ ids, sum }];
  const logprobs = await nextLogprobs(gpu, model, [...PROMPT, ...ids]);
  const all = [];
  for (const [id, logprob] of logprobs.entries()) {
    all.push(...await everyAnswer(gpu, model, [...ids, id], sum + logprob));
  }
  return all;
}

gpuTest(
  "beams: enough of them find the best of all answers, with the cache and without",
  async (gpu) => {
    for (const cache of ["f32", undefined] as const) {
      const sizes: EngineSizes = { sequences: ALL, context: 10, promptTokens: 10, cache };
      const model = makeModel(gpu, sizes);
      const answers = await everyAnswer(gpu, model);
      assert.equal(answers.length, 3 ** 4 + 3 ** 3 + 3 ** 2 + 3 + 1);
      const searcher = new BeamSearcher(gpu.memory, model, sizes);
      const found = new Set<string>();
      for (const length_penalty of [0, 0.7, 1, 3, -1]) {
        const score = ({ ids, sum }: typeof answers[number]) => sum / ids.length ** length_penalty;
        const [best, second] = answers.toSorted((a, b) => score(b) - score(a));
        assert.ok(score(best) - score(second) > 1e-4, "a tie would be a matter of rounding");
        const options = { length_penalty, maxTokens: LENGTH, stop: [END] };
        let steps = 0;
        const ids = await searcher.search(gpu, PROMPT, { ...options, tick: () => steps++ });
        assert.deepEqual(
          ids,
          best.ids.filter((id) => id !== END),
          `length penalty ${length_penalty}`,
        );
        assert.ok(steps >= ids.length);
        found.add(String(ids));
      }
      assert.ok(found.size > 1, "the length penalty decides nothing");
    }
  },
);

gpuTest("beams: few of them do no worse than greedy, and one is greedy", async (gpu) => {
  const maxTokens = 12;
  const best: Record<number, number> = {};
  for (const sequences of [1, 2, 3, 5]) {
    const sizes: EngineSizes = { sequences, context: 30, promptTokens: 30, cache: "f32" };
    const model = makeModel(gpu, sizes);
    const searcher = new BeamSearcher(gpu.memory, model, sizes);
    const options = { length_penalty: 1, maxTokens, stop: [] };
    const ids = await searcher.search(gpu, PROMPT, options);
    assert.equal(ids.length, maxTokens);
    // Once more: the cache of the search before is not mistaken for this one's.
    assert.deepEqual(await searcher.search(gpu, PROMPT, options), ids);
    let sum = 0;
    for (let i = 0; i < ids.length; i++) {
      sum += (await nextLogprobs(gpu, model, [...PROMPT, ...ids.slice(0, i)]))[ids[i]];
    }
    best[sequences] = sum;
    if (sequences > 1) continue;
    const engine = new Engine(gpu.memory, model, sizes);
    const [greedy] = await engine.answers(gpu, [PROMPT], { maxTokens, stop: [] });
    assert.deepEqual(ids, greedy);
  }
  assert.ok(best[5] > best[1] + 1e-3, `${best[5]} and ${best[1]}`);
});
