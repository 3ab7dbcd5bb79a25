/**
 * What a model is made to do: train, score, or generate. The mode decides which buffers there are and how large.
 *
 * @module
 */
import type { Dtype } from "../../kernels/gpu/tensor.ts";
import { EXACT, type Numerics } from "../../kernels/ops/numerics.ts";

/** What the user sets of the precision. */
export interface PrecisionSettings {
  /** `mixed`: weights, keys and values in f16, and activations that a backward reads; the rest in f32. */
  precision: "fp32" | "mixed";
  /** Sums and operands of products stay f32 where `mixed` would have f16. */
  exact_products: boolean;
}

/** The element type of weights, keys and values in a precision. */
export function storageOf(precision: PrecisionSettings["precision"]): Numerics["storage"] {
  return precision === "fp32" ? "f32" : "f16";
}

/** The numerics that these settings mean. */
export function numericsOf({ precision, exact_products: exact }: PrecisionSettings): Numerics {
  if (precision === "fp32") return EXACT;
  return { storage: storageOf(precision), operands: exact ? "f32" : "f16" };
}

/** The largest pass. */
export interface PassSizes {
  /** Most tokens of one pass. */
  readonly maxTokens: number;
  /** Most rows of one pass that need logits. */
  readonly maxTargets: number;
}

/** Sequences that are decoded together. */
export interface Decoding {
  readonly sequences: number;
  /** Tokens of one sequence at most, prompt and answer. */
  readonly context: number;
}

/** Log-likelihoods that are kept until the host reads them. */
export interface Scoring {
  /** Most of them, one a document. */
  readonly slots: number;
  /** Whether some are of the model with its adapter off. */
  readonly reference: boolean;
}

/** Forward and backward passes over documents, with their losses. */
export interface Train extends PassSizes {
  readonly kind: "train";
  readonly trained: "adapters" | "weights";
  /** Checkpointing mode; see checkpointing.ts. */
  readonly checkpointing: string;
  /** Tokens of one document at most. */
  readonly maxPosition: number;
  /** Most micro-batches whose losses are kept before they are read. */
  readonly lossSlots: number;
  /** What is scored before a loss is weighed; null where nothing is. */
  readonly scoring: Scoring | null;
  /** Whether documents of a batch may share the rows of their common prefix. */
  readonly sharedPrefixes: boolean;
  readonly initialLossScale: number;
  /** What is generated between steps; null where nothing is. */
  readonly decoding: Decoding | null;
}

/** Forward passes over whole documents. */
export interface Score extends PassSizes {
  readonly kind: "score";
  /** Tokens of one document at most. */
  readonly maxPosition: number;
  /** Whether documents of a batch may share the rows of their common prefix. */
  readonly sharedPrefixes: boolean;
  /** Whether it is told of each target if greedy decoding would choose it. */
  readonly greedy: boolean;
  /** What is generated between passes; null where nothing is. */
  readonly decoding: Decoding | null;
}

/** Prefill of prompts, then a token a sequence and step. */
export interface Generate extends PassSizes {
  readonly kind: "generate";
  readonly decoding: Decoding;
}

/** One of the modes. */
export type Mode = Train | Score | Generate;

/** Training with what most runs have: one loss at a time, nothing scored, shared, or generated in between. */
export function trainMode(
  sizes: PassSizes & Pick<Train, "trained" | "checkpointing"> & Partial<Train>,
): Train {
  return {
    kind: "train",
    maxPosition: sizes.maxTokens,
    lossSlots: 1,
    scoring: null,
    sharedPrefixes: false,
    initialLossScale: 1,
    decoding: null,
    ...sizes,
  };
}

/** Scoring documents of at most `maxPosition` tokens; by default one may fill a pass, and only losses are told. */
export function scoreMode(sizes: PassSizes & Partial<Score>): Score {
  return {
    kind: "score",
    maxPosition: sizes.maxTokens,
    sharedPrefixes: false,
    greedy: false,
    decoding: null,
    ...sizes,
  };
}

/** What sizes a generation. */
export interface GenerateSizes extends Decoding {
  /** Tokens of all prompts together at most. */
  readonly promptTokens: number;
  /** Element type of the KV cache; absent to do without one. */
  readonly cache?: Dtype;
}

/** Tokens of one prefill pass at most: larger passes are no faster and take more memory. */
const PREFILL_TOKENS = 2048;

/** Generation; without a cache a pass takes all tokens of all sequences. */
export function generateMode({ sequences, context, promptTokens, cache }: GenerateSizes): Generate {
  return {
    kind: "generate",
    maxTokens: cache ? Math.min(PREFILL_TOKENS, promptTokens) : sequences * context,
    maxTargets: sequences,
    decoding: { sequences, context },
  };
}

/** Positions that tokens can have. */
export function positionsOf(mode: Mode): number {
  if (mode.kind === "generate") return mode.decoding.context;
  const decoded = mode.kind === "score" ? mode.decoding?.context ?? 0 : 0;
  return Math.max(mode.maxPosition, decoded);
}

/** What is decoded; null where nothing is. */
export function decodingOf(mode: Mode): Decoding | null {
  return mode.decoding;
}
