/** What sequences ask for beyond sampling: changed logits and log-probabilities, each its own, in one batch. */
import assert from "node:assert/strict";
import type { Gpu } from "../../../kernels/gpu/gpu.ts";
import { Memory } from "../../../kernels/gpu/memory.ts";
import type {
  Engine,
  LogitAdjustments,
  SequenceOptions,
  TokenLogprobs,
} from "../../../model/engine/engine.ts";
import { presetConfig } from "../../../model/families/presets.ts";
import { Llama } from "../../../model/transformer/llama.ts";
import { generateMode, numericsOf } from "../../../model/transformer/modes.ts";
import { readFixture } from "../../fixtures.ts";
import { gpuTest } from "../../kernels/harness.ts";
import { makeEngine } from "./engines.ts";

const TOKENS = 12;
const NONE: LogitAdjustments = { frequency_penalty: 0, presence_penalty: 0, logit_bias: new Map() };

/** Answers to one prompt in one batch, with what is told of their tokens. */
async function answersOf(
  gpu: Gpu,
  engine: Engine,
  prompt: readonly number[],
  all: readonly Partial<SequenceOptions>[],
): Promise<{ ids: number[]; told: (TokenLogprobs | undefined)[] }[]> {
  const sequences = all.map((options) =>
    engine.admit(prompt, { maxTokens: TOKENS, stop: [], ...options })
  );
  const told = sequences.map((): (TokenLogprobs | undefined)[] => []);
  while (sequences.some(({ finished }) => finished === undefined)) {
    for (const { sequence, logprobs } of await engine.step(gpu)) {
      told[sequences.indexOf(sequence)].push(logprobs);
    }
  }
  return sequences.map(({ ids }, i) => ({ ids, told: told[i] }));
}

gpuTest("engine: each sequence's logits are changed as it asks for", async (gpu) => {
  const [{ prompt, ids: fixed, ...subject }] = readFixture("greedy.json");
  const room = { adjusted: true, penalized: true }, greedy = fixed.slice(0, TOKENS);
  const engine = await makeEngine(gpu, subject, { room, sizes: { sequences: 5 } });
  const forbidden = new Map([[greedy[0], -1e4]]), wanted = (greedy[0] + 1) % 7;
  const asked = [
    {},
    { adjustments: { ...NONE, logit_bias: new Map([[wanted, 1e4]]) } },
    { adjustments: { ...NONE, logit_bias: forbidden } },
    { adjustments: { ...NONE, presence_penalty: 1e4 } },
    { adjustments: { ...NONE, frequency_penalty: 1e4, logit_bias: new Map([[wanted, 25_000]]) } },
  ];
  // Again, in slots that hold the counts and biases of others.
  for (const order of [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0]]) {
    const found = await answersOf(gpu, engine, prompt, order.map((i) => asked[i]));
    const [plain, biased, without, once, thrice] = order.map((i) => found[i].ids);
    assert.deepEqual(plain, greedy);
    assert.deepEqual(biased, Array(TOKENS).fill(wanted));
    assert.ok(!without.includes(greedy[0]), `${without}`);
    assert.equal(once[0], greedy[0]);
    assert.equal(new Set(once).size, TOKENS, `${once} repeats a token`);
    // 25,000 is worth the penalties of two occurrences.
    assert.deepEqual(thrice.slice(0, 3), [wanted, wanted, wanted]);
    assert.equal(thrice.filter((id) => id === wanted).length, 3, `${thrice}`);
  }
});

gpuTest("engine: log-probabilities are told of the sequences that ask for them", async (gpu) => {
  const [{ prompt, ids, ...subject }] = readFixture("greedy.json");
  const room = { logprobs: true, adjusted: true };
  const engine = await makeEngine(gpu, subject, { room, sizes: { sequences: 4 } });
  const biased = { ...NONE, logit_bias: new Map([[ids[0], -1e4]]) };
  const [plain, chosen, several, changed] = await answersOf(gpu, engine, prompt, [
    {},
    { logprobs: 0 },
    { logprobs: 5 },
    { logprobs: 2, adjustments: biased },
  ]);
  assert.deepEqual(plain.ids, ids.slice(0, TOKENS));
  assert.ok(plain.told.every((record) => record === undefined));
  for (const [i, id] of plain.ids.entries()) {
    const record = several.told[i] ?? assert.fail("nothing is told");
    assert.equal(record.top.length, 5);
    assert.deepEqual(record.top[0], { id, logprob: record.logprob }, "greedy takes the likeliest");
    assert.deepEqual(
      record.top.map(({ logprob }) => logprob).toSorted((a, b) => b - a),
      record.top.map(({ logprob }) => logprob),
    );
    assert.ok(record.top.reduce((sum, { logprob }) => sum + Math.exp(logprob), 0) <= 1 + 1e-5);
    assert.deepEqual(chosen.told[i], { logprob: record.logprob, top: [] });
  }
  // They are the model's own, before anything is changed.
  assert.deepEqual(changed.told[0]?.top, several.told[0]?.top.slice(0, 2));
  assert.deepEqual(
    { id: changed.ids[0], logprob: changed.told[0]?.logprob },
    changed.told[0]?.top[1],
  );
});

gpuTest("engine: what it has no room for, or is out of range, is refused", async (gpu) => {
  const [{ prompt, ...subject }] = readFixture("greedy.json");
  const options = { maxTokens: 1, stop: [] };
  const bare = await makeEngine(gpu, subject);
  assert.throws(() => bare.admit(prompt, { ...options, adjustments: NONE }), /no memory for `adj/);
  assert.throws(() => bare.admit(prompt, { ...options, logprobs: 1 }), /no memory for `logprobs/);
  const engine = await makeEngine(gpu, subject, { room: { adjusted: true, logprobs: true } });
  assert.throws(() => engine.admit(prompt, { ...options, logprobs: 21 }), /from 0 to 20/);
  const vocab = engine.model.config.vocab_size;
  const refused = [
    [{ presence_penalty: NaN }, /presence_penalty is NaN; expected/],
    [{ logit_bias: new Map([[vocab, 1]]) }, /expected a whole number from 0 to/],
    [{ logit_bias: new Map([[0, Infinity]]) }, /bias of token 0 is Infinity/],
  ] as const;
  for (const [adjustments, message] of refused) {
    const wrong = { ...options, adjustments: { ...NONE, ...adjustments } };
    assert.throws(() => engine.admit(prompt, wrong), message);
  }
});

Deno.test("engine: a generation has room for the logits of all its sequences", () => {
  const bytes = (sequences: number) => {
    const memory = new Memory();
    new Llama(memory, {
      config: presetConfig("llama2-7b"),
      numerics: numericsOf({ precision: "mixed", exact_products: false }),
      mode: generateMode({ sequences, context: 16, promptTokens: 16, cache: "f16" }),
    });
    return memory.live.workspace;
  };
  assert.ok(bytes(128) - bytes(64) >= 64 * 32000 * 4);
});
