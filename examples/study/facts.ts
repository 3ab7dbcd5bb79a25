/**
 * Every number in the study guide's prose, as the phrase it stands in: made from what the project's code
 * says where that can be computed, else with its source. Numbers in the guide's quoted blocks are those
 * that the examples print.
 *
 * @module
 */
import { weightKind } from "../../kernels/ops/weights/kinds.ts";
import { NESTED_BLOCK, NF4_BLOCK } from "../../kernels/ops/weights/nf4_values.ts";
import { weightShapes } from "../../model/families/config.ts";
import { presetConfig } from "../../model/families/presets.ts";
import { adapterShapes } from "../../model/adapter/adapter_folder.ts";
import { keepNothing } from "./checkpoint_chain.ts";
import { halfLimits } from "./half_updates.ts";
import { linearGradients } from "./linear_accumulation.ts";
import { bytesPerParameter } from "./mixed_memory.ts";
import { FROM_END, OUTERMOST } from "./nf4_values.ts";
import { grouped } from "./numbers.ts";
import { bitsPerWeight, OUTLIER } from "./quantization_error.ts";
import type { Source } from "./sources.ts";

/** A phrase of the study guide with at least one number. */
export interface Fact {
  text: string;
  /** Where it is from; absent where it was computed. */
  source?: Source;
  /** Whether it agrees with what the code computes, where the phrase itself is not made from it. */
  holds?: () => boolean;
}

/** Tokens that each model was trained on, in units of 10¹², and how the papers write it. */
export const TRAINING_TOKENS: { model: string; tokens: number; written: string; source: Source }[] =
  [
    { model: "LLaMA 7B, 13B", tokens: 1.0, written: "1.0 T", source: "llama" },
    { model: "LLaMA 33B, 65B", tokens: 1.4, written: "1.4 T", source: "llama" },
    { model: "Llama 2, all sizes", tokens: 2.0, written: "2.0 T", source: "llama2" },
    { model: "Llama 3, all sizes", tokens: 15, written: "over 15 T", source: "llama3" },
  ];

/** LLaMA's pre-training data: share of what is sampled, in per cent. */
export const LLAMA_DATA: [name: string, percent: number][] = [
  ["CommonCrawl (English)", 67],
  ["C4", 15],
  ["GitHub", 4.5],
  ["Wikipedia", 4.5],
  ["Books (Gutenberg, Books3)", 4.5],
  ["arXiv", 2.5],
  ["Stack Exchange", 2],
];

/** Elements of all tensors of these shapes. */
function elements(shapes: Map<string, number[]>): number {
  return [...shapes.values()].reduce((sum, shape) => sum + shape.reduce((a, b) => a * b, 1), 0);
}

const config = presetConfig("llama2-7b");
const parameters = elements(weightShapes(config));
const adapters = elements(adapterShapes(config, { r: 16, target_modules: ["q_proj", "v_proj"] }));
const vocabulary = grouped(config.vocab_size);
const hidden = config.hidden_size;
/** Keys and values of one token in f16. */
const cacheBytes = 2 * 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim;
const { least, most } = halfLimits().ratios;
const bytes = { fp32: bytesPerParameter("fp32"), mixed: bytesPerParameter("mixed") };

const cited = (source: Source, ...texts: string[]): Fact[] =>
  texts.map((text) => ({ text, source }));
const computed = (...texts: string[]): Fact[] => texts.map((text) => ({ text }));

/** All of them. */
export const FACTS: Fact[] = [
  // Large language models.
  ...TRAINING_TOKENS.map(({ model, written, source }) => ({
    text: `| ${model} | ${written} |`,
    source,
  })),
  ...LLAMA_DATA.map(([name, percent]): Fact => ({
    text: `| ${name} | ${percent} % |`,
    source: "llama",
  })),
  ...cited("llama", "1.4 T tokens in all", "the 7B and 13B models saw 1.0 T of them"),
  ...cited("alpaca", "52,002 samples", "from 175 tasks", "text-davinci-003"),
  ...cited("bert", "15 % of the tokens"),
  ...cited("mmlu", "57 subjects"),
  ...cited("bigBench", "204 tasks"),
  ...cited("helm", "16 core scenarios", "7 kinds of metrics"),
  ...computed(
    `a vocabulary of ${vocabulary} tokens`,
    `${grouped(presetConfig("llama3-8b").vocab_size)} tokens in Llama 3`,
    `perplexity of a model that finds every token equally likely is ${vocabulary}`,
  ),
  // Gradient accumulation.
  ...computed("With a batch of 32", "A mini-batch of 8 gives"),
  ...[
    { text: "∂L/∂w = 2/n · Σ", factor: 2 / 32 },
    { text: "4 · 2/8 · Σ", factor: 4 * 2 / 8 },
    { text: "2/8 · Σ", factor: 2 / 8 },
    { text: "1/4 · 2/8 · Σ = 2/32 · Σ", factor: 1 / 4 * 2 / 8 },
    { text: "2/32 · Σ", factor: 2 / 32 },
  ].map(({ text, factor }) => ({ text, holds: () => agrees(text, factor) })),
  ...cited("batchNorm", "x̂ = (x − μ) / √(σ² + ε)"),
  {
    text: "a factor of 4 too large",
    holds: () => {
      const { added, whole } = linearGradients();
      return Math.abs(added / whole - 4) < 1e-9;
    },
  },
  // Gradient checkpointing.
  {
    text: "| keep none, always begin again | O(1) | O(n²) |",
    holds: () => {
      const [few, many] = [keepNothing(64), keepNothing(1024)];
      return few.peak === many.peak && Math.abs(many.forward / few.forward / 16 ** 2 - 1) < 0.02;
    },
  },
  ...computed(`${grouped(cacheBytes)} bytes a token`),
  // LoRA.
  ...computed(
    `${grouped(parameters)} parameters`,
    `${grouped(adapters)} trained ones`,
    `${(100 * adapters / (parameters + adapters)).toFixed(4)} % of all`,
    `a ${grouped(hidden)} × ${grouped(hidden)} weight has ${grouped(hidden * hidden)} elements`,
    "With rank 16 on q and v",
    "Rank 16 of a matrix of this size",
    `rank 16 has ${grouped(2 * 16 * hidden)}`,
    `${grouped(2 * 16 * hidden / (hidden * hidden) * 100, 2)} % of it`,
  ),
  // Mixed precision.
  ...computed(
    `${grouped(least)} to ${grouped(most)} times`,
    `2^${Math.log2(halfLimits().smallest)}`,
    `2^${Math.log2(halfLimits().largestLost)}`,
    `${bytes.mixed.trained.toFixed(0)} bytes instead of ${bytes.fp32.trained.toFixed(0)}`,
    `${bytes.mixed.frozen.toFixed(0)} bytes instead of ${bytes.fp32.frozen.toFixed(0)}`,
  ),
  // QLoRA.
  ...cited("qlora", "The paper counts 0.127 bits"),
  ...computed(
    `one in ${grouped(OUTLIER.every)} is ${OUTLIER.times} times as large`,
    `from a half to ${grouped(OUTERMOST, 4)}`,
    `the middle of the last is 1/${FROM_END.sixteen} from the end, of fifteen parts 1/${FROM_END.fifteen}`,
    `1 − (1/${FROM_END.sixteen} + 1/${FROM_END.fifteen})/2`,
    `has ${weightKind("int8").planes(hidden)[1].values} weights in a block and its scale in f16`,
    `has ${NF4_BLOCK} weights in a block and its scale in f32`,
    `the scales of ${NESTED_BLOCK} blocks as 8-bit codes`,
    `here they have ${grouped(bitsPerWeight(weightKind("nf4")) - 4, 3)}`,
    "LoRA of rank 16 on q and v",
  ),
  ...[
    { text: "8 + 16/32 = 8.5 bits", kind: "int8", bits: 8 + 16 / 32 },
    { text: "4 + 32/64 = 4.5 bits", kind: "nf4_f32", bits: 4 + 32 / 64 },
    { text: "4 + 8/64 + 64/16,384 = 4.129 bits", kind: "nf4", bits: 4 + 8 / 64 + 64 / 16384 },
  ].map(({ text, kind, bits }) => ({
    text,
    holds: () =>
      bitsPerWeight(weightKind(kind)) === bits && text.includes(`= ${Number(bits.toFixed(3))} `),
  })),
  ...cited("mixedPrecision", "increases the memory requirements for the weights by 50 %"),
];

/** What the phrases of accumulation's algebra say, as multiples of the sum over all 32 samples. */
function agrees(text: string, factor: number): boolean {
  const { whole, added, divided } = linearGradients();
  const total = whole * 32 / 2;
  const near = (value: number) => Math.abs(value - factor * total) < 1e-9 * Math.abs(total);
  if (text.startsWith("1/4")) return near(divided);
  if (text.startsWith("2/32") || text.startsWith("∂")) return near(whole);
  if (text.startsWith("2/8")) return near(added);
  // The printed answer: neither what accumulation gives nor what it should give.
  return !near(added) && !near(whole);
}
