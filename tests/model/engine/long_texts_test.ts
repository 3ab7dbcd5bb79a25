/**
 * Answers that grow beyond the length from which on LongRoPE rotates a whole text by other factors: what a cache gives is
 * what is computed without one.
 */
import assert from "node:assert/strict";
import type { Gpu } from "../../../kernels/gpu/gpu.ts";
import { EXACT } from "../../../kernels/ops/numerics.ts";
import { loadWeights } from "../../../model/checkpoint/load.ts";
import { openModel } from "../../../model/checkpoint/source.ts";
import { BeamSearcher } from "../../../model/engine/beams.ts";
import { Engine, GREEDY } from "../../../model/engine/engine.ts";
import type { EngineSizes } from "../../../model/engine/slots.ts";
import { Llama } from "../../../model/transformer/llama.ts";
import { longestSharing } from "../../../model/transformer/layers.ts";
import { generateMode } from "../../../model/transformer/modes.ts";
import { fixturePath } from "../../fixtures.ts";
import { gpuTest } from "../../kernels/harness.ts";

// Texts of more than 16 tokens are long.
const FOLDER = fixturePath("rotations/phi3_long");
const PROMPT = Array.from({ length: 11 }, (_, i) => (13 * i + 5) % 67);

async function openTiny(gpu: Gpu, sizes: EngineSizes): Promise<Llama> {
  const source = openModel(FOLDER), mode = generateMode(sizes);
  const model = new Llama(gpu.memory, { config: source.config, numerics: EXACT, mode });
  model.initialize(gpu);
  await loadWeights(gpu, model, source, { seed: 0 });
  return model;
}

const sizesOf = (sequences: number, cache: "f32" | undefined): EngineSizes => ({
  sequences,
  context: 48,
  promptTokens: 96,
  cache,
});

gpuTest("long texts: beams with a cache find what they find without one", async (gpu) => {
  const found: number[][] = [];
  for (const cache of ["f32", undefined] as const) {
    const sizes = sizesOf(4, cache), model = await openTiny(gpu, sizes);
    const searcher = new BeamSearcher(gpu.memory, model, sizes);
    const options = { length_penalty: 1, maxTokens: 20, stop: [] };
    found.push(await searcher.search(gpu, PROMPT, options));
  }
  assert.equal(found[0].length, 20);
  assert.deepEqual(found[0], found[1]);
});

gpuTest(
  "long texts: sequences of several lengths, sampled and penalised, with a cache and without",
  async (gpu) => {
    const found: number[][][] = [];
    const prompts = [11, 3, 16, 20, 15].map((length) =>
      Array.from({ length }, (_, i) => (13 * i + length) % 67)
    );
    for (const cache of ["f32", undefined] as const) {
      const sizes = sizesOf(3, cache), model = await openTiny(gpu, sizes);
      const engine = new Engine(gpu.memory, model, sizes, { penalized: true });
      const sampling = { ...GREEDY, temperature: 0.7, repetition_penalty: 1.2, seed: 5 };
      found.push(await engine.answers(gpu, prompts, { sampling, maxTokens: 18, stop: [] }));
    }
    assert.deepEqual(found[0], found[1]);
  },
);

gpuTest("long texts: a conversation reuses only keys of its kind", async (gpu) => {
  const answers: number[][] = [];
  for (const cache of ["f32", undefined] as const) {
    const sizes = sizesOf(1, cache), model = await openTiny(gpu, sizes);
    const engine = new Engine(gpu.memory, model, sizes);
    let text = PROMPT.slice(0, 6);
    // Short, short, one that becomes long, and long.
    for (const turn of [3, 4, 8, 6]) {
      const options = { maxTokens: turn, stop: [], reuse: true };
      const [answer] = await engine.answers(gpu, [text], options);
      answers.push(answer);
      text = [...text, ...answer, 7];
    }
    // And back to the beginning, whose keys are now those of a long text.
    const options = { maxTokens: 4, stop: [], reuse: true };
    answers.push(...await engine.answers(gpu, [text.slice(0, 9)], options));
  }
  assert.deepEqual(answers.slice(0, 5), answers.slice(5));
});

gpuTest("long texts: those that are rotated otherwise share no rows with others", async (gpu) => {
  const { spec } = await openTiny(gpu, sizesOf(1, "f32"));
  assert.equal(longestSharing(spec), 16);
  const layers = spec.layers.map((layer) => ({ ...layer, window: 9 }));
  assert.equal(longestSharing({ ...spec, layers }), 9);
});
