/**
 * The kinds of RoPE scaling that a `config.json` may name: their keys, what these may be, and what they mean where they
 * are absent, as `transformers` has it (modeling_rope_utils.py).
 *
 * @module
 */
import type { RopeScaling } from "../../kernels/ops/rope/frequencies.ts";

/** What a key may be, and how that is said. */
interface KeyRule {
  is: (value: unknown) => boolean;
  expected: string;
  /** Whether it may be null, or absent too; by default it may be neither. */
  may?: "be null" | "be absent";
}

/** A kind of scaling. */
export interface RopeKind {
  keys: Readonly<Record<string, KeyRule>>;
  /**
   * What checked values mean.
   *
   * @param context max_position_embeddings.
   */
  scaling(values: Record<string, unknown>, context: number): RopeScaling | null;
}

export const positive = (value: unknown): value is number =>
  typeof value === "number" && value > 0 && Number.isFinite(value);
const isNumber = (value: unknown) => typeof value === "number" && Number.isFinite(value);
const isFactors = (value: unknown): value is number[] =>
  Array.isArray(value) && value.length > 0 && value.every(positive);

const ABOVE_0: KeyRule = { is: positive, expected: "a number above 0" };
const FACTOR: KeyRule = {
  is: (value) => positive(value) && value >= 1,
  expected: "a number of at least 1",
};
const LENGTH: KeyRule = {
  is: (value) => positive(value) && Number.isSafeInteger(value),
  expected: "a whole number above 0",
};
const FACTORS: KeyRule = { is: isFactors, expected: "a list of numbers above 0" };
const optional = (rule: KeyRule): KeyRule => ({ ...rule, may: "be absent" });

/** A number among checked values; `absent` where it is not there, or 0, as Python's `or` has it. */
const numberOr = (value: unknown, absent: number): number =>
  typeof value === "number" && value !== 0 ? value : absent;

/** How much YaRN sharpens attention for texts so many times as long (Peng et al., 2023, equation 22). */
const mscale = (factor: number, weight = 1): number =>
  factor <= 1 ? 1 : 0.1 * weight * Math.log(factor) + 1;

function yarn(values: Record<string, unknown>, context: number): RopeScaling {
  const original = numberOr(values.original_max_position_embeddings, context);
  const factor = numberOr(values.factor, context / original);
  const { mscale: weight, mscale_all_dim: all } = values;
  const isWeighed = typeof weight === "number" && typeof all === "number" && weight * all !== 0;
  const sharpened = isWeighed ? mscale(factor, weight) / mscale(factor, all) : mscale(factor);
  return {
    type: "yarn",
    factor,
    original_max_position_embeddings: original,
    beta_fast: numberOr(values.beta_fast, 32),
    beta_slow: numberOr(values.beta_slow, 1),
    truncate: values.truncate !== false,
    attention_factor: numberOr(values.attention_factor, sharpened),
  };
}

function longrope(values: Record<string, unknown>, context: number): RopeScaling {
  const original = numberOr(values.original_max_position_embeddings, context);
  const factor = numberOr(values.factor, context / original);
  const sharpened = factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(original));
  const factors = (value: unknown) => isFactors(value) ? value : [];
  return {
    type: "longrope",
    original_max_position_embeddings: original,
    short_factor: factors(values.short_factor),
    long_factor: factors(values.long_factor),
    attention_factor: numberOr(values.attention_factor, sharpened),
  };
}

/** A kind whose keys are its scaling's. */
const plainKind = (type: string, keys: Record<string, KeyRule>): RopeKind => ({
  keys,
  scaling: (values) => ({ type, ...values }) as RopeScaling,
});

/** The kinds, by `transformers`' names. */
export const ROPE_KINDS: Readonly<Record<string, RopeKind>> = {
  default: { keys: {}, scaling: () => null },
  linear: plainKind("linear", { factor: FACTOR }),
  dynamic: plainKind("dynamic", { factor: FACTOR }),
  llama3: plainKind("llama3", {
    factor: FACTOR,
    low_freq_factor: ABOVE_0,
    high_freq_factor: ABOVE_0,
    original_max_position_embeddings: LENGTH,
  }),
  yarn: {
    keys: {
      factor: { ...FACTOR, may: "be null" },
      original_max_position_embeddings: optional(LENGTH),
      attention_factor: optional(ABOVE_0),
      beta_fast: optional({ is: isNumber, expected: "a number" }),
      beta_slow: optional({ is: isNumber, expected: "a number" }),
      truncate: optional({ is: (value) => typeof value === "boolean", expected: "true or false" }),
      mscale: optional({ is: isNumber, expected: "a number" }),
      mscale_all_dim: optional({ is: isNumber, expected: "a number" }),
    },
    scaling: yarn,
  },
  longrope: {
    keys: {
      factor: optional(FACTOR),
      original_max_position_embeddings: optional(LENGTH),
      attention_factor: optional(ABOVE_0),
      short_factor: FACTORS,
      long_factor: FACTORS,
    },
    scaling: longrope,
  },
};

/** Names that kinds had in earlier files. */
export const EARLIER_KINDS: Readonly<Record<string, string>> = { su: "longrope" };
