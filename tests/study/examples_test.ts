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
import {
  derivedValues,
  lines as quantileLines,
  roundedValues,
} from "../../examples/study/nf4_values.ts";
import { picture } from "../../examples/study/picture.ts";
import { formatCosts, lines as formatLines } from "../../examples/study/quantization_error.ts";
import { lines as gradientLines, productErrors } from "../../examples/study/quantized_gradient.ts";
import {
  memoryLines as quantizedMemoryLines,
  planQuantized,
} from "../../examples/study/quantized_memory.ts";
import { lines as quantizedRunLines, quantizedRuns } from "../../examples/study/quantized_run.ts";
import {
  kindErrors,
  kindLines,
  rankErrors,
  rankLines,
  RANKS,
} from "../../examples/study/svd_image.ts";
import { lines as updateRankLines, RANK, updateRanks } from "../../examples/study/svd_updates.ts";
import { byteFallback, byteLines, sampleLines } from "../../examples/study/training_sample.ts";
import { NF4_VALUES } from "../../kernels/ops/weights/nf4_values.ts";
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

Deno.test("study: NF4's numbers are quantiles of a normal distribution", () => {
  const derived = derivedValues();
  assert.equal(derived.length, NF4_VALUES.length);
  derived.forEach((value, code) => assert.ok(Math.abs(value - NF4_VALUES[code]) < 2.5e-7));
  assert.deepEqual(roundedValues(), NF4_VALUES);
  assertQuoted("nf4_values.ts", quantileLines());
});

gpuTest("study: bits and errors of quantised weights", async (gpu) => {
  const costs = await formatCosts(gpu);
  const [int8, nf4, nested, equal, whole] = costs;
  assert.ok(int8.error < 0.1 * nf4.error, "eight bits are far closer");
  assert.ok(nested.error > nf4.error && nested.error < 1.01 * nf4.error, "scales hardly matter");
  assert.ok(nf4.error < 0.9 * equal.error && equal.error < whole.error);
  const outliers = costs.map(({ errorWithOutliers }) => errorWithOutliers);
  assert.ok(outliers[1] < 0.8 * outliers[3], "more is gained with outliers");
  assert.ok(outliers[1] < 1.2 * nf4.error && outliers[4] > 5 * whole.error, "blocks contain them");
  assertQuoted("quantization_error.ts", formatLines(costs));
});

gpuTest("study: gradients flow through the rounded weights", async (gpu) => {
  const errors = await productErrors(gpu);
  for (const { ofCodes, ofWeights } of errors) assert.ok(ofCodes < 1e-5 && ofWeights > 0.08);
  assertQuoted("quantized_gradient.ts", gradientLines(errors));
});

Deno.test("study: memory of quantised weights", () => {
  const plan = (quantization: "none" | "int8" | "nf4", checkpointing: "none" | "block") =>
    planQuantized({ model: "llama2-7b", quantization, checkpointing });
  const share = (quantization: "none" | "nf4") =>
    1 - plan(quantization, "block").total / plan(quantization, "none").total;
  assert.ok(share("nf4") > 2 * share("none"), "checkpointing saves a larger part");
  const [dense, nf4] = [plan("none", "none").peak, plan("nf4", "none").peak];
  assert.deepEqual(
    [nf4.activation, nf4.gradient, nf4.optimizer],
    [dense.activation, dense.gradient, dense.optimizer],
  );
  assert.ok(nf4.parameter < 0.3 * dense.parameter);
  assertQuoted("quantized_memory.ts", quantizedMemoryLines());
});

gpuTest("study: adapters make up for rounding", async (gpu) => {
  const runs = await quantizedRuns(gpu), [none, nf4] = runs;
  near(none.moved, none.trained, 1e-6);
  const [before, after] = [nf4.before - none.before, nf4.trained - none.trained];
  near(before, 0.2, 0.1);
  assert.ok(after > 0 && after < before / 3, "most of the difference is gone");
  assert.ok(Math.abs(nf4.moved - nf4.trained) < after, "nearly as good on the weights before");
  assertQuoted("quantized_run.ts", quantizedRunLines(runs));
});

Deno.test("study: a training sample, and bytes for what has no token", async () => {
  const found = await openModelWithTokenizer({ model: "builtin" });
  const fallback = byteFallback(found.tokenizer);
  assert.equal(fallback.decoded, "A parrot 🦜");
  assertQuoted("training_sample.ts", await sampleLines(found));
  assertQuoted("training_sample.ts", byteLines(fallback));
});

Deno.test("study: no quotation is left that no test looks for", () => {
  const examples = new Set(quoted.map(({ example }) => example.slice("examples/study/".length)));
  if (sought.size > 8) assert.deepEqual([...examples].sort(), [...sought].sort());
});
