/** Generation against PyTorch float32, with and without the KV cache, alone and in batches. */
import { generateMode, numericsOf } from "../../../model/transformer/modes.ts";
import assert from "node:assert/strict";
import { type Gpu, openGpu } from "../../../kernels/gpu/gpu.ts";
import { type Dtype, type Tensor } from "../../../kernels/gpu/tensor.ts";
import { makeBatch } from "../../../model/transformer/batch.ts";
import {
  Engine,
  GREEDY,
  type Sampling,
  type Sequence,
  type SequenceOptions,
} from "../../../model/engine/engine.ts";
import { Slots } from "../../../model/engine/slots.ts";
import { setParameter } from "../../../model/checkpoint/load.ts";
import { parameterCount } from "../../../model/transformer/parameters.ts";
import { type FixtureSubject, type GreedyCase, readFixture } from "../../fixtures.ts";
import { assertClose, gpuTest, randomArray } from "../../kernels/harness.ts";
import { loadForEngine, makeEngine, SIZES } from "./engines.ts";
import { targetsAfter } from "../../../model/text/targets.ts";

const TOKENS = 24;
/** Where each token takes passes over all before it, and for what does not depend on how many there are. */
const FEW_TOKENS = 6;
/** Where the programs for GPUs run, which a software driver takes a hundred times as long for. */
const FEWEST_TOKENS = 3;

/** Cases by model and adapter, so that each is loaded once. */
function bySubject(): [FixtureSubject, GreedyCase[]][] {
  const groups = Map.groupBy(
    readFixture("greedy.json"),
    ({ model, adapter }) => `${model} ${adapter}`,
  );
  return [...groups.values()].map((group) => [group[0], group]);
}

/** Every answer, `sequences` prompts at once. */
async function answers(
  gpu: Gpu,
  engine: Engine,
  prompts: readonly (readonly number[])[],
  options: Partial<SequenceOptions> = {},
): Promise<number[][]> {
  const all: number[][] = [], { sequences } = engine.sizes;
  for (let first = 0; first < prompts.length; first += sequences) {
    const group = prompts.slice(first, first + sequences);
    const settings = { maxTokens: TOKENS, stop: [], subsequence: first, ...options };
    all.push(...await engine.answers(gpu, group, settings));
  }
  return all;
}

/** Batch and cache of a run, and the tokens of each answer. */
interface Run {
  sequences: number;
  cache: Dtype | undefined;
  tokens: number;
  /** Prompts, of 1 to 300 tokens. The longest takes more time than the others together, so few runs have it. */
  prompts: number;
}

/** The runs of a model. Adapters take fewer: what they add has nothing to do with the cache. */
function runs({ model, adapter }: FixtureSubject, precision: "fp32" | "mixed"): Run[] {
  const prompts = precision === "fp32" || model === "llama_tied" ? 6 : 5;
  const some: Run = { sequences: 1, cache: "f32", tokens: TOKENS / 2, prompts };
  const without = { ...some, cache: undefined, tokens: FEW_TOKENS, prompts: 5 };
  const batch = { ...some, sequences: 4 }, batchOfHalves: Run = { ...batch, cache: "f16" };
  if (adapter !== null) return [some, batchOfHalves, { ...without, sequences: 4 }];
  return [
    { ...some, tokens: precision === "fp32" ? TOKENS : TOKENS / 2 },
    { ...some, cache: "f16" },
    without,
    batch,
    batchOfHalves,
    { ...without, sequences: 4, prompts: model === "llama_tied" ? 6 : 5 },
  ];
}

for (const precision of ["fp32", "mixed"] as const) {
  const whose = precision === "fp32" ? "are PyTorch's" : "are the same";
  gpuTest(
    `generate: ${precision} tokens ${whose} with f32 and f16 cache and without, batch 1 and 4`,
    async (gpu) => {
      for (const [subject, cases] of bySubject()) {
        const prompts = cases.map(({ prompt }) => prompt);
        assert.deepEqual([1, 300], [prompts[0].length, prompts.at(-1)!.length]);
        let expected = precision === "fp32" ? cases.map(({ ids }) => ids) : undefined;
        for (const { sequences, cache, tokens, prompts: count } of runs(subject, precision)) {
          const sizes = { sequences, cache };
          const engine = await makeEngine(gpu, subject, {
            numerics: numericsOf({ precision, exact_products: false }),
            sizes,
          });
          const maxTokens = tokens;
          const ids = await answers(gpu, engine, prompts.slice(0, count), { maxTokens });
          // Mixed precision has no golden file: its first run is what the others have to equal.
          expected ??= ids;
          const what = `${subject.model} ${subject.adapter}, cache ${cache}, batch ${sequences}`;
          const first = expected.slice(0, count).map((all) => all.slice(0, maxTokens));
          assert.deepEqual(ids, first, what);
        }
      }
    },
  );
}

gpuTest("generate: the programs for GPUs give PyTorch's tokens too", async () => {
  const gpu = await openGpu({ software: false });
  const few = { maxTokens: FEWEST_TOKENS };
  const first = (ids: number[]) => ids.slice(0, FEWEST_TOKENS);
  for (const [subject, cases] of bySubject().filter(([{ adapter }]) => adapter !== "adapter_qv")) {
    const chosen = [cases[1], cases[4]];
    for (const sequences of subject.adapter === null ? [1, 2] : [2]) {
      const engine = await makeEngine(gpu, subject, { sizes: { sequences } });
      const ids = await answers(gpu, engine, chosen.map(({ prompt }) => prompt), few);
      const what = `${subject.model} ${subject.adapter}, batch ${sequences}`;
      assert.deepEqual(ids, chosen.map(({ ids }) => first(ids)), what);
    }
  }
  // No logits are wanted of a pass that the prompt goes on after.
  const [[subject, cases]] = bySubject(), long = cases.at(-1)!;
  const inPasses = await makeEngine(gpu, subject, { passes: { maxTokens: 64 } });
  assert.deepEqual(await answers(gpu, inPasses, [long.prompt], few), [first(long.ids)]);
  gpu.close();
});

gpuTest("generate: prefill and decode give the logits of one full pass", async (gpu) => {
  for (const [subject, cases] of bySubject()) {
    const ids = cases.at(-1)!.prompt.slice(0, 140), from = 120;
    const model = await loadForEngine(gpu, subject, {
      mode: { ...generateMode(SIZES), maxTargets: 64 },
    });
    const vocab = model.config.vocab_size;
    const slots = new Slots(gpu.memory, model, SIZES);
    const made: Float32Array[] = [];
    let logits: Tensor;
    const sampler = (l: Tensor) => logits = l;
    slots.prefill(gpu, [{ slot: 0, ids: ids.slice(0, from), cached: 0 }], sampler);
    for (let at = from; at < ids.length; at++) {
      made.push((await gpu.readF32(logits!.rows(0, 1))).slice(0, vocab));
      gpu.write(slots.ids, Uint32Array.of(ids[at]));
      slots.step(gpu, 1, sampler);
    }
    // One pass over everything, with the logits that say what each of these tokens is.
    const document = { ids: Uint32Array.from(ids), targets: targetsAfter(from, ids), weight: 1 };
    const batch = makeBatch([document], null);
    const full = await gpu.readF32(model.logits(gpu, batch));
    const width = full.length / 64;
    made.forEach((row, i) => {
      const expected = full.subarray(i * width, i * width + vocab);
      assertClose(row, expected, {
        atol: 1e-4,
        rtol: 0,
        what: `${subject.model} token ${from + i}`,
      });
    });
  }
});

gpuTest(
  "generate: a prompt in several prefill passes, and one that the cache holds in part",
  async (gpu) => {
    const [first, , , , , long] = readFixture("greedy.json");
    for (const maxTokens of [64, 324]) {
      const engine = await makeEngine(gpu, first, { passes: { maxTokens } });
      const few = { maxTokens: TOKENS / 2 }, begin = long.ids.slice(0, TOKENS / 2);
      const once = (prompt: number[], options: Partial<SequenceOptions> = { reuse: true }) =>
        answers(gpu, engine, [prompt], { ...few, ...options });
      assert.deepEqual(await once(long.prompt), [begin], `passes of ${maxTokens}`);
      // The same again, then as the conversation would go on, then another from its middle on.
      assert.deepEqual(await once(long.prompt), [begin]);
      const further = [...long.prompt, ...long.ids.slice(0, 10)];
      assert.deepEqual(await once(further), [long.ids.slice(10, 10 + TOKENS / 2)]);
      const other = [...long.prompt.slice(0, 150), 7, 8, 9];
      const kept = await once(other);
      const fresh = await makeEngine(gpu, first);
      assert.deepEqual(kept, await answers(gpu, fresh, [other], few));
      // No step has read an answer's last token: a prompt that has it and goes on computes it.
      const [answer] = await once(first.prompt), rest = first.ids.slice(answer.length + 1);
      const whole = [...first.prompt, ...first.ids.slice(0, answer.length + 1)];
      assert.deepEqual(await once(whole, { reuse: true, maxTokens: rest.length }), [rest]);

      // Other weights: only an answer that uses nothing again is theirs.
      const { weights } = engine.model;
      const norm = weights.find(({ name }) => name === "model.layers.0.input_layernorm.weight")!;
      setParameter(gpu, norm, Float32Array.from(randomArray(parameterCount(norm), 4, 2)));
      setParameter(
        gpu,
        fresh.model.weights[weights.indexOf(norm)],
        Float32Array.from(randomArray(parameterCount(norm), 4, 2)),
      );
      const changed = await answers(gpu, fresh, [long.prompt], few);
      assert.notDeepEqual(changed, [begin]);
      assert.deepEqual(await once(long.prompt, {}), changed);
    }
  },
);

gpuTest(
  "generate: sequences end one by one: by stop tokens, by a callback, by the context",
  async (gpu) => {
    const cases = readFixture("greedy.json").slice(0, 4);
    const prompts = cases.map(({ prompt }) => prompt), stop = [cases[0].ids[5], 200];
    for (const cache of ["f32", undefined] as const) {
      const engine = await makeEngine(gpu, cases[0], { sizes: { sequences: 4, cache } });
      const taken: number[][] = [[], [], [], []];
      for await (
        const { sequence, index, id } of engine.generate(gpu, prompts, { maxTokens: TOKENS, stop })
      ) {
        if (taken[index].push(id) === 7 && index === 2) engine.evict(sequence);
      }
      const expected = cases.map(({ ids }, i) => {
        const end = ids.findIndex((id) => stop.includes(id));
        const before = end < 0 ? ids : ids.slice(0, end);
        return i === 2 ? before.slice(0, 7) : before;
      });
      assert.ok(expected[0].length < TOKENS && expected.some(({ length }) => length === TOKENS));
      assert.deepEqual(taken, expected);

      // The context ends the longest prompt's answer first; the others go on unharmed beside it.
      const context = prompts[3].length + 5;
      const tight = await makeEngine(gpu, cases[0], {
        sizes: { sequences: 4, cache, context },
      });
      const cut = await answers(gpu, tight, prompts);
      assert.deepEqual(cut, cases.map(({ ids }, i) => i === 3 ? ids.slice(0, 5) : ids));
      const none = await answers(gpu, tight, prompts, { maxTokens: 0 });
      assert.deepEqual(none, [[], [], [], []]);
    }
  },
);

const DRAWN: Sampling = { ...GREEDY, temperature: 0.9, top_k: 40, top_p: 0.95, seed: 7 };

gpuTest(
  "generate: draws repeat exactly: alone, in a batch, with the cache and without",
  async (gpu) => {
    const cases = readFixture("greedy.json").slice(0, 4);
    const prompts = cases.map(({ prompt }) => prompt);
    const sampling = { ...DRAWN, min_p: 0.01, repetition_penalty: 1.2 };
    let expected: number[][] | undefined;
    for (const sequences of [1, 4]) {
      for (const cache of ["f32", undefined] as const) {
        const sizes = { sequences, cache };
        const engine = await makeEngine(gpu, cases[0], { sizes, room: { penalized: true } });
        const maxTokens = cache === undefined ? TOKENS / 2 : TOKENS;
        const ids = await answers(gpu, engine, prompts, { maxTokens, sampling });
        expected ??= ids;
        const first = expected.map((ids) => ids.slice(0, maxTokens));
        assert.deepEqual(ids, first, `batch ${sequences}, cache ${cache}`);
        const others = await answers(gpu, engine, prompts, {
          maxTokens: FEW_TOKENS,
          sampling: { ...sampling, seed: 8 },
        });
        assert.notDeepEqual(others, expected.map((ids) => ids.slice(0, FEW_TOKENS)));
      }
    }
    assert.notDeepEqual(expected, cases.map(({ ids }) => ids));
  },
);

gpuTest(
  "generate: a strong repetition penalty repeats neither the prompt's tokens nor the answer's",
  async (gpu) => {
    const [{ prompt, ...subject }] = readFixture("greedy.json");
    const engine = await makeEngine(gpu, subject, { room: { penalized: true } });
    const sampling = { ...GREEDY, repetition_penalty: 50 };
    const long = [...prompt, ...randomArray(40, 3).map((v) => Math.floor(Math.abs(v) * 130))];
    const [ids] = await answers(gpu, engine, [long], { sampling });
    assert.equal(new Set([...ids, ...long]).size, ids.length + new Set(long).size);
  },
);

gpuTest(
  "engine: leaving a loop over tokens ends the answer, and the next is another",
  async (gpu) => {
    const [{ prompt, ids, ...subject }, other] = readFixture("greedy.json");
    const engine = await makeEngine(gpu, subject);
    const made: number[] = [];
    for await (const { id } of engine.generate(gpu, [prompt], { maxTokens: TOKENS, stop: [] })) {
      made.push(id);
      if (made.length === 4) break;
    }
    assert.deepEqual(made, ids.slice(0, 4));
    assert.deepEqual(await answers(gpu, engine, [other.prompt]), [other.ids]);
  },
);

gpuTest(
  "engine: sequences come and go, each with its own sampling, as they do alone",
  async (gpu) => {
    const cases = readFixture("greedy.json").slice(0, 5);
    const penalty = { ...GREEDY, repetition_penalty: 1.3 };
    const samplings: Sampling[] = [GREEDY, DRAWN, penalty, { ...DRAWN, seed: 9, top_k: 0 }, DRAWN];
    for (const cache of ["f32", undefined] as const) {
      const most = cache === undefined ? [3, 8, 5, 6, 4] : [3, 24, 9, 24, 12];
      const optionsOf = (i: number): SequenceOptions => ({
        sampling: samplings[i],
        maxTokens: most[i],
        stop: [],
        subsequence: i,
      });
      const alone = await makeEngine(gpu, cases[0], {
        room: { penalized: true },
        sizes: { cache },
      });
      const expected: number[][] = [];
      for (const [i, { prompt }] of cases.entries()) {
        expected.push((await alone.answers(gpu, [prompt], optionsOf(i)))[0]);
      }
      const engine = await makeEngine(gpu, cases[0], {
        room: { penalized: true },
        sizes: { cache, sequences: 2 },
      });
      const sequences: Sequence[] = [];
      const admit = (i: number) => sequences.push(engine.admit(cases[i].prompt, optionsOf(i)));
      // More than there are slots, and one that comes while others are on their way.
      for (const i of [0, 1, 2, 3]) admit(i);
      const order: Sequence[] = [];
      for (let steps = 0;; steps++) {
        const tokens = await engine.step(gpu);
        order.push(...tokens.map(({ sequence }) => sequence));
        if (steps === 2) admit(4);
        if (tokens.length === 0) break;
      }
      assert.deepEqual(sequences.map(({ ids }) => ids), expected, `cache ${cache}`);
      assert.ok(sequences.every(({ finished }) => finished === "length"));
      if (cache === undefined) continue;
      // The third begins in the slot of the first while the second still goes on.
      const last = order.lastIndexOf(sequences[1]);
      assert.ok(order.indexOf(sequences[2]) < last, "a free slot was not used at once");
    }
  },
);

gpuTest(
  "engine: several loops over tokens are under way at once, each with its own",
  async (gpu) => {
    const [{ ids, prompt, ...subject }, other, third] = readFixture("greedy.json");
    const engine = await makeEngine(gpu, subject, { sizes: { sequences: 2 } });
    // The third waits for a slot.
    const all = [prompt, other.prompt, third.prompt].map((prompt) =>
      answers(gpu, engine, [prompt])
    );
    assert.deepEqual(await Promise.all(all), [[ids], [other.ids], [third.ids]]);
  },
);

gpuTest(
  "engine: a prompt that does not fit is refused, and one that fills the context ends",
  async (gpu) => {
    const [{ prompt, ...subject }] = readFixture("greedy.json");
    const engine = await makeEngine(gpu, subject, { sizes: { context: 8 } });
    const options = { maxTokens: 4, stop: [] };
    assert.throws(() => engine.admit(Array(9).fill(1), options), /9 tokens does not fit.* 8/);
    const longer = { sequences: 1, context: 9, promptTokens: 9 };
    assert.throws(
      () => new Engine(gpu.memory, engine.model, longer),
      /1 sequences of 9 tokens exceed/,
    );
    assert.throws(() => engine.admit([], options), /0 tokens/);
    const sampling = { ...GREEDY, repetition_penalty: 1.1 };
    assert.throws(() => engine.admit(prompt, { ...options, sampling }), /has no memory/);
    assert.equal(engine.admit(Array(8).fill(1), options).finished, "length");
    assert.deepEqual(await engine.step(gpu), []);
    assert.equal((await engine.answers(gpu, [prompt], options))[0].length, 4);
  },
);
