/** What the study guide claims, computed by its examples; and the guide quotes what they print. */
import assert from "node:assert/strict";
import { lines as normLines, normComparisons } from "../../examples/study/batch_norm.ts";
import {
  DEPTHS,
  keepAll,
  keepNothing,
  keepRoots,
  lines as chainLines,
} from "../../examples/study/checkpoint_chain.ts";
import { countedLines, countModes, planLines } from "../../examples/study/checkpoint_plan.ts";
import {
  half,
  halfLimits,
  limitLines,
  trainWeight,
  updateLines,
} from "../../examples/study/half_updates.ts";
import { linearGradients, lines as linearLines } from "../../examples/study/linear_accumulation.ts";
import {
  accumulations,
  lines as accumulationLines,
  ROUNDING,
} from "../../examples/study/llama_accumulation.ts";
import {
  roundTripLines,
  runLines,
  scaledGradients,
  SCALES,
} from "../../examples/study/loss_scale.ts";
import { inferenceCosts, lines as mergedLines, totals } from "../../examples/study/merged_lora.ts";
import {
  bytesPerParameter,
  memoryLines,
  parameterLines,
  planRun,
} from "../../examples/study/mixed_memory.ts";
import { picture } from "../../examples/study/picture.ts";
import {
  kindErrors,
  kindLines,
  rankErrors,
  rankLines,
  RANKS,
} from "../../examples/study/svd_image.ts";
import { lines as updateRankLines, RANK, updateRanks } from "../../examples/study/svd_updates.ts";
import { byteFallback, byteLines, sampleLines } from "../../examples/study/training_sample.ts";
import { openModelWithTokenizer } from "../../model/checkpoint/source.ts";
import { gpuTest } from "../kernels/harness.ts";
import { chapter, CHAPTERS, quotations } from "./guide.ts";

const quoted = CHAPTERS.flatMap((path) => quotations(chapter(path)));
/** Blocks that a test has looked for. */
const sought = new Set<string>();

/** Asserts that the guide quotes what an example prints, to the letter. */
function assertQuoted(example: string, lines: readonly string[]): void {
  sought.add(example);
  const blocks = quoted.filter((quotation) => quotation.example === `examples/study/${example}`);
  assert.ok(blocks.length > 0, `the guide quotes nothing of ${example}`);
  const printed = lines.map((line) => line.trimEnd()).join("\n");
  const has = blocks.map(({ lines }) => lines.join("\n"));
  // An example that is quoted in two places prints a block in each.
  if (!has.includes(printed)) assert.equal(has[0], printed);
}

const near = (actual: number, expected: number, tolerance = 1e-9) =>
  assert.ok(
    Math.abs(actual - expected) <= tolerance * Math.abs(expected),
    `${actual}, ${expected}`,
  );

Deno.test("study: accumulated gradients of a linear model, divided and not", () => {
  const gradients = linearGradients(), { whole, added, divided } = gradients;
  near(added, 4 * whole);
  near(divided, whole);
  assertQuoted("linear_accumulation.ts", linearLines(gradients));
});

gpuTest("study: accumulated gradients of a Llama", async (gpu) => {
  const results = await accumulations(gpu);
  for (const { deviation, loss } of results) {
    assert.ok(deviation < ROUNDING);
    near(loss, results[0].loss, 1e-5);
  }
  assert.equal(results.length, 3);
  assertQuoted("llama_accumulation.ts", accumulationLines(results));
});

Deno.test("study: batch normalisation breaks accumulation, RMSNorm does not", () => {
  assertQuoted("batch_norm.ts", normLines(normComparisons()));
});

Deno.test("study: memory and steps of checkpointing a chain, against O(·)", () => {
  for (const n of DEPTHS) {
    const root = Math.sqrt(n), sum = n * (n + 1) / 2;
    assert.deepEqual([keepAll(n).peak, keepAll(n).forward], [n, n]);
    assert.deepEqual([keepNothing(n).peak, keepNothing(n).forward], [3, sum]);
    assert.ok(keepRoots(n).peak <= 2 * root, "O(√n) held");
    assert.ok(keepRoots(n).forward > n && keepRoots(n).forward < 2 * n, "O(n) steps");
    // The printed answer's O(n·√n) would be far more.
    assert.ok(keepRoots(n).forward < n * root / 2);
  }
  assertQuoted("checkpoint_chain.ts", chainLines());
});

gpuTest("study: the plan of every checkpointing mode, and launches counted", async (gpu) => {
  assertQuoted("checkpoint_plan.ts plan", planLines());
  assertQuoted("checkpoint_plan.ts counted", countedLines(await countModes(gpu)));
});

Deno.test("study: truncated SVD is the best approximation, and its error the dropped singular values", () => {
  const drawn = picture(), errors = rankErrors(drawn), kinds = kindErrors(drawn);
  assert.deepEqual(errors.map(({ k }) => k), RANKS);
  for (const { svd, dropped, ...rivals } of errors) {
    near(svd, dropped);
    const { columns, cosines, random } = rivals;
    assert.ok([columns, cosines, random].every((error) => error > svd));
  }
  const [low, shown, noise, identity] = kinds.map(({ error }) => error);
  assert.ok(low < 1e-9 && shown < 0.1 && noise > 0.5);
  near(identity, Math.sqrt(1 - 16 / 128));
  assertQuoted("svd_image.ts ranks", rankLines(errors));
  assertQuoted("svd_image.ts kinds", kindLines(kinds));
});

gpuTest("study: ranks of real weight updates", async (gpu) => {
  const ranks = await updateRanks(gpu);
  for (const { next, energy } of ranks.lora.get(RANK)!) assert.ok(next < 1e-9 && energy > 1 - 1e-9);
  for (const { next } of ranks.full.get(RANK)!) {
    assert.ok(next > 1e-3, "all weights: not of rank 16");
  }
  for (const { error, dropped } of ranks.full.get(RANK)!) near(error, dropped, 1e-6);
  assertQuoted("svd_updates.ts", updateRankLines(ranks));
});

gpuTest("study: small f16 updates vanish without f32 masters", async (gpu) => {
  const limits = halfLimits(), weight = await trainWeight(gpu);
  assert.equal(limits.smallest, 2 ** -24);
  assert.equal(half(limits.largestLost), 0);
  assert.ok(half(limits.largestLost * 1.01) > 0);
  assert.equal(weight.alone, 1);
  near(weight.master, 0.9, 1e-4);
  assertQuoted("half_updates.ts limits", limitLines(limits));
  assertQuoted("half_updates.ts updates", updateLines(weight));
});

gpuTest("study: small gradients underflow without loss scaling", async (gpu) => {
  const { loss, runs } = await scaledGradients(gpu);
  const [without, scaled] = runs;
  assert.deepEqual(runs.map(({ scale }) => scale), SCALES);
  assert.ok(loss < 0.01);
  assert.ok(without.lost > 100 * scaled.lost && without.deviation > 2 * scaled.deviation);
  assertQuoted("loss_scale.ts round", roundTripLines());
  assertQuoted("loss_scale.ts runs", runLines(runs));
});

Deno.test("study: memory of mixed precision, for a parameter and for runs", () => {
  const trained = (precision: "fp32" | "mixed") => bytesPerParameter(precision).trained;
  assert.ok(trained("mixed") > trained("fp32"));
  near(bytesPerParameter("mixed").frozen, bytesPerParameter("fp32").frozen / 2, 1e-3);
  const total = (lora: "on" | "off", tokens: number, precision: "fp32" | "mixed") =>
    planRun(precision, lora, tokens).total;
  assert.ok(total("off", 128, "mixed") > total("off", 128, "fp32"), "short rows: more");
  assert.ok(total("off", 32768, "mixed") < total("off", 32768, "fp32"), "long rows: less");
  assert.ok(total("on", 128, "mixed") < 0.6 * total("on", 128, "fp32"), "LoRA: about half");
  assertQuoted("mixed_memory.ts parameters", parameterLines());
  assertQuoted("mixed_memory.ts memory", memoryLines());
});

gpuTest("study: a merged adapter costs nothing in inference", async (gpu) => {
  const costs = await inferenceCosts(gpu, 1);
  const [base, beside, merged] = costs.map(totals);
  assert.deepEqual(merged, base);
  assert.ok(beside.launches > base.launches && beside.flops > base.flops);
  const [without, adapted, after] = costs.map(({ logits }) => logits);
  const apart = (a: Float32Array, b: Float32Array) =>
    Math.max(...a.map((x, i) => Math.abs(x - b[i])));
  const moved = apart(adapted, without);
  assert.ok(moved > 0.1, "the adapter has an effect");
  assert.ok(apart(after, adapted) < 0.02 * moved, "merged, the model computes the same");
  assertQuoted("merged_lora.ts", mergedLines(costs));
});

Deno.test("study: a training sample, and bytes for what has no token", async () => {
  const { tokenizer } = await openModelWithTokenizer({ model: "builtin" });
  const fallback = byteFallback(tokenizer);
  assert.equal(fallback.decoded, "A parrot 🦜");
  assertQuoted("training_sample.ts", await sampleLines(tokenizer));
  assertQuoted("training_sample.ts", byteLines(fallback));
});

Deno.test("study: no quotation is left that no test looks for", () => {
  const examples = new Set(quoted.map(({ example }) => example.slice("examples/study/".length)));
  if (sought.size > 8) assert.deepEqual([...examples].sort(), [...sought].sort());
});
