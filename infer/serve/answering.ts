/**
 * From the fields of a request to its answers.
 *
 * @module
 */
import { type AnswerPart, readAnswer, together, type ToldToken } from "./answers.ts";
import { adjustmentsOf, type AnswerFields, samplingOf, stopsOf } from "./fields.ts";
import type { Grammar } from "./grammar/json_schema.ts";
import type { Serving } from "./serving.ts";

/** What is to be answered, and how. */
export interface AnswerRequest {
  readonly fields: AnswerFields;
  /** As of {@linkcode adapterNamed}. */
  readonly adapter: number;
  /** Each is answered `n` times. */
  readonly prompts: readonly (readonly number[])[];
  /** Tokens of an answer at most. */
  readonly maxTokens: number;
  /** How many of the likeliest tokens are told of beside each; undefined where nothing is. */
  readonly logprobs: number | undefined;
  /** The form of the answers. */
  readonly grammar?: Grammar;
  /** Whether the answers' texts go on from their prompts'. */
  readonly echo: boolean;
}

/** Who asks, until when. */
export interface Asker {
  readonly client: string;
  /** Ends when the client leaves. */
  readonly signal: AbortSignal;
}

/** The tokens of a request and its answers, in OpenAI's words. */
export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
}

/** Answers under way. Those to the first prompt come first, then those to the second. */
export interface Answers {
  /** What is new, by the number of the answer. */
  readonly parts: AsyncGenerator<{ index: number; part: AnswerPart }>;
  /** The tokens so far. */
  usage(): Usage;
}

/** A whole answer. */
export interface WholeAnswer {
  text: string;
  tokens: ToldToken[];
  finished: "stop" | "length";
  /** The token of the model's own that ended it. */
  ending?: ToldToken;
}

/**
 * Begins to answer.
 *
 * @throws {ApiError} where a field is wrong, or there is no room.
 */
export function beginAnswers(
  { dispatcher, metrics, tokenizer, stop, vocab }: Serving,
  { fields, adapter, prompts, maxTokens, logprobs, grammar, echo }: AnswerRequest,
  { client, signal }: Asker,
): Answers {
  const sampling = samplingOf(fields), adjustments = adjustmentsOf(fields, vocab);
  const n = fields.n ?? 1;
  const asks = prompts.flatMap((prompt, p) =>
    Array.from({ length: n }, (_, choice) => ({
      prompt,
      grammar,
      options: {
        sampling,
        adjustments,
        adapter,
        logprobs,
        maxTokens,
        stop: fields.ignore_eos ? [] : stop,
        subsequence: p * n + choice,
        reuse: true,
      },
    }))
  );
  const generations = dispatcher.ask(client, asks, signal);
  const prompt_tokens = prompts.reduce((sum, { length }) => sum + length, 0);
  metrics.promptTokens += prompt_tokens;
  let completion_tokens = 0;
  const asked = performance.now(), begun = new Set<number>();
  async function* counted(): Answers["parts"] {
    const reading = { tokenizer, stops: stopsOf(fields), told: logprobs !== undefined };
    try {
      const all = generations.map((generation, i) =>
        readAnswer(generation, { ...reading, before: echo ? asks[i].prompt : [] })
      );
      for await (const { index, part } of together(all)) {
        if (part.count > 0 && !begun.has(index)) {
          begun.add(index);
          metrics.firstToken.add((performance.now() - asked) / 1000);
        }
        completion_tokens += part.count;
        metrics.answerTokens += part.count;
        yield { index, part };
      }
    } finally {
      for (const generation of generations) generation.cancel();
    }
  }
  return {
    parts: counted(),
    usage: () => ({
      prompt_tokens,
      completion_tokens,
      total_tokens: prompt_tokens + completion_tokens,
    }),
  };
}

/** Waits until all answers are whole. */
export async function wholeAnswers({ parts }: Answers): Promise<WholeAnswer[]> {
  const all: WholeAnswer[] = [];
  for await (const { index, part: { text, tokens = [], finished, ending } } of parts) {
    const answer = all[index] ??= { text: "", tokens: [], finished: "stop" };
    answer.text += text;
    answer.tokens.push(...tokens);
    if (finished !== undefined) answer.finished = finished;
    answer.ending = ending;
  }
  return all;
}
