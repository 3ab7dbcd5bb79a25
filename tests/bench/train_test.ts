/** What the training bench computes on the host: samples, arithmetic, straight lines. */
import assert from "node:assert/strict";
import { fitLine } from "../../bench/line_fit.ts";
import { linePlots } from "../../bench/plot.ts";
import { randomIds, randomRow, randomSample } from "../../bench/samples.ts";
import { documentPairs, trainingFlops } from "../../bench/train_flops.ts";
import { lossEnds } from "../../bench/train_run.ts";
import { presetConfig } from "../../model/families/presets.ts";
import { PassPlanner } from "../../train/planner.ts";
import { supervisedTokens } from "../../model/text/prompt.ts";
import { promptLengthOf } from "../../model/text/targets.ts";

const sum = (numbers: readonly number[]) => numbers.reduce((total, number) => total + number, 0);

Deno.test("bench samples: 200 are as long as Alpaca's first, and cut ones keep a target", () => {
  const samples = Array.from({ length: 200 }, (_, i) => randomSample(i, 32000, 512));
  const lengths = samples.map(({ ids }) => ids.length);
  assert.equal(sum(lengths), 24200);
  assert.deepEqual([Math.min(...lengths), Math.max(...lengths)], [49, 405]);
  assert.equal(sum(samples.map(supervisedTokens)), 24200 - 12953);
  assert.equal(Math.max(...samples.map(supervisedTokens)), 337);
  for (let i = 0; i < 200; i++) {
    const sample = randomSample(i, 40, 60), { ids, truncated } = sample;
    assert.ok(ids.length <= 60 && supervisedTokens(sample) > 0 && promptLengthOf(sample) > 0);
    assert.equal(truncated, lengths[i] > 60);
    assert.ok(ids.every((id) => id >= 3 && id < 40));
  }
  assert.deepEqual(randomSample(207, 32000, 512).ids.length, lengths[7]);
});

Deno.test("bench samples: texts differ, and equal ones are equal", () => {
  assert.deepEqual(randomIds(50, 1000), randomIds(50, 1000));
  assert.notDeepEqual(randomIds(50, 1000, 4), randomIds(50, 1000, 5));
});

Deno.test("bench samples: packed steps share as much of them as of Alpaca's first 200", () => {
  const samples = Array.from({ length: 200 }, (_, i) => [randomSample(i, 32000, 512)]);
  const planner = new PassPlanner({ packing: true, share_prefixes: true });
  const tokens = Array.from({ length: 25 }, (_, i) => samples.slice(8 * i, 8 * i + 8))
    .flatMap((window) => planner.passes(window))
    .map(({ tokens }) => tokens);
  // With Llama 2's tokenizer on the real ones, in their order.
  assert.equal(sum(tokens), 18_833);
  assert.equal(Math.max(...tokens), 1483);
});

Deno.test("bench samples: a row has exactly so many tokens, in samples of at least two", () => {
  for (const [tokens, limit] of [[2, 512], [99, 512], [128, 64], [1000, 512], [8192, 512]]) {
    const row = randomRow(tokens, 512, limit);
    assert.equal(sum(row.map(({ ids }) => ids.length)), tokens);
    assert.ok(row.every((s) => s.ids.length >= 2 && supervisedTokens(s) >= 1), `${tokens}`);
  }
});

Deno.test("bench train: pairs that attention needs, with and without a window", () => {
  assert.equal(documentPairs([3], null), 6);
  assert.equal(documentPairs([3, 1], null), 7);
  // Queries of a window of 2 see 1, 2, 2 and 2 keys.
  assert.equal(documentPairs([4], 2), 7);
});

Deno.test("bench train: useful arithmetic of the course's run", () => {
  const config = presetConfig("llama2-7b");
  const lora = { rank: 16, targets: ["q_proj", "v_proj"] as const };
  const blocks = 32 * (4 * 4096 ** 2 + 3 * 4096 * 11008);
  // One token by itself: every part of the formula by hand.
  const one = trainingFlops(config, { documents: [1], targets: 1, lora });
  const attention = 32 * 4 * 4096, head = 2 * 4096 * 32000;
  const adapters = 32 * 2 * 16 * (4096 + 4096);
  const expected = 4 * blocks - 2 * 3 * 4096 ** 2 + 3 * attention + 2 * head + 6 * adapters -
    2 * 2 * 16 * 4096;
  assert.equal(one, expected);
  // Tokens cost the same each, but for attention.
  const many = trainingFlops(config, { documents: Array(100).fill(1), targets: 100, lora });
  assert.equal(many, 100 * one);
  // Full fine-tuning: forward, the gradients of inputs and those of weights, each as much as the other.
  const full = trainingFlops(config, { documents: [1], targets: 1, lora: false });
  assert.equal(full, 6 * blocks + 3 * attention + 3 * head);
  const longer = trainingFlops(config, { documents: [100], targets: 100, lora });
  assert.equal(longer, 100 * one + 3 * attention * (5050 - 100));
  // A beginning of 10 tokens that another document's rows serve for.
  const shared = trainingFlops(config, { documents: [100], shared: [10], targets: 100, lora });
  const saved = 10 * (one - 2 * head) + 3 * attention * (55 - 10);
  assert.equal(shared, longer - saved);
});

Deno.test("bench train: a straight line fits itself, and a bent one less", () => {
  const line = fitLine([1, 2, 5].map((x) => ({ x, y: 3 + 0.5 * x })));
  assert.ok(Math.abs(line.slope - 0.5) < 1e-12 && Math.abs(line.intercept - 3) < 1e-12);
  assert.ok(Math.abs(line.r2 - 1) < 1e-12);
  const bent = fitLine([0, 1, 2].map((x) => ({ x, y: x * x })));
  // Residuals 1/3, −2/3, 1/3 of a total variance of 26/3.
  assert.ok(Math.abs(bent.r2 - (1 - (6 / 9) / (26 / 3))) < 1e-12);
  assert.equal(fitLine([{ x: 1, y: 2 }, { x: 3, y: 2 }]).r2, 1);
});

Deno.test("bench plots: every series is drawn, points alone and lines alone too", async () => {
  const points = [{ x: 1, y: 2 }, { x: 4, y: 3 }];
  const svg = await linePlots("Speed & size", [
    { xTitle: "tokens", yTitle: "seconds", series: [{ name: "both kinds", points }] },
    {
      xTitle: "tokens",
      yTitle: "MB",
      logarithmic: true,
      series: [
        { name: "dots", points, shape: "points" },
        { name: "a line", points, shape: "line" },
      ],
    },
  ]);
  assert.match(svg, /^<svg/);
  for (const text of ["Speed &amp; size", "seconds", "MB", "both kinds", "dots", "a line"]) {
    assert.ok(svg.includes(`>${text}</text>`), text);
  }
  assert.equal(svg.match(/mark-line/g)?.length, 2);
  assert.doesNotMatch(svg, /NaN|undefined/);
});

Deno.test("bench losses: both ends of a run are means of eight samples", () => {
  const losses = [9, 8, 7, 6, 5, 4, 3, 2, 1, 0];
  assert.deepEqual(lossEnds(losses, 1), { first_loss: 5.5, last_loss: 3.5 });
  assert.deepEqual(lossEnds(losses, 3), { first_loss: 8, last_loss: 1 });
  assert.deepEqual(lossEnds(losses, 8), { first_loss: 9, last_loss: 0 });
});
