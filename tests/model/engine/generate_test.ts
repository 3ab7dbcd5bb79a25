/** Generation against PyTorch float32, with and without the KV cache, alone and in batches. */
import assert from "node:assert/strict";
import { type Gpu, openGpu } from "../../../kernels/gpu/gpu.ts";
import { type Dtype, type Tensor } from "../../../kernels/gpu/tensor.ts";
import { makeBatch } from "../../../model/transformer/batch.ts";
import { Decoder } from "../../../model/engine/decoder.ts";
import {
  type GenerateOptions,
  Generator,
  GREEDY,
  type Sampling,
} from "../../../model/engine/generate.ts";
import { setParameter } from "../../../model/checkpoint/load.ts";
import { parameterCount } from "../../../model/transformer/parameters.ts";
import { type FixtureSubject, type GreedyCase, readFixture } from "../../fixtures.ts";
import { assertClose, gpuTest, randomArray } from "../../kernels/harness.ts";
import { loadForDecoder, makeGenerator, SIZES } from "./generators.ts";

const TOKENS = 24;
const CACHES: (Dtype | undefined)[] = ["f32", "f16", undefined];

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
  generator: Generator,
  prompts: readonly (readonly number[])[],
  options: Partial<GenerateOptions> = {},
): Promise<number[][]> {
  const all: number[][] = [], { sequences } = generator.decoder.sizes;
  for (let first = 0; first < prompts.length; first += sequences) {
    const group = prompts.slice(first, first + sequences);
    const settings = { maxTokens: TOKENS, stop: [], firstStream: first, ...options };
    all.push(...await generator.generate(gpu, group, settings));
  }
  return all;
}

/** Batch and cache of each run. Adapters take fewer: what they add has nothing to do with the cache. */
function runs(adapter: string | null): [sequences: number, cache: Dtype | undefined][] {
  if (adapter !== null) return [[1, "f32"], [4, "f16"], [4, undefined]];
  return [1, 4].flatMap((sequences) =>
    CACHES.map((cache): [number, Dtype | undefined] => [sequences, cache])
  );
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
        for (const [sequences, cache] of runs(subject.adapter)) {
          const sizes = { sequences, cache };
          const generator = await makeGenerator(gpu, subject, { precision, sizes });
          const ids = await answers(gpu, generator, prompts);
          // Mixed precision has no golden file: its first run is what the others have to equal.
          expected ??= ids;
          const what = `${subject.model} ${subject.adapter}, cache ${cache}, batch ${sequences}`;
          assert.deepEqual(ids, expected, what);
        }
      }
    },
  );
}

gpuTest("generate: the programs for GPUs give PyTorch's tokens too", async () => {
  const gpu = await openGpu({ software: false });
  for (const [subject, cases] of bySubject().filter(([{ adapter }]) => adapter !== "adapter_qv")) {
    const chosen = [cases[1], cases[4]];
    for (const sequences of [1, 2]) {
      const generator = await makeGenerator(gpu, subject, { sizes: { sequences } });
      const ids = await answers(gpu, generator, chosen.map(({ prompt }) => prompt));
      const what = `${subject.model} ${subject.adapter}, batch ${sequences}`;
      assert.deepEqual(ids, chosen.map(({ ids }) => ids), what);
    }
    // No logits are wanted of a pass that the prompt goes on after.
    const inPasses = await makeGenerator(gpu, subject, { maxTokens: 64 }), long = cases.at(-1)!;
    assert.deepEqual(await answers(gpu, inPasses, [long.prompt]), [long.ids], subject.model);
  }
  gpu.close();
});

gpuTest("generate: prefill and decode give the logits of one full pass", async (gpu) => {
  for (const [subject, cases] of bySubject()) {
    const ids = cases.at(-1)!.prompt.slice(0, 140), from = 100;
    const model = await loadForDecoder(gpu, subject, SIZES, { maxTargets: 64 });
    const vocab = model.config.vocab_size;
    const decoder = new Decoder(gpu.memory, model, SIZES);
    const made: Float32Array[] = [];
    let logits: Tensor;
    const decide = (l: Tensor) => logits = l;
    decoder.begin(gpu, [ids.slice(0, from)], decide);
    for (let at = from; at < ids.length; at++) {
      made.push((await gpu.readF32(logits!.rows(0, 1))).slice(0, vocab));
      decoder.append([[ids[at]]]);
      gpu.write(decoder.ids, Uint32Array.of(ids[at]));
      decoder.step(gpu, decide);
    }
    // One pass over everything, with the logits that say what each of these tokens is.
    const batch = makeBatch([{ ids: Uint32Array.from(ids), promptLength: from, weight: 1 }], null);
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
      const generator = await makeGenerator(gpu, first, { maxTokens });
      const once = (prompt: number[], options: Partial<GenerateOptions> = { reuse: true }) =>
        answers(gpu, generator, [prompt], options);
      assert.deepEqual(await once(long.prompt), [long.ids], `passes of ${maxTokens}`);
      // The same again, then as the conversation would go on, then another from its middle on.
      assert.deepEqual(await once(long.prompt), [long.ids]);
      const further = [...long.prompt, ...long.ids.slice(0, 10)];
      assert.deepEqual(await once(further, { reuse: true, maxTokens: 14 }), [long.ids.slice(10)]);
      const other = [...long.prompt.slice(0, 150), 7, 8, 9];
      const kept = await once(other);
      const fresh = await makeGenerator(gpu, first);
      assert.deepEqual(kept, await answers(gpu, fresh, [other]));

      // Other weights: only an answer that uses nothing again is theirs.
      const { weights } = generator.model;
      const norm = weights.find(({ name }) => name === "model.layers.0.input_layernorm.weight")!;
      setParameter(gpu, norm, Float32Array.from(randomArray(parameterCount(norm), 4, 2)));
      setParameter(
        gpu,
        fresh.model.weights[weights.indexOf(norm)],
        Float32Array.from(randomArray(parameterCount(norm), 4, 2)),
      );
      const changed = await answers(gpu, fresh, [long.prompt]);
      assert.notDeepEqual(changed, [long.ids]);
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
      const generator = await makeGenerator(gpu, cases[0], { sizes: { sequences: 4, cache } });
      const taken: number[][] = [[], [], [], []];
      const take = (sequence: number, id: number) => taken[sequence].push(id) < 7 || sequence !== 2;
      const ids = await answers(gpu, generator, prompts, { stop, take });
      const expected = cases.map(({ ids }, i) => {
        const end = ids.findIndex((id) => stop.includes(id));
        const before = end < 0 ? ids : ids.slice(0, end);
        return i === 2 ? before.slice(0, 7) : before;
      });
      assert.ok(expected[0].length < TOKENS && expected.some(({ length }) => length === TOKENS));
      assert.deepEqual(ids, expected);
      assert.deepEqual(taken, expected);

      // The context ends the longest prompt's answer first; the others go on unharmed beside it.
      const context = prompts[3].length + 5;
      const tight = await makeGenerator(gpu, cases[0], {
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
        const generator = await makeGenerator(gpu, cases[0], { sizes, penalized: true });
        const ids = await answers(gpu, generator, prompts, { sampling });
        expected ??= ids;
        assert.deepEqual(ids, expected, `batch ${sequences}, cache ${cache}`);
        const others = await answers(gpu, generator, prompts, {
          sampling: { ...sampling, seed: 8 },
        });
        assert.notDeepEqual(others, expected);
      }
    }
    assert.notDeepEqual(expected, cases.map(({ ids }) => ids));
  },
);

gpuTest(
  "generate: a strong repetition penalty repeats neither the prompt's tokens nor the answer's",
  async (gpu) => {
    const [{ prompt, ...subject }] = readFixture("greedy.json");
    const generator = await makeGenerator(gpu, subject, { penalized: true });
    const sampling = { ...GREEDY, repetition_penalty: 50 };
    const long = [...prompt, ...randomArray(40, 3).map((v) => Math.floor(Math.abs(v) * 130))];
    const [ids] = await answers(gpu, generator, [long], { sampling });
    assert.equal(new Set([...ids, ...long]).size, ids.length + new Set(long).size);
  },
);

gpuTest("generate: an abort ends after the chunk under way", async (gpu) => {
  const [{ prompt, ids, ...subject }] = readFixture("greedy.json");
  const generator = await makeGenerator(gpu, subject);
  const controller = new AbortController();
  const take = () => (controller.abort(), true);
  const [made] = await answers(gpu, generator, [prompt], { take, signal: controller.signal });
  assert.deepEqual(made, ids.slice(0, 1));
});
