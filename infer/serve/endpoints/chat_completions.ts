/**
 * `POST /v1/chat/completions`: continues a conversation
 * (https://platform.openai.com/docs/api-reference/chat/create).
 *
 * @module
 */
import { createRoute } from "hono-openapi";
import { z } from "zod";
import type { ToldToken } from "../answers.ts";
import { type Answers, beginAnswers, type Usage, wholeAnswers } from "../answering.ts";
import { ApiError } from "../api_error.ts";
import { conversationOf, messageField } from "../conversation.ts";
import { eventStream } from "../events.ts";
import { answerFields, ignoredFields } from "../fields.ts";
import { grammarOf, responseFormatField } from "../response_format.ts";
import { adapterNamed, promptIds, type Serving } from "../serving.ts";
import { answers, type App, bodyHook, jsonBody } from "./endpoint.ts";

const schema = z.strictObject({
  ...answerFields,
  ...ignoredFields,
  messages: z.array(messageField).min(1),
  max_tokens: z.int().min(1).nullish(),
  max_completion_tokens: z.int().min(1).nullish(),
  logprobs: z.boolean().nullish(),
  top_logprobs: z.int().min(0).max(20).nullish(),
  response_format: responseFormatField.nullish(),
});
type ChatRequest = z.output<typeof schema>;

const route = createRoute({
  method: "post",
  path: "/v1/chat/completions",
  summary: "Continues a conversation.",
  request: jsonBody(schema),
  responses: answers("The answers, or server-sent events of their parts."),
});

/** What every part of an answer says. */
interface Head {
  id: string;
  created: number;
  model: string;
}

/** A token in OpenAI's words. */
function toldToken({ text, logprob }: { text: string; logprob: number }) {
  // Part of a character has no text of its own.
  const bytes = text.includes("\ufffd") ? null : [...new TextEncoder().encode(text)];
  return { token: text, logprob, bytes };
}

function toldTokens(tokens: readonly ToldToken[] | undefined) {
  if (tokens === undefined) return null;
  const content = tokens.map((token) => ({
    ...toldToken(token),
    top_logprobs: token.top.map(toldToken),
  }));
  return { content, refusal: null };
}

/** How many of the likeliest tokens are told of. */
function logprobsOf({ logprobs, top_logprobs }: ChatRequest): number | undefined {
  if (logprobs) return top_logprobs ?? 0;
  if (top_logprobs === null || top_logprobs === undefined) return undefined;
  throw new ApiError(400, "top_logprobs: is given without logprobs; expected logprobs to be true", {
    param: "top_logprobs",
    code: "invalid_value",
  });
}

async function completion(head: Head, request: ChatRequest, begun: Answers) {
  const told = request.logprobs === true;
  const choices = (await wholeAnswers(begun)).map(({ text, tokens, finished }, index) => ({
    index,
    message: { role: "assistant", content: text, refusal: null },
    logprobs: told ? toldTokens(tokens) : null,
    finish_reason: finished,
  }));
  return { ...head, object: "chat.completion", choices, usage: begun.usage() };
}

async function* chunks(head: Head, request: ChatRequest, begun: Answers) {
  const withUsage = request.stream_options?.include_usage === true;
  const chunk = (choices: unknown[], usage: Usage | null = null) => ({
    ...head,
    object: "chat.completion.chunk",
    choices,
    ...(withUsage ? { usage } : {}),
  });
  const begin = { role: "assistant", content: "" };
  for (let index = 0; index < (request.n ?? 1); index++) {
    yield chunk([{ index, delta: begin, logprobs: null, finish_reason: null }]);
  }
  for await (const { index, part: { text, tokens, finished } } of begun.parts) {
    if (text !== "" || (tokens ?? []).length > 0) {
      const logprobs = toldTokens(tokens);
      yield chunk([{ index, delta: { content: text }, logprobs, finish_reason: null }]);
    }
    if (finished === undefined) continue;
    yield chunk([{ index, delta: {}, logprobs: null, finish_reason: finished }]);
  }
  if (withUsage) yield chunk([], begun.usage());
}

export function chatCompletions(app: App, serving: Serving): void {
  app.openapi(route, async (context) => {
    const request = context.req.valid("json"), { messages, model } = request;
    const adapter = adapterNamed(serving, model);
    const logprobs = logprobsOf(request);
    const { length, read } = conversationOf(messages);
    const what = { param: "messages", length };
    const prompt = promptIds(serving, what, () => serving.encodeChat(read()));
    const grammar = grammarOf(request.response_format, request);
    const most = request.max_completion_tokens ?? request.max_tokens ?? Infinity;
    const begun = beginAnswers(
      serving,
      {
        fields: request,
        adapter,
        prompts: [prompt],
        maxTokens: most,
        logprobs,
        grammar,
        echo: false,
      },
      { client: context.get("client"), signal: context.req.raw.signal },
    );
    const head: Head = {
      id: `chatcmpl-${crypto.randomUUID()}`,
      created: Math.floor(Date.now() / 1000),
      model,
    };
    if (request.stream) return eventStream(chunks(head, request, begun));
    return Response.json(await completion(head, request, begun));
  }, bodyHook(schema));
}
