/**
 * Fields that requests share: how tokens are chosen, and what an answer is to hold. Names, ranges and defaults are
 * OpenAI's (https://platform.openai.com/docs/api-reference/chat/create); `top_k`, `min_p`, `repetition_penalty` and
 * `ignore_eos` are what vLLM's and other servers add.
 *
 * @module
 */
import { z } from "zod";
import type { LogitAdjustments, Sampling } from "../../model/engine/engine.ts";
import { ApiError } from "./api_error.ts";

/** Answers to one prompt at most, and texts that end an answer. */
const MOST_CHOICES = 128, MOST_STOPS = 16;
/** Characters of a text that ends an answer at most. */
const LONGEST_STOP = 1000;
/** Biases of a request at most. */
const MOST_BIASES = 1024;

const number = (from: number, to: number) => z.number().min(from).max(to);
const whole = (from: number, to: number) => z.int().min(from).max(to);

const stopText = z.string().min(1).max(LONGEST_STOP);

/** Fields of every request for answers. */
export const answerFields = {
  model: z.string().min(1),
  n: whole(1, MOST_CHOICES).nullish(),
  seed: z.number().refine(
    (seed) => Number.isInteger(seed) && Math.abs(seed) <= 2 ** 63,
    "expected a whole number of 64 bits",
  ).nullish(),
  stop: z.union([stopText, z.array(stopText).max(MOST_STOPS)]).nullish(),
  stream: z.boolean().nullish(),
  stream_options: z.strictObject({
    include_usage: z.boolean().nullish(),
    include_obfuscation: z.boolean().nullish(),
  }).nullish(),
  temperature: number(0, 100).nullish(),
  top_p: number(0, 1).nullish(),
  top_k: whole(-1, 2 ** 31).nullish(),
  min_p: number(0, 1).nullish(),
  repetition_penalty: number(0.01, 100).nullish(),
  frequency_penalty: number(-2, 2).nullish(),
  presence_penalty: number(-2, 2).nullish(),
  logit_bias: z.record(
    z.string().regex(/^\d{1,9}$/, "expected the id of a token"),
    number(-100, 100),
  )
    .nullish(),
  ignore_eos: z.boolean().nullish(),
};

/** Fields that say who asks, or what to keep: they change no answer. */
export const ignoredFields = {
  user: z.unknown().optional(),
  metadata: z.unknown().optional(),
  store: z.unknown().optional(),
  service_tier: z.unknown().optional(),
  safety_identifier: z.unknown().optional(),
  prompt_cache_key: z.unknown().optional(),
  prompt_cache_retention: z.unknown().optional(),
};

/** What {@linkcode answerFields} hold but for the model; an endpoint may know fewer of them. */
export type AnswerFields = Partial<Omit<z.output<z.ZodObject<typeof answerFields>>, "model">>;

/** Texts that end an answer. */
export function stopsOf({ stop }: AnswerFields): string[] {
  return typeof stop === "string" ? [stop] : stop ?? [];
}

/** A seed for those who give none. */
function anySeed(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0];
}

/**
 * The 32 bits of a seed that the engine knows: different small seeds stay different, and signs count. Of a seed that JSON's
 * numbers round, the low bits are none of its own: all that it has are put together, so that the seed still repeats.
 */
function seedBits(seed: number): number {
  if (seed >= 0 && seed < 2 ** 31) return seed;
  const bits = BigInt.asUintN(64, BigInt(seed)), high = bits >> 32n;
  return Number(BigInt.asUintN(32, Number.isSafeInteger(seed) ? bits : bits ^ high));
}

/** How a request's tokens are drawn. */
export function samplingOf(fields: AnswerFields): Sampling {
  const { temperature, top_p, top_k, min_p, repetition_penalty, seed } = fields;
  return {
    temperature: temperature ?? 1,
    top_p: top_p ?? 1,
    top_k: Math.max(0, top_k ?? 0),
    min_p: min_p ?? 0,
    repetition_penalty: repetition_penalty ?? 1,
    seed: seed === null || seed === undefined ? anySeed() : seedBits(seed),
  };
}

/**
 * How a request's logits are changed; undefined where they are not.
 *
 * @param vocab The tokens that there are.
 * @throws {ApiError} where a bias is for none of them.
 */
export function adjustmentsOf(fields: AnswerFields, vocab: number): LogitAdjustments | undefined {
  const { frequency_penalty, presence_penalty, logit_bias } = fields;
  const biases = Object.entries(logit_bias ?? {}).map(([id, bias]) => [Number(id), bias] as const);
  const param = "logit_bias";
  if (biases.length > MOST_BIASES) {
    const message = `logit_bias has ${biases.length} tokens; expected at most ${MOST_BIASES}`;
    throw new ApiError(400, message, { param, code: "invalid_value" });
  }
  const strange = biases.find(([id]) => id >= vocab);
  if (strange !== undefined) {
    const message = `logit_bias: there is no token ${strange[0]}; expected ids from 0 to ${
      vocab - 1
    }`;
    throw new ApiError(400, message, { param, code: "invalid_value" });
  }
  const adjustments = {
    frequency_penalty: frequency_penalty ?? 0,
    presence_penalty: presence_penalty ?? 0,
    logit_bias: new Map(biases),
  };
  const isPlain = adjustments.frequency_penalty === 0 && adjustments.presence_penalty === 0 &&
    biases.length === 0;
  return isPlain ? undefined : adjustments;
}
