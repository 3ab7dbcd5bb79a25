/**
 * How likely a model finds the tokens of a prompt, each after those before it: a sequence goes on from the prompt's first
 * token, and its answer is made to be the others.
 *
 * @module
 */
import { readAnswer, type ToldToken } from "./answers.ts";
import type { Asker } from "./answering.ts";
import type { Serving } from "./serving.ts";

/** A token of a prompt; of the first nothing is known. */
export type PromptToken = ToldToken | { readonly text: string; readonly logprob: null };

/**
 * What is told of prompts' tokens. It takes as many steps as a prompt has tokens.
 *
 * @param logprobs How many of the likeliest tokens are told of beside each.
 * @throws {ApiError} where there is no room, or it does not come to its end.
 */
export async function promptTokens(
  { dispatcher, tokenizer }: Serving,
  { prompts, adapter, logprobs }: {
    prompts: readonly (readonly number[])[];
    adapter: number;
    logprobs: number;
  },
  { client, signal }: Asker,
): Promise<PromptToken[][]> {
  const asks = prompts.map(([first, ...given]) => ({
    prompt: [first],
    given,
    options: { maxTokens: given.length, stop: [], adapter, logprobs },
  }));
  const generations = dispatcher.ask(client, asks, signal);
  try {
    return await Promise.all(generations.map(async (generation, i) => {
      const before = asks[i].prompt;
      const all: PromptToken[] = [{ text: tokenizer.decode(before), logprob: null }];
      const reading = { tokenizer, stops: [], told: true, before };
      for await (const { tokens = [] } of readAnswer(generation, reading)) all.push(...tokens);
      return all;
    }));
  } finally {
    for (const generation of generations) generation.cancel();
  }
}
