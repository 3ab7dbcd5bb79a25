/**
 * `POST /v1/completions`: continues texts as they are
 * (https://platform.openai.com/docs/api-reference/completions/create).
 *
 * @module
 */
import { createRoute } from "hono-openapi";
import { z } from "zod";
import type { ToldToken } from "../answers.ts";
import { type Answers, type Asker, beginAnswers, type Usage, wholeAnswers } from "../answering.ts";
import { ApiError } from "../api_error.ts";
import { eventStream } from "../events.ts";
import { answerFields, ignoredFields } from "../fields.ts";
import { type PromptToken, promptTokens } from "../prompt_logprobs.ts";
import { adapterNamed, promptIds, type Serving } from "../serving.ts";
import { answers, type App, bodyHook, jsonBody } from "./endpoint.ts";

/** Prompts of a request at most. */
const MOST_PROMPTS = 128;
/** Tokens of an answer where nothing is said: OpenAI's number. */
const MAX_TOKENS = 16;

const ids = z.array(z.int().min(0)).min(1);

const schema = z.strictObject({
  ...answerFields,
  ...ignoredFields,
  prompt: z.union([
    z.string(),
    ids,
    z.array(z.string()).min(1).max(MOST_PROMPTS),
    z.array(ids).min(1).max(MOST_PROMPTS),
  ], {
    error:
      `expected a text, a list of ids, or a list of up to ${MOST_PROMPTS} texts or lists of ids`,
  }),
  max_tokens: z.int().min(0).nullish(),
  logprobs: z.int().min(0).max(5).nullish(),
  echo: z.boolean().nullish(),
  best_of: z.int().nullish(),
  suffix: z.literal(["", null], {
    error: "text to insert before is not supported; expected null",
  }).optional(),
});
type CompletionRequest = z.output<typeof schema>;

const route = createRoute({
  method: "post",
  path: "/v1/completions",
  summary: "Continues texts.",
  request: jsonBody(schema),
  responses: answers("The answers, or server-sent events of their parts."),
});

/** What every part of an answer says. */
interface Head {
  id: string;
  object: "text_completion";
  created: number;
  model: string;
}

/** What tokens are told of in this endpoint's older form. */
class TokenTable {
  /** @param offset Characters of the text before the next token. */
  constructor(public offset: number) {}

  rows(tokens: readonly PromptToken[]) {
    return {
      tokens: tokens.map(({ text }) => text),
      token_logprobs: tokens.map(({ logprob }) => logprob),
      top_logprobs: tokens.map((token) => {
        // Nothing is told of a prompt's first token.
        if (token.logprob === null) return null;
        const top = token.top.map(({ text, logprob }) => [text, logprob]);
        // The token itself is among them, be it unlikely.
        return Object.fromEntries([...top, [token.text, token.logprob]]);
      }),
      text_offset: tokens.map(({ text }) => {
        const at = this.offset;
        this.offset += text.length;
        return at;
      }),
    };
  }
}

/** @throws {ApiError} where fields don't go together. */
function checkTogether({ best_of, n }: CompletionRequest): void {
  if (best_of !== null && best_of !== undefined && best_of !== (n ?? 1)) {
    const message = `best_of is ${best_of}; only n (${
      n ?? 1
    }) answers are made, none of which is left out`;
    throw new ApiError(400, message, { param: "best_of", code: "invalid_value" });
  }
}

/** The prompts as ids, and the texts that `echo` begins the answers with. */
function promptsOf(serving: Serving, { prompt, echo }: CompletionRequest) {
  const { tokenizer, vocab } = serving;
  const isIds = (list: unknown[]): list is number[] => typeof list[0] === "number";
  const all = typeof prompt === "string" || isIds(prompt) ? [prompt] : prompt;
  return all.map((one, i) => {
    const param = all.length === 1 ? "prompt" : `prompt[${i}]`;
    if (typeof one === "string") {
      const what = { param, length: one.length };
      return { text: one, ids: promptIds(serving, what, () => tokenizer.encodeText(one)) };
    }
    const strange = one.find((id) => id >= vocab);
    if (strange !== undefined) {
      const message = `${param}: there is no token ${strange}; expected ids from 0 to ${vocab - 1}`;
      throw new ApiError(400, message, { param, code: "invalid_value" });
    }
    const given = promptIds(serving, { param, length: one.length }, () => one);
    return { text: echo ? tokenizer.decode(given) : "", ids: given };
  });
}

/** What an answer's text begins with. */
interface Beginning {
  readonly text: string;
  /** What is told of its tokens; undefined where nothing is. */
  readonly tokens?: readonly PromptToken[];
}
type Beginnings = readonly Beginning[];

/**
 * The token that ended an answer, where the prompt's are told of, too: lm-evaluation-harness takes the last token told of for
 * the first of an answer.
 */
function endingOf({ tokens }: Beginning, ending: ToldToken | undefined): ToldToken[] {
  return tokens === undefined || ending === undefined ? [] : [ending];
}

/** The answers' beginnings: with `echo`, their prompts. */
async function beginningsOf(
  serving: Serving,
  { n, echo, logprobs }: CompletionRequest,
  { prompts, adapter, asker }: {
    prompts: readonly { text: string; ids: number[] }[];
    adapter: number;
    asker: Asker;
  },
): Promise<Beginnings> {
  const told = echo && typeof logprobs === "number"
    ? await promptTokens(
      serving,
      { prompts: prompts.map(({ ids }) => ids), adapter, logprobs },
      asker,
    )
    : [];
  return prompts.flatMap(({ text }, i) => {
    const beginning: Beginning = echo ? { text, tokens: told[i] } : { text: "" };
    return Array<Beginning>(n ?? 1).fill(beginning);
  });
}

async function completion(
  head: Head,
  { logprobs }: CompletionRequest,
  begun: Answers,
  beginnings: Beginnings,
) {
  const choices = (await wholeAnswers(begun)).map(({ text, tokens, finished, ending }, index) => {
    const before = beginnings[index];
    const all = [...before.tokens ?? [], ...tokens, ...endingOf(before, ending)];
    return {
      index,
      text: before.text + text,
      logprobs: typeof logprobs === "number" ? new TokenTable(0).rows(all) : null,
      finish_reason: finished,
    };
  });
  return { ...head, choices, usage: begun.usage() };
}

async function* chunks(
  head: Head,
  { stream_options }: CompletionRequest,
  begun: Answers,
  beginnings: Beginnings,
) {
  const withUsage = stream_options?.include_usage === true;
  const chunk = (choices: unknown[], usage: Usage | null = null) => ({
    ...head,
    choices,
    ...(withUsage ? { usage } : {}),
  });
  for (const [index, { text, tokens }] of beginnings.entries()) {
    const logprobs = tokens === undefined ? null : new TokenTable(0).rows(tokens);
    if (text !== "") yield chunk([{ index, text, logprobs, finish_reason: null }]);
  }
  const tables = beginnings.map(({ text }) => new TokenTable(text.length));
  for await (const { index, part: { text, tokens, finished, ending } } of begun.parts) {
    if (text === "" && (tokens ?? []).length === 0 && finished === undefined) continue;
    const all = tokens && [...tokens, ...endingOf(beginnings[index], ending)];
    const logprobs = all === undefined ? null : tables[index].rows(all);
    yield chunk([{ index, text, logprobs, finish_reason: finished ?? null }]);
  }
  if (withUsage) yield chunk([], begun.usage());
}

export function completions(app: App, serving: Serving): void {
  app.openapi(route, async (context) => {
    const request = context.req.valid("json"), { model, echo, max_tokens, logprobs } = request;
    const adapter = adapterNamed(serving, model);
    checkTogether(request);
    const prompts = promptsOf(serving, request);
    const asker = { client: context.get("client"), signal: context.req.raw.signal };
    const beginnings = await beginningsOf(serving, request, { prompts, adapter, asker });
    const begun = beginAnswers(
      serving,
      {
        fields: request,
        adapter,
        prompts: prompts.map(({ ids }) => ids),
        maxTokens: max_tokens ?? MAX_TOKENS,
        logprobs: logprobs ?? undefined,
        echo: echo === true,
      },
      asker,
    );
    const head: Head = {
      id: `cmpl-${crypto.randomUUID()}`,
      object: "text_completion",
      created: Math.floor(Date.now() / 1000),
      model,
    };
    if (request.stream) return eventStream(chunks(head, request, begun, beginnings));
    return Response.json(await completion(head, request, begun, beginnings));
  }, bodyHook(schema));
}
