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
import { toolFields, ToolText, toolUse } from "../tools.ts";
import { adapterNamed, promptIds, type Serving } from "../serving.ts";
import { answers as described, type App, bodyHook, jsonBody } from "./endpoint.ts";

/** What only other models heed, or what says that they are to do as all here do. */
const hintFields = {
  reasoning_effort: z.unknown().optional(),
  verbosity: z.unknown().optional(),
  prediction: z.unknown().optional(),
  modalities: z.array(z.literal("text")).nullish(),
  functions: z.null({ error: "expected tools in its place" }).optional(),
  function_call: z.null({ error: "expected tool_choice in its place" }).optional(),
};

const schema = z.strictObject({
  ...answerFields,
  ...ignoredFields,
  ...toolFields,
  messages: z.array(messageField).min(1),
  max_tokens: z.int().min(1).nullish(),
  max_completion_tokens: z.int().min(1).nullish(),
  logprobs: z.boolean().nullish(),
  top_logprobs: z.int().min(0).max(20).nullish(),
  response_format: responseFormatField.nullish(),
  // As vLLM has it.
  chat_template_kwargs: z.record(z.string(), z.unknown()).nullish(),
  ...hintFields,
});
type ChatRequest = z.output<typeof schema>;

const route = createRoute({
  method: "post",
  path: "/v1/chat/completions",
  summary: "Continues a conversation.",
  request: jsonBody(schema),
  responses: described("The answers, or server-sent events of their parts."),
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

/** Variables that the template is given, as JSON. */
function kwargsOf({ chat_template_kwargs: kwargs }: ChatRequest): string | undefined {
  if (kwargs === null || kwargs === undefined || Object.keys(kwargs).length === 0) return undefined;
  const field = ["messages", "tools"].find((name) => Object.hasOwn(kwargs, name));
  if (field === undefined) return JSON.stringify(kwargs);
  throw new ApiError(400, `chat_template_kwargs: has ${field}, which is a field of its own`, {
    param: "chat_template_kwargs",
    code: "invalid_value",
  });
}

/** An answer under way, and who tells calls of tools from text in it. */
interface Begun {
  request: ChatRequest;
  answers: Answers;
  toolText: () => ToolText | undefined;
}

async function completion(head: Head, { request, answers: begun, toolText }: Begun) {
  const told = request.logprobs === true;
  const choices = (await wholeAnswers(begun)).map(({ text, tokens, finished }, index) => {
    const tools = toolText(), before = tools?.push(text) ?? text;
    const { text: rest, calls } = tools?.end() ?? { text: "", calls: [] };
    const content = before + rest, isCall = calls.length > 0;
    return {
      index,
      message: {
        role: "assistant",
        content: isCall && content === "" ? null : content,
        refusal: null,
        ...(isCall ? { tool_calls: calls } : {}),
      },
      logprobs: told ? toldTokens(tokens) : null,
      finish_reason: isCall ? "tool_calls" : finished,
    };
  });
  return { ...head, object: "chat.completion", choices, usage: begun.usage() };
}

async function* chunks(head: Head, { request, answers: begun, toolText }: Begun) {
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
  const tools = Array.from({ length: request.n ?? 1 }, toolText);
  for await (const { index, part } of begun.parts) {
    const { tokens, finished } = part, own = tools[index];
    const before = own?.push(part.text) ?? part.text;
    const { text: rest, calls } = (finished && own?.end()) || { text: "", calls: [] };
    const content = before + rest;
    if (content !== "" || (tokens ?? []).length > 0) {
      const logprobs = toldTokens(tokens);
      yield chunk([{ index, delta: { content }, logprobs, finish_reason: null }]);
    }
    if (finished === undefined) continue;
    const isCall = calls.length > 0;
    if (isCall) {
      const delta = { tool_calls: calls.map((call, i) => ({ index: i, ...call })) };
      yield chunk([{ index, delta, logprobs: null, finish_reason: null }]);
    }
    const finish_reason = isCall ? "tool_calls" : finished;
    yield chunk([{ index, delta: {}, logprobs: null, finish_reason }]);
  }
  if (withUsage) yield chunk([], begun.usage());
}

export function chatCompletions(app: App, serving: Serving): void {
  app.openapi(route, async (context) => {
    const request = context.req.valid("json"), { messages, model } = request;
    const adapter = adapterNamed(serving, model);
    const logprobs = logprobsOf(request);
    const use = toolUse(request), kwargs = kwargsOf(request);
    const { length, read } = conversationOf(messages);
    // The template may write out all of both.
    const all = { param: "messages", length: length + (kwargs?.length ?? 0) };
    const encode = await serving.chatEncoder({ tools: use.json, chat_template_kwargs: kwargs });
    const prompt = promptIds(serving, all, () => encode(read()));
    const grammar = use.grammar ?? grammarOf(request.response_format, request);
    const most = request.max_completion_tokens ?? request.max_tokens ?? Infinity;
    const answers = beginAnswers(
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
    const toolText = () => use.names.length > 0 ? new ToolText(use) : undefined;
    const begun = { request, answers, toolText };
    if (request.stream) return eventStream(chunks(head, begun));
    return Response.json(await completion(head, begun));
  }, bodyHook(schema));
}
