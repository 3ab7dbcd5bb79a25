/** What is compiled before the first answer: all that answers take. */
import assert from "node:assert/strict";
import { type Gpu, openGpu } from "../../../kernels/gpu/gpu.ts";
import { Memory } from "../../../kernels/gpu/memory.ts";
import { BeamSearcher } from "../../../model/engine/beams.ts";
import { Engine, GREEDY } from "../../../model/engine/engine.ts";
import { gpuTest } from "../../kernels/harness.ts";
import { makeEngine } from "./engines.ts";

const SUBJECT = { model: "llama_tied", adapter: null } as const;

/** Memory that only counts, within the GPU's limits. */
const withoutMemory = (gpu: Gpu) => new Memory(undefined, gpu.memory.limits);

gpuTest("engine: after a rehearsal answers compile nothing, whatever they are asked", async () => {
  const prompts = [[1, 5, 9], [1, 7, 8, 9, 10, 11, 4]];
  const sampled = { ...GREEDY, temperature: 1, top_k: 5, repetition_penalty: 1.2 };
  for (const sampling of [GREEDY, sampled]) {
    await using gpu = await openGpu();
    const sizes = { sequences: 2, cache: "f16" } as const, room = { penalized: true };
    const engine = await makeEngine(gpu, SUBJECT, { sizes, room });
    const planned = new Engine(
      withoutMemory(gpu),
      engine.model,
      engine.sizes,
      room,
    );
    const settings = { sampling, maxTokens: 70, stop: [] };
    const compiled = await gpu.precompile(() => planned.rehearse(gpu, prompts, settings));
    assert.ok(compiled > 5, `${compiled} programs`);
    const before = gpu.pipelines.count;
    const ids = await engine.answers(gpu, prompts, settings);
    assert.deepEqual(ids.map(({ length }) => length), [70, 70]);
    assert.equal(gpu.pipelines.count, before);
  }
});

gpuTest(
  "engine: a rehearsal of prompts that come in pieces, and of one that fills the context",
  async () => {
    await using gpu = await openGpu();
    const sizes = { sequences: 2, context: 24 }, room = { interleaved: 8 };
    const engine = await makeEngine(gpu, SUBJECT, { sizes, room });
    const prompts = [Array<number>(20).fill(3), Array<number>(24).fill(3)];
    const settings = { maxTokens: 9, stop: [] };
    const plan = () => new Engine(withoutMemory(gpu), engine.model, engine.sizes, room);
    await gpu.precompile(() => {
      plan().rehearse(gpu, prompts, settings);
      plan().rehearse(gpu, [prompts[1]], settings);
    });
    const before = gpu.pipelines.count;
    const ids = await engine.answers(gpu, prompts, settings);
    assert.deepEqual(ids.map(({ length }) => length), [4, 0]);
    assert.equal(gpu.pipelines.count, before);
  },
);

gpuTest("beams: after a rehearsal a search compiles nothing", async () => {
  await using gpu = await openGpu();
  const engine = await makeEngine(gpu, SUBJECT, { sizes: { sequences: 3, context: 16 } });
  const { model, sizes } = engine, prompt = [1, 3, 5];
  const planned = new BeamSearcher(withoutMemory(gpu), model, sizes);
  assert.ok(await gpu.precompile(() => planned.rehearse(gpu, prompt)) > 5);
  const searcher = new BeamSearcher(gpu.memory, model, sizes), before = gpu.pipelines.count;
  const ids = await searcher.search(gpu, prompt, { length_penalty: 1, maxTokens: 6, stop: [] });
  assert.equal(ids.length, 6);
  assert.equal(gpu.pipelines.count, before);
});
