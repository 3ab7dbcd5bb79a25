/** What sequences have of their own, an adapter and how tokens are chosen, while others come and go between rows of steps. */
import assert from "node:assert/strict";
import { type Gpu, openGpu } from "../../../kernels/gpu/gpu.ts";
import { checkAdapter, readAdapter } from "../../../model/adapter/adapter_folder.ts";
import { combineAdapters } from "../../../model/adapter/combined.ts";
import { loadAdapter } from "../../../model/checkpoint/load.ts";
import { openModel } from "../../../model/checkpoint/source.ts";
import {
  type Engine,
  GREEDY,
  type Sequence,
  type SequenceOptions,
} from "../../../model/engine/engine.ts";
import { fixturePath, type GreedyCase, readFixture } from "../../fixtures.ts";
import { assertClose, gpuTest, random } from "../../kernels/harness.ts";
import { makeEngine } from "./engines.ts";

const TOKENS = 12, SLOTS = 5;
const NAMES = ["adapter_qv", "adapter_all"];
const CASES = readFixture("greedy.json")
  .filter(({ model, prompt }: GreedyCase) => model === "llama" && prompt.length <= 64);
const NONE = { frequency_penalty: 0, presence_penalty: 0, logit_bias: new Map<number, number>() };
/** How tokens are chosen; the first takes PyTorch's greedy ones. */
const CHOICES: Partial<SequenceOptions>[] = [
  {},
  { sampling: { ...GREEDY, repetition_penalty: 1.5 } },
  { adjustments: { ...NONE, presence_penalty: 2 } },
  { adjustments: { ...NONE, logit_bias: new Map([[5, 3], [9, -3]]) } },
  { sampling: { ...GREEDY, temperature: 1, seed: 7 }, subsequence: 3 },
];

/** Steps until all have ended, and what was told of their tokens. */
async function finish(gpu: Gpu, engine: Engine, told: Map<Sequence, number[]>): Promise<void> {
  while ([...told.keys()].some(({ finished }) => finished === undefined)) {
    await step(gpu, engine, told);
  }
}

async function step(gpu: Gpu, engine: Engine, told: Map<Sequence, number[]>): Promise<void> {
  for (const { sequence, logprobs } of await engine.step(gpu)) {
    told.get(sequence)?.push(logprobs?.logprob ?? NaN);
  }
}

for (const programs of ["software drivers", "GPUs"]) {
  gpuTest(
    `engine: adapters, penalties and log-probabilities are a sequence's own, by the programs for ${programs}`,
    async () => {
      await using gpu = await openGpu({ software: programs === "software drivers" });
      const { config } = openModel(fixturePath("llama"));
      const { owners, plan, ...adapter } = combineAdapters(
        NAMES.map((name) => {
          const read = readAdapter(fixturePath(name));
          return { ...read, name, plan: checkAdapter(read, config, name) };
        }),
        config,
      );
      const room = { interleaved: 24, penalized: true, adjusted: true, logprobs: true };
      const engine = await makeEngine(gpu, { model: "llama", adapter: null }, {
        lora: plan,
        owners,
        room,
        sizes: { sequences: SLOTS },
      });
      loadAdapter(gpu, engine.model, adapter);
      const all = CASES.flatMap(({ prompt, ids, adapter }) =>
        CHOICES.map((choice, i) => ({
          prompt,
          greedy: i === 0 ? ids.slice(0, TOKENS) : undefined,
          options: {
            ...choice,
            stop: [],
            reuse: true,
            logprobs: 1,
            adapter: adapter === null ? 0 : 1 + NAMES.indexOf(adapter),
          },
        }))
      );
      const alone: { ids: number[]; logprobs: number[] }[] = [];
      for (const { prompt, options, greedy } of all) {
        const sequence = engine.admit(prompt, { ...options, maxTokens: TOKENS });
        const logprobs: number[] = [];
        await finish(gpu, engine, new Map([[sequence, logprobs]]));
        if (greedy !== undefined) assert.deepEqual(sequence.ids, greedy);
        alone.push({ ids: sequence.ids, logprobs });
      }
      assert.ok(
        new Set(alone.map(({ ids }) => ids.join())).size > CASES.length,
        "all answer alike",
      );
      // Sequences come and go at random, so that slots have rows in any order.
      const next = random(11), pick = (below: number) => Math.floor((next() + 1) / 2 * below);
      const told = new Map<Sequence, number[]>(), which: number[] = [];
      for (let turn = 0; turn < (gpu.software ? 40 : 25); turn++) {
        const index = pick(all.length), { prompt, options } = all[index];
        const sequence = engine.admit(prompt, { ...options, maxTokens: 1 + pick(TOKENS) });
        which.push(index);
        told.set(sequence, []);
        for (let steps = pick(3); steps > 0; steps--) await step(gpu, engine, told);
        if (pick(6) === 0) engine.evict([...told.keys()][pick(told.size)]);
      }
      await finish(gpu, engine, told);
      for (const [i, [{ ids, prompt }, logprobs]] of [...told].entries()) {
        const expected = alone[which[i]], what = `sequence ${i}, ${prompt.length} tokens`;
        assert.deepEqual(ids, expected.ids.slice(0, ids.length), what);
        const least = Math.min(ids.length, logprobs.length);
        assertClose(logprobs.slice(0, least), expected.logprobs.slice(0, least), {
          atol: 1e-3,
          rtol: 1e-3,
          what,
        });
      }
    },
  );
}
