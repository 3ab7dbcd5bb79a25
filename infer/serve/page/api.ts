/**
 * What the page asks its server for.
 *
 * @module
 */
import type { Message, Token } from "./conversation.ts";
import { eventData } from "./events.ts";

/** What went wrong, in a sentence for people. */
export class Problem extends Error {
  override name = "Problem";
}

/** The server wants a key, or another one. */
export class KeyNeeded extends Problem {
  override name = "KeyNeeded";
}

/** The server has another model than the one that was asked for. */
export class ModelGone extends Problem {
  override name = "ModelGone";
}

/** A model that is served. */
export interface Model {
  readonly id: string;
  /** The model that an adapter was made for; null where it is a model of its own. */
  readonly parent: string | null;
}

/** What is asked for an answer; fields that are not given are the server's to choose. */
export interface AnswerRequest {
  readonly model: string;
  readonly messages: readonly Message[];
  /** How tokens are drawn, in the API's words. */
  readonly sampling: Readonly<Record<string, number>>;
  /** Likeliest tokens to tell of in the place of each; none are told of where it is 0. */
  readonly told: number;
}

/** What is new of an answer. */
export interface AnswerPart {
  readonly text: string;
  readonly tokens: readonly Token[];
  readonly finished?: "stop" | "length";
  /** Tokens of the whole answer, with its last part. */
  readonly count?: number;
}

/** A part of an answer as the API has it. */
interface Chunk {
  readonly choices: readonly {
    readonly delta: { readonly content?: string };
    readonly logprobs: { readonly content: readonly ToldToken[] } | null;
    readonly finish_reason: "stop" | "length" | null;
  }[];
  readonly usage?: { readonly completion_tokens: number } | null;
  readonly error?: ApiError;
}

interface ToldToken {
  readonly token: string;
  readonly logprob: number;
  readonly top_logprobs: readonly { readonly token: string; readonly logprob: number }[];
}

interface ApiError {
  readonly message: string;
  readonly code: string | null;
}

const SILENT = "The server does not answer: it has ended, or the way to it.";
const BROKEN_OFF = "The answer broke off: the server has ended, or the way to it.";

/** Where the key stays while the tab is open: a reload finds it, another page does not. */
const KEPT = "lorikeet.key";

/** Words as a sentence. */
function sentence(words: string): string {
  const text = words.trim();
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
}

/** An error of the API for people. */
function problemOf({ message, code }: ApiError, status = 500, wait: string | null = null): Problem {
  if (status === 401) return new KeyNeeded("The API key is missing or wrong.");
  if (status === 429 || code === "queue_full") {
    const when = wait === null ? "later" : `in ${wait} s`;
    return new Problem(`Too many answers wait already; try again ${when}.`);
  }
  if (code === "model_not_found") return new ModelGone(sentence(message));
  if (code === "context_length_exceeded") {
    return new Problem(`The conversation is too long. ${sentence(message)}`);
  }
  return new Problem(sentence(message));
}

/** What a response says that is no success. */
async function refusal(response: Response): Promise<Problem> {
  const { status, headers } = response, body = await response.text();
  try {
    return problemOf(JSON.parse(body).error, status, headers.get("retry-after"));
  } catch {
    return problemOf({ message: body || `the server refused with status ${status}`, code: null });
  }
}

function token({ token, logprob, top_logprobs }: ToldToken): Token {
  return {
    text: token,
    logprob,
    top: top_logprobs.map(({ token: text, logprob }) => ({ text, logprob })),
  };
}

/** The server, asked with the key where there is one. */
export class Api {
  #key = sessionStorage.getItem(KEPT) ?? "";

  /** Uses a key from now on. @throws {Problem} where it can't be one. */
  useKey(text: string): void {
    const key = text.trim();
    if (!/^[\x21-\x7e]+$/.test(key)) {
      throw new Problem("A key has letters, digits and signs, and no spaces.");
    }
    this.#key = key;
    sessionStorage.setItem(KEPT, key);
  }

  /** What is served: models and adapters. */
  async models(): Promise<Model[]> {
    return (await (await this.#ask("v1/models", {})).json()).data;
  }

  /**
   * Asks for an answer.
   *
   * @param signal Ends it; what is thrown then is no {@linkcode Problem}.
   */
  async *answer(
    { model, messages, sampling, told }: AnswerRequest,
    signal: AbortSignal,
  ): AsyncGenerator<AnswerPart> {
    const body = JSON.stringify({
      model,
      messages,
      ...sampling,
      stream: true,
      stream_options: { include_usage: true },
      ...(told > 0 ? { logprobs: true, top_logprobs: told } : {}),
    });
    const headers = { "Content-Type": "application/json" };
    const response = await this.#ask("v1/chat/completions", {
      method: "POST",
      headers,
      body,
      signal,
    });
    try {
      for await (const data of eventData(response.body ?? new ReadableStream())) {
        if (data === "[DONE]") return;
        const { choices: [choice], usage, error }: Chunk = JSON.parse(data);
        if (error !== undefined) throw problemOf(error);
        yield {
          text: choice?.delta.content ?? "",
          tokens: (choice?.logprobs?.content ?? []).map(token),
          finished: choice?.finish_reason ?? undefined,
          count: usage?.completion_tokens,
        };
      }
    } catch (error) {
      if (signal.aborted || error instanceof Problem) throw error;
    }
    throw new Problem(BROKEN_OFF);
  }

  /** @throws {Problem} where nobody answers, or the answer is no success. */
  async #ask(path: string, init: RequestInit & { headers?: Record<string, string> }) {
    const headers = {
      ...init.headers,
      ...(this.#key === "" ? {} : { Authorization: `Bearer ${this.#key}` }),
    };
    let response: Response;
    try {
      response = await fetch(path, { ...init, headers, cache: "no-store", redirect: "error" });
    } catch (error) {
      if (init.signal?.aborted) throw error;
      throw new Problem(SILENT);
    }
    if (!response.ok) throw await refusal(response);
    return response;
  }
}
