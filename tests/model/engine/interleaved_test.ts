/** Prompts that come in piece by piece between the steps of others, and what they share with them. */
import assert from "node:assert/strict";
import { type Gpu, openGpu } from "../../../kernels/gpu/gpu.ts";
import type { Engine, Sequence, SequenceOptions } from "../../../model/engine/engine.ts";
import { type GreedyCase, readFixture } from "../../fixtures.ts";
import { gpuTest, random } from "../../kernels/harness.ts";
import { makeEngine } from "./engines.ts";

const TOKENS = 16;
/** PyTorch's tokens after prompts of 1 to 129 tokens, by length. */
const CASES = readFixture("greedy.json")
  .filter(({ model, adapter, prompt }: GreedyCase) =>
    model === "llama" && adapter === null && prompt.length <= 129
  ).toSorted((a, b) => a.prompt.length - b.prompt.length);
const SUBJECT = { model: "llama", adapter: null } as const;
const OPTIONS: SequenceOptions = { maxTokens: TOKENS, stop: [], reuse: true };

/** Steps until all have ended. @returns how many tokens of each every chunk made. */
async function finish(gpu: Gpu, engine: Engine, all: readonly Sequence[]): Promise<number[][]> {
  const chunks: number[][] = [];
  while (all.some(({ finished }) => finished === undefined)) {
    const tokens = await engine.step(gpu);
    chunks.push(all.map((one) => tokens.filter(({ sequence }) => sequence === one).length));
  }
  return chunks;
}

/** Counts the tokens of prompts that an engine computes. */
function countPrefilled(engine: Engine): () => number {
  const { slots } = engine, prefill = slots.prefill.bind(slots);
  let computed = 0;
  slots.prefill = (gpu, prompts, sampler) => {
    for (const { ids, cached, until = ids.length } of prompts) computed += until - cached;
    prefill(gpu, prompts, sampler);
  };
  return () => computed;
}

gpuTest(
  "engine: prompts in pieces between the steps of others give PyTorch's tokens",
  async (gpu) => {
    for (const interleaved of [7, 16, 1000]) {
      for (const sequences of [2, CASES.length]) {
        const engine = await makeEngine(gpu, SUBJECT, {
          room: { interleaved },
          sizes: { sequences },
        });
        const all: Sequence[] = [];
        // The longest first, and one more with each chunk.
        for (const { prompt } of CASES.toReversed()) {
          all.push(engine.admit(prompt, OPTIONS));
          await engine.step(gpu);
        }
        await finish(gpu, engine, all);
        for (const [i, { ids, prompt }] of CASES.toReversed().entries()) {
          const what = `${prompt.length} tokens, ${interleaved} at once, ${sequences} slots`;
          assert.deepEqual(all[i].ids, ids.slice(0, TOKENS), what);
        }
      }
    }
  },
);

gpuTest("engine: prompts that wait together fill passes, whatever their lengths", async (gpu) => {
  const long = CASES[CASES.length - 1], short = CASES.filter(({ prompt }) => prompt.length < 50);
  const waiting = [...short, long, ...short], budget = 64;
  const room = { interleaved: budget };
  const engine = await makeEngine(gpu, SUBJECT, { room, sizes: { sequences: waiting.length } });
  const passes: number[] = [], { model } = engine, logits = model.logits.bind(model);
  model.logits = (gpu, batch, cache) => {
    passes.push(batch.tokens);
    return logits(gpu, batch, cache);
  };
  const all = waiting.map(({ prompt }) => engine.admit(prompt, { ...OPTIONS, reuse: false }));
  await finish(gpu, engine, all);
  assert.deepEqual(all.map(({ ids }) => ids), waiting.map(({ ids }) => ids.slice(0, TOKENS)));
  const tokens = waiting.reduce((sum, { prompt }) => sum + prompt.length, 0);
  assert.ok(long.prompt.length > budget);
  const full = Array(Math.floor(tokens / budget)).fill(budget), rest = tokens % budget;
  assert.deepEqual(passes, rest > 0 ? [...full, rest] : full);
});

for (const programs of ["software drivers", "GPUs"]) {
  gpuTest(
    `engine: steps compute no more rows than are live, by the programs for ${programs}`,
    async () => {
      await using gpu = await openGpu({ software: programs === "software drivers" });
      const room = { interleaved: 32 }, slots = 6;
      const engine = await makeEngine(gpu, SUBJECT, { room, sizes: { sequences: slots } });
      const counts: number[] = [], step = engine.slots.step.bind(engine.slots);
      engine.slots.step = (gpu, count, sampler) => {
        counts.push(count);
        step(gpu, count, sampler);
      };
      const taken = new Set<number | undefined>();
      // One after the other: each has another slot, and the first row.
      for (const { prompt, ids } of CASES.slice(0, slots)) {
        const alone = engine.admit(prompt, OPTIONS);
        await finish(gpu, engine, [alone]);
        assert.deepEqual(alone.ids, ids.slice(0, TOKENS));
        taken.add(alone.slot);
      }
      assert.ok(
        taken.size >= slots - 1,
        "one may go on in the slot of a prompt that it begins with",
      );
      assert.ok(counts.length > 0 && counts.every((count) => count === 1), `${counts}`);
      // They come and go at random, and some are evicted; what slots hold is found again.
      const next = random(5), pick = (below: number) => Math.floor((next() + 1) / 2 * below);
      const under: { sequence: Sequence; expected: number[] }[] = [];
      for (let turn = 0; turn < (gpu.software ? 120 : 40); turn++) {
        const { prompt, ids } = CASES[pick(CASES.length)], maxTokens = 1 + pick(TOKENS);
        const sequence = engine.admit(prompt, { ...OPTIONS, maxTokens });
        under.push({ sequence, expected: ids.slice(0, maxTokens) });
        for (let steps = pick(3); steps > 0; steps--) await engine.step(gpu);
        if (pick(5) === 0) engine.evict(under[pick(under.length)].sequence);
      }
      await finish(gpu, engine, under.map(({ sequence }) => sequence));
      for (const { sequence: { ids, evicted }, expected } of under) {
        assert.deepEqual(ids, evicted ? expected.slice(0, ids.length) : expected);
      }
      assert.ok(counts.every((count) => count <= slots));
    },
  );
}

gpuTest("engine: a stream goes on while a long prompt comes in", async (gpu) => {
  const [short, long] = [CASES[1], CASES[CASES.length - 1]];
  const room = { interleaved: 16, adjusted: true, penalized: true };
  const engine = await makeEngine(gpu, SUBJECT, { room, sizes: { sequences: 2 } });
  const stream = engine.admit(short.prompt, { ...OPTIONS, maxTokens: 60 });
  while (stream.ids.length < 2) await engine.step(gpu);
  const before = stream.ids.length;
  // What the slot's row holds meanwhile is no part of its answer: its penalties know nothing of it.
  const penalties = { frequency_penalty: 1e-6, presence_penalty: 0, logit_bias: new Map() };
  const other = engine.admit(long.prompt, { ...OPTIONS, adjustments: penalties });
  const chunks: number[] = [];
  while (other.ids.length === 0) {
    await engine.step(gpu);
    chunks.push(stream.ids.length);
  }
  const pieces = Math.ceil(long.prompt.length / 16);
  assert.ok(chunks.length >= pieces, `${chunks.length} chunks for ${pieces} pieces`);
  chunks.forEach((tokens, i) =>
    assert.ok(tokens > (chunks[i - 1] ?? before - 1), `chunk ${i} has none`)
  );
  await finish(gpu, engine, [stream, other]);
  assert.deepEqual(other.ids, long.ids.slice(0, TOKENS));
  assert.deepEqual(stream.ids.slice(0, TOKENS), short.ids.slice(0, TOKENS));
});

gpuTest("engine: a beginning that prompts have in common is computed once", async (gpu) => {
  const { prompt: common } = CASES[CASES.length - 1], own = [3, 5, 7, 11];
  const prompts = own.map((id) => [...common, id, id + 1, id]);
  const plain = await makeEngine(gpu, SUBJECT, { sizes: { sequences: 6 } });
  const expected = await plain.answers(gpu, prompts, { maxTokens: TOKENS, stop: [] });
  // Pieces end where the common beginning does.
  const room = { interleaved: common.length / 3 };
  const engine = await makeEngine(gpu, SUBJECT, { room, sizes: { sequences: 6 } });
  const computed = countPrefilled(engine);
  const all = prompts.map((prompt) => engine.admit(prompt, OPTIONS));
  await finish(gpu, engine, all);
  assert.deepEqual(all.map(({ ids }) => ids), expected);
  assert.equal(computed(), common.length + 3 * own.length, "all come at once");
  // Slots whose sequences have ended, and one that goes on, keep what they hold.
  const again = engine.admit(prompts[2], OPTIONS);
  await finish(gpu, engine, [again]);
  assert.deepEqual(again.ids, expected[2]);
  assert.equal(computed(), common.length + 3 * own.length + 1, "the last token is computed anew");
  // A conversation goes on in its slot.
  const next = [...prompts[3], ...expected[3], 1, 2];
  const [answer] = await plain.answers(gpu, [next], { maxTokens: TOKENS, stop: [] });
  const goesOn = engine.admit(next, OPTIONS), before = computed();
  await finish(gpu, engine, [goesOn]);
  assert.deepEqual(goesOn.ids, answer);
  assert.equal(computed() - before, 3, "its last token was not fed");
});

gpuTest("engine: what an evicted prompt had computed is used, and no more", async (gpu) => {
  const { prompt, ids } = CASES[CASES.length - 1];
  const engine = await makeEngine(gpu, SUBJECT, {
    room: { interleaved: 32 },
    sizes: { sequences: 2 },
  });
  const first = engine.admit(prompt, OPTIONS);
  await engine.step(gpu);
  engine.evict(first);
  await engine.step(gpu);
  assert.ok(first.prefilled > 0 && first.prefilled < prompt.length);
  const computed = countPrefilled(engine), second = engine.admit(prompt, OPTIONS);
  await finish(gpu, engine, [second]);
  assert.deepEqual(second.ids, ids.slice(0, TOKENS));
  assert.ok(computed() < prompt.length, `${computed()} of ${prompt.length}`);
});
