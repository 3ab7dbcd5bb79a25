/**
 * What a program may ask of an engine, which would compute with any number.
 *
 * @module
 */
import { UsageError } from "../../kernels/errors.ts";
import type { Sampling } from "../../kernels/ops/sampling/sample.ts";
import { MOST_LOGPROBS } from "../../kernels/ops/sampling/token_logprobs.ts";
import type { Choice, LogitAdjustments } from "./token_chooser.ts";

/** The largest number that is added to logits. */
const MOST_ADJUSTMENT = 1e6;

/** Some numbers, and their description. */
interface Range {
  has: (value: number) => boolean;
  expected: string;
}

/** Whole numbers, both ends included. */
export function wholeFrom(least: number, most = Infinity): Range {
  return {
    has: (value) => Number.isInteger(value) && value >= least && value <= most,
    expected: most === Infinity
      ? `a whole number of at least ${least}`
      : `a whole number from ${least} to ${most}`,
  };
}

export const AT_LEAST_ONE = wholeFrom(1);
export const U32 = wholeFrom(0, 2 ** 32 - 1);
const SHARE: Range = {
  has: (value) => value >= 0 && value <= 1,
  expected: "a number from 0 to 1",
};
/** What is added to logits: as much as leaves them finite. */
const FINITE: Range = {
  has: (value) => Math.abs(value) <= MOST_ADJUSTMENT,
  expected: `a number from ${-MOST_ADJUSTMENT} to ${MOST_ADJUSTMENT}`,
};
const TOKENS: Range = { // Infinity is as many as there is room for.
  has: (value) => value === Infinity || wholeFrom(0).has(value),
  expected: wholeFrom(0).expected,
};

const SAMPLING: Record<keyof Sampling, Range> = {
  temperature: {
    has: (value) => value >= 0 && value < Infinity,
    expected: "a number of at least 0",
  },
  top_k: wholeFrom(0),
  top_p: SHARE,
  min_p: SHARE,
  repetition_penalty: {
    has: (value) => value > 0 && value < Infinity,
    expected: "a number above 0",
  },
  seed: U32,
};

/** @throws {UsageError} where `value` is none of `values`, as it may be in a program whose types are not checked. */
export function checkChoice(name: string, value: unknown, values: readonly unknown[]): void {
  if (!values.includes(value)) {
    throw new UsageError(`${name} is ${value}; expected ${values.join(", ")}`);
  }
}

/** @throws {UsageError} where `value` is no list of names. */
export function checkNames(name: string, value: unknown): void {
  if (Array.isArray(value) && value.every((item) => typeof item === "string" && item !== "")) {
    return;
  }
  throw new UsageError(`${name} is ${JSON.stringify(value)}; expected a list of names`);
}

/** @throws {UsageError} where `value` is none of a range. */
export function checkNumber(name: string, value: number, { has, expected }: Range): void {
  if (!has(value)) throw new UsageError(`${name} is ${value}; expected ${expected}`);
}

/**
 * @param room What the engine has room for.
 * @throws {UsageError} where a sequence can't be sampled so.
 */
export function checkSequenceOptions(
  { sampling, maxTokens, subsequence, adjustments, masked, logprobs }: Choice & {
    maxTokens: number;
  },
  room: Readonly<Record<"penalized" | "adjusted" | "recorded", boolean>> & { vocab: number },
): void {
  checkNumber("maxTokens", maxTokens, TOKENS);
  checkNumber("subsequence", subsequence, U32);
  for (const name of Object.keys(SAMPLING) as (keyof Sampling)[]) {
    checkNumber(`sampling.${name}`, sampling[name], SAMPLING[name]);
  }
  const { repetition_penalty } = sampling;
  if (repetition_penalty !== 1 && !room.penalized) {
    throw new UsageError(
      `sampling.repetition_penalty is ${repetition_penalty}, for which this engine has no memory; ` +
        "expected 1, or an engine that is opened with `penalized`",
    );
  }
  if (adjustments !== undefined) {
    if (!room.adjusted) throw new UsageError("this engine has no memory for `adjustments`");
    checkAdjustments(adjustments, room.vocab);
  }
  if (masked && !room.adjusted) throw new UsageError("this engine has no memory for a `mask`");
  if (logprobs === undefined) return;
  if (!room.recorded) throw new UsageError("this engine has no memory for `logprobs`");
  checkNumber("logprobs", logprobs, wholeFrom(0, MOST_LOGPROBS));
}

function checkAdjustments(
  { frequency_penalty, presence_penalty, logit_bias }: LogitAdjustments,
  vocab: number,
): void {
  checkNumber("adjustments.frequency_penalty", frequency_penalty, FINITE);
  checkNumber("adjustments.presence_penalty", presence_penalty, FINITE);
  for (const [id, bias] of logit_bias) {
    checkNumber("a token of adjustments.logit_bias", id, wholeFrom(0, vocab - 1));
    checkNumber(`the bias of token ${id}`, bias, FINITE);
  }
}

/** @throws {UsageError} where a prompt is empty, does not fit or has what is no token of the vocabulary. */
export function checkPrompt(
  prompt: readonly number[],
  { context, vocab }: { context: number; vocab: number },
): void {
  if (prompt.length === 0 || prompt.length > context) {
    throw new UsageError(
      `a prompt of ${prompt.length} tokens does not fit the context; expected 1 to ${context}`,
    );
  }
  const token = wholeFrom(0, vocab - 1);
  for (const [i, id] of prompt.entries()) checkNumber(`token ${i + 1} of the prompt`, id, token);
}
