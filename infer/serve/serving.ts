/**
 * What is served, as requests see it: names, tokenizer, template and bounds, and who hands sequences to the engine.
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import type { Tokenizer } from "../../model/text/tokenizer/tokenizer.ts";
import type { ChatEncoder } from "../../model/text/templates/chat.ts";
import { ApiError } from "./api_error.ts";
import type { Dispatcher } from "./dispatcher.ts";
import type { Metrics } from "./metrics.ts";

/** Characters of a token at most: longer texts than the context's tokens of them are refused unread. */
const LONGEST_TOKEN = 256;

/** What a request gives the template beside its messages, as JSON. */
export interface TemplateGiven {
  /** Tools that the model may call. */
  readonly tools?: string;
  /** Variables, as of `--template-kwargs`. */
  readonly chat_template_kwargs?: string;
}

/** What is served. */
export interface Serving {
  /** What is served: the model's name, then those of its adapters. */
  readonly names: readonly string[];
  /** When it was opened, in seconds since 1970. */
  readonly created: number;
  readonly tokenizer: Tokenizer;
  /**
   * What turns a conversation into ids.
   *
   * @throws {ApiError} where the template knows nothing of what it is given, or refuses it.
   */
  readonly chatEncoder: (given?: TemplateGiven) => Promise<ChatEncoder>;
  /** Tokens that end an answer. */
  readonly stop: readonly number[];
  /** Tokens that there are. */
  readonly vocab: number;
  /** Tokens of a sequence at most, prompt and answer. */
  readonly context: number;
  readonly dispatcher: Dispatcher;
  readonly metrics: Metrics;
}

/**
 * Which adapter a request asks for, counted from 1; 0 for the model without one.
 *
 * @throws {ApiError} where nothing of this name is served.
 */
export function adapterNamed({ names }: Serving, asked: string): number {
  const found = names.indexOf(asked);
  if (found >= 0) return found;
  const served = names.map((name) => `"${name}"`).join(" or ");
  throw new ApiError(404, `model "${asked}" is not served here; expected ${served}`, {
    param: "model",
    code: "model_not_found",
  });
}

/**
 * Ids of what a request asks to continue, by a function that makes them of it.
 *
 * @param param The field that it is in, and `length` its characters.
 * @throws {ApiError} where they are no prompt, or leave no room for an answer.
 */
export function promptIds(
  { context }: Serving,
  { param, length }: { param: string; length: number },
  encode: () => Iterable<number>,
): number[] {
  const tooLong = (has: string) =>
    new ApiError(
      400,
      `${param}: ${has}; expected at most ${
        context - 1
      } tokens, so that an answer has room in a context of ${context}`,
      { param, code: "context_length_exceeded" },
    );
  if (length > context * LONGEST_TOKEN) throw tooLong(`${length} characters are too many`);
  let ids: number[];
  try {
    ids = Array.from(encode());
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    throw new ApiError(400, error.message, { param, code: "invalid_value" });
  }
  if (ids.length >= context) throw tooLong(`the prompt has ${ids.length} tokens`);
  if (ids.length > 0) return ids;
  throw new ApiError(400, `${param}: the prompt has no token; expected a text`, {
    param,
    code: "invalid_value",
  });
}
