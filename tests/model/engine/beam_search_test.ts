import assert from "node:assert/strict";
import { uniformNumbers } from "../../../kernels/ops/elements/random.ts";
import {
  assignSlots,
  BeamSearch,
  type BeamSearchOptions,
  type Hypothesis,
} from "../../../model/engine/beam_search.ts";

/** Log-probabilities of the next token after a prefix: an invented model. */
type Model = (prefix: readonly number[]) => Float64Array;

/** A model whose every prefix has its own random distribution. */
function randomModel(vocab: number, seed: number): Model {
  const made = new Map<number, Float64Array>();
  return (prefix) => {
    // A number of its own for every prefix.
    const hash = prefix.reduce((number, id) => number * vocab + id, 1);
    let logprobs = made.get(hash);
    if (logprobs === undefined) {
      const logits = uniformNumbers(vocab, seed, hash).map((v) => 6 * v);
      const logSum = Math.log(logits.reduce((sum, x) => sum + Math.exp(x), 0));
      made.set(hash, logprobs = logits.map((x) => x - logSum));
    }
    return logprobs;
  };
}

/** The `count` likeliest tokens of a distribution, as topTokens gives them. */
function likeliest(logprobs: Float64Array, count: number): number[] {
  return [...logprobs.keys()].sort((a, b) => logprobs[b] - logprobs[a] || a - b).slice(0, count);
}

/** Runs a search to its end and returns its hypotheses; checks what every step must keep to. */
function run(model: Model, options: BeamSearchOptions): readonly Hypothesis[] {
  const search = new BeamSearch(options);
  let live: number[][] = [[]], steps = 0;
  assert.equal(search.live, 1);
  while (search.live > 0) {
    const rows = live.map((prefix) => {
      const logprobs = model(prefix);
      const ids = likeliest(logprobs, search.width);
      return { ids, logprobs: ids.map((id) => logprobs[id]) };
    });
    const next = search.advance({
      ids: rows.flatMap(({ ids }) => ids),
      logprobs: rows.flatMap(({ logprobs }) => logprobs),
    });
    assert.ok(next.length <= options.beams && ++steps <= options.maxTokens);
    assert.equal(search.live, next.length);
    live = next.map(({ parent, token }) => [...live[parent], token]);
    assert.equal(new Set(live.map(String)).size, live.length, "a sequence lives twice");
    assert.ok(live.every((ids) => !ids.some((id) => options.stop.includes(id))));
  }
  return search.hypotheses;
}

/** The log-probability of a sequence. */
function logprobOf(model: Model, ids: readonly number[]): number {
  return ids.reduce((sum, id, i) => sum + model(ids.slice(0, i))[id], 0);
}

/** Every sequence that ends with a stop token or at `maxTokens`, best first. */
function exhaustive(model: Model, vocab: number, options: BeamSearchOptions): Hypothesis[] {
  const { maxTokens, lengthPenalty, stop } = options;
  const all: Hypothesis[] = [];
  const visit = (ids: number[], logprob: number) => {
    const stopped = stop.includes(ids.at(-1) ?? -1);
    if (stopped || ids.length === maxTokens) {
      all.push({ ids, stopped, logprob, score: logprob / ids.length ** lengthPenalty });
    } else {
      const next = model(ids);
      for (let id = 0; id < vocab; id++) visit([...ids, id], logprob + next[id]);
    }
  };
  visit([], 0);
  return all.sort((a, b) => b.score - a.score);
}

for (const stop of [[], [3], [0, 2]]) {
  Deno.test(`wide beams find what an exhaustive search finds (stop: ${stop})`, () => {
    const vocab = 4;
    for (const lengthPenalty of [0, 0.6, 1, 2, -1]) {
      for (let seed = 0; seed < 8; seed++) {
        const options = { beams: vocab ** 4, maxTokens: 5, lengthPenalty, stop };
        const model = randomModel(vocab, seed);
        const found = run(model, options), expected = exhaustive(model, vocab, options);
        const what = `penalty ${lengthPenalty}, seed ${seed}`;
        assert.equal(found.length, Math.min(options.beams, expected.length), what);
        // The best tenth: farther down, short beams have crowded out some long ones.
        for (let i = 0; i < found.length / 10; i++) {
          assert.deepEqual(found[i].ids, expected[i].ids, `${what}, hypothesis ${i}`);
          assert.equal(found[i].stopped, expected[i].stopped);
          assert.ok(Math.abs(found[i].score - expected[i].score) < 1e-9, what);
        }
      }
    }
  });
}

Deno.test("narrow beams: true scores in order, and never above the exhaustive search", () => {
  const vocab = 5;
  for (const beams of [1, 2, 3, 5]) {
    for (const stop of [[], [4], [0, 1, 2]]) {
      for (let seed = 0; seed < 10; seed++) {
        const lengthPenalty = [0, 1, 2][seed % 3];
        const options = { beams, maxTokens: 5, lengthPenalty, stop };
        const model = randomModel(vocab, 100 + seed);
        const found = run(model, options), [best] = exhaustive(model, vocab, options);
        const what = `${beams} beams, stop ${stop}, seed ${seed}`;
        assert.ok(found.length >= 1 && found.length <= beams, what);
        assert.equal(new Set(found.map(({ ids }) => `${ids}`)).size, found.length, what);
        found.forEach(({ ids, stopped, logprob, score }, i) => {
          assert.ok(Math.abs(logprob - logprobOf(model, ids)) < 1e-9, what);
          assert.ok(Math.abs(score - logprob / ids.length ** lengthPenalty) < 1e-9, what);
          assert.equal(stopped, stop.includes(ids[ids.length - 1]), what);
          assert.ok(stopped || ids.length === options.maxTokens, what);
          assert.ok(score <= (found[i - 1] ?? best).score + 1e-9, what);
        });
      }
    }
  }
});

Deno.test("one beam is greedy", () => {
  for (const stop of [[], [2], [1, 3, 5]]) {
    for (let seed = 0; seed < 20; seed++) {
      const model = randomModel(6, 200 + seed), ids: number[] = [];
      while (ids.length < 12 && !stop.includes(ids.at(-1) ?? -1)) {
        ids.push(likeliest(model(ids), 1)[0]);
      }
      const found = run(model, { beams: 1, maxTokens: 12, lengthPenalty: 1, stop });
      assert.deepEqual(
        found.map((hypothesis) => hypothesis.ids),
        [ids],
        `stop ${stop}, seed ${seed}`,
      );
    }
  }
});

Deno.test("a likely start that leads nowhere loses to what two beams see", () => {
  // Greedy takes 0 (0.6), after which everything is unlikely; 1 (0.4) goes on with certainty.
  const tables: Record<string, number[]> = {
    "": [0.6, 0.4, 0],
    "0": [0.4, 0.3, 0.3],
    "1": [0, 1, 0],
  };
  const model: Model = (prefix) => Float64Array.from(tables[`${prefix}`], Math.log);
  const options = { maxTokens: 2, lengthPenalty: 0, stop: [] };
  assert.deepEqual(run(model, { ...options, beams: 1 })[0].ids, [0, 0]);
  const two = run(model, { ...options, beams: 2 });
  assert.deepEqual(two.map(({ ids }) => ids), [[1, 1], [0, 0]]);
  // Impossible tokens make no hypotheses: 3 sequences after 0 and 1 after 1.
  assert.equal(run(model, { ...options, beams: 9 }).length, 4);
});

Deno.test("a search ends when no live beam can beat the worst hypothesis", () => {
  const stop = [0], width = 4;
  const step = (search: BeamSearch, ...probabilities: [number, number][]) =>
    search.advance({
      ids: probabilities.map(([id]) => id),
      logprobs: probabilities.map(([, p]) => Math.log(p)),
    });
  const options = { beams: 2, maxTokens: 50, lengthPenalty: 0, stop };
  let search = new BeamSearch(options);
  assert.equal(search.width, width);
  assert.deepEqual(step(search, [0, 0.5], [1, 0.3], [2, 0.15], [3, 0.05]), [
    { parent: 0, token: 1 },
    { parent: 0, token: 2 },
  ]);
  // A stop token below the first two of all candidates finishes nothing.
  step(search, [2, 0.6], [1, 0.3], [0, 0.1], [3, 0], [1, 0.5], [2, 0.4], [3, 0.05], [0, 0.05]);
  assert.equal(search.hypotheses.length, 1);
  // 0.18 · 0.9 is a second hypothesis, which 0.09 · 0.5 can't beat.
  const rest: [number, number][] = [[1, 0.5], [2, 0.4], [3, 0.1], [0, 0]];
  assert.deepEqual(step(search, [0, 0.9], [1, 0.05], [2, 0.05], [3, 0], ...rest), []);
  assert.equal(search.live, 0);
  assert.deepEqual(search.hypotheses.map(({ ids }) => ids), [[0], [1, 2, 0]]);

  // Of one length, per token: the stop token is counted.
  search = new BeamSearch({ ...options, beams: 1, lengthPenalty: 2 });
  step(search, [1, 0.9], [0, 0.1]);
  step(search, [0, 0.8], [1, 0.2]);
  assert.equal(search.live, 0);
  assert.ok(Math.abs(search.hypotheses[0].score - Math.log(0.72) / 4) < 1e-12);
});

Deno.test("candidates are enough for all beams to live on, however many tokens stop", () => {
  const width = (beams: number, stop: number[]) =>
    new BeamSearch({ beams, maxTokens: 9, lengthPenalty: 1, stop }).width;
  assert.deepEqual([width(4, []), width(4, [1]), width(1, [1, 2, 3])], [8, 8, 4]);
});

Deno.test("assignSlots moves as little as possible and copies without conflict", () => {
  // One beam of 3 slots becomes three.
  assert.deepEqual(assignSlots([0, 0, 0], [1], 3), {
    slots: [1, 0, 2],
    copies: [{ from: 1, to: 0 }, { from: 1, to: 2 }],
  });
  // Every parent has one child: nothing moves.
  assert.deepEqual(assignSlots([2, 0, 1], [0, 1, 2], 3), { slots: [2, 0, 1], copies: [] });
  assert.throws(() => assignSlots([0, 0, 1], [0, 1], 2), /3 beams do not fit 2 slots/);

  let slots = [0];
  const numbers = uniformNumbers(40_000, 1, 2);
  let used = 0;
  const next = (below: number) => Math.floor(numbers[used++] * below);
  for (let round = 0; round < 2000; round++) {
    const capacity = 8;
    const parents = Array.from({ length: 1 + next(capacity) }, () => next(slots.length));
    const result = assignSlots(parents, slots, capacity);
    // What each slot holds, by its parent, after copies in the opposite order.
    const holds = new Map(slots.map((slot, parent) => [slot, parent]));
    const before = new Map(holds);
    for (const { from, to } of result.copies.toReversed()) holds.set(to, holds.get(from)!);
    result.slots.forEach((slot, i) => assert.equal(holds.get(slot), parents[i]));
    assert.equal(new Set(result.slots).size, parents.length);
    assert.ok(result.slots.every((slot) => slot >= 0 && slot < capacity));
    assert.equal(result.copies.length, parents.length - new Set(parents).size);
    for (const { to } of result.copies) {
      assert.ok(
        !before.has(to) || !parents.includes(before.get(to)!),
        "a needed slot is overwritten",
      );
    }
    slots = result.slots;
  }
});
