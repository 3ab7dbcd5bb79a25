/** Held-out losses and answers as the page gets them. */
import assert from "node:assert/strict";
import { Evaluations } from "../../../train/watch/evaluations.ts";

const line = (step: number, loss: unknown, samples?: unknown) =>
  JSON.stringify({ step, epoch: 1, loss, perplexity: 2, tokens: 9, seconds: 1, samples });

Deno.test("watch evaluations: losses of all, answers of those that have some", () => {
  const evaluations = new Evaluations();
  const sample = { prompt: "a\u001b[2J", answer: "b\u202ec", expected: "d" };
  evaluations.lines([line(0, 3), line(5, null, [sample, 7]), "{", "[]", line(1.5, 1)].join("\n"));
  assert.deepEqual(evaluations.all, [{ step: 0, loss: 3 }, { step: 5, loss: NaN }]);
  const samples = [{ prompt: "a[2J", answer: "bc", expected: "d" }];
  assert.deepEqual(evaluations.answered, [{ step: 5, loss: NaN, samples }]);
});

Deno.test("watch evaluations: a run that went back takes the later ones along", () => {
  const evaluations = new Evaluations();
  const samples = [{ prompt: "p", answer: "a" }];
  evaluations.lines([0, 5, 10].map((step) => line(step, step, samples)).join("\n"));
  evaluations.lines(line(5, 9));
  assert.deepEqual(evaluations.all, [{ step: 0, loss: 0 }, { step: 5, loss: 9 }]);
  assert.deepEqual(evaluations.answered.map(({ step }) => step), [0]);
});

Deno.test("watch evaluations: what is kept is bounded", () => {
  const evaluations = new Evaluations();
  const samples = Array.from({ length: 99 }, () => ({ prompt: "x".repeat(9999), answer: "" }));
  for (let step = 0; step < 25; step++) evaluations.lines(line(step, 1, samples));
  const { answered } = evaluations;
  assert.deepEqual([answered.length, answered[0].step], [20, 5]);
  assert.equal(answered[0].samples.length, 32);
  assert.equal(answered[0].samples[0].prompt, `${"x".repeat(4000)} …`);
});
