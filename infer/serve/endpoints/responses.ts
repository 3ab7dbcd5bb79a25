/**
 * `POST /v1/responses`: an answer to a text or a conversation, in the newer form of OpenAI's API
 * (https://platform.openai.com/docs/api-reference/responses/create). Nothing is kept: a conversation is sent whole.
 *
 * @module
 */
import { createRoute } from "hono-openapi";
import { z } from "zod";
import { type Answers, beginAnswers } from "../answering.ts";
import { conversationOf, messageField } from "../conversation.ts";
import { eventStream } from "../events.ts";
import { ignoredFields } from "../fields.ts";
import { grammarOf } from "../response_format.ts";
import { adapterNamed, promptIds, type Serving } from "../serving.ts";
import { answers as described, type App, bodyHook, jsonBody } from "./endpoint.ts";

const textPart = z.strictObject({
  type: z.enum(["input_text", "output_text"]),
  text: z.string(),
  annotations: z.unknown().optional(),
  logprobs: z.unknown().optional(),
});

const itemField = z.strictObject({
  type: z.literal("message").optional(),
  id: z.unknown().optional(),
  status: z.unknown().optional(),
  role: z.enum(["system", "developer", "user", "assistant"]),
  content: z.union([z.string(), z.array(textPart).min(1)], {
    error: "expected a text, or a list of parts of type input_text or output_text",
  }),
});

const formatField = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("text") }),
  z.strictObject({ type: z.literal("json_object") }),
  z.strictObject({
    type: z.literal("json_schema"),
    name: z.string().max(64),
    description: z.string().nullish(),
    schema: z.record(z.string(), z.unknown()),
    strict: z.boolean().nullish(),
  }),
]);

const schema = z.strictObject({
  ...ignoredFields,
  model: z.string().min(1),
  input: z.union([z.string(), z.array(itemField).min(1)], {
    error: "expected a text, or a list of messages with role and content",
  }),
  instructions: z.string().nullish(),
  max_output_tokens: z.int().min(1).nullish(),
  temperature: z.number().min(0).max(100).nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  stream: z.boolean().nullish(),
  text: z.strictObject({ format: formatField.nullish() }).nullish(),
  truncation: z.literal("disabled").nullish(),
  background: z.literal(false).nullish(),
  include: z.array(z.string()).max(0).nullish(),
});
type ResponsesRequest = z.output<typeof schema>;

const route = createRoute({
  method: "post",
  path: "/v1/responses",
  summary: "Answers a text or a conversation.",
  request: jsonBody(schema),
  responses: described("The response, or server-sent events of its parts."),
});

/** The conversation of a request. */
function messagesOf({ input, instructions }: ResponsesRequest): z.output<typeof messageField>[] {
  const first = instructions ? [{ role: "system" as const, content: instructions }] : [];
  if (typeof input === "string") return [...first, { role: "user", content: input }];
  const rest = input.map(({ role, content }) => ({
    role,
    content: typeof content === "string" ? content : content.map(({ text }) => text).join(""),
  }));
  return [...first, ...rest];
}

/** A response's form in chat's words. */
function formatOf({ text }: ResponsesRequest) {
  const format = text?.format;
  if (format?.type !== "json_schema") return format;
  const { type, ...json_schema } = format;
  return { type, json_schema };
}

/** A response and the one message in it, as they are so far. */
class ResponseState {
  readonly #id = `resp_${crypto.randomUUID().replaceAll("-", "")}`;
  readonly itemId = `msg_${crypto.randomUUID().replaceAll("-", "")}`;
  readonly #created = Math.floor(Date.now() / 1000);
  text = "";
  finished?: "stop" | "length";

  constructor(readonly request: ResponsesRequest, readonly begun: Answers) {}

  get part() {
    return { type: "output_text", text: this.text, annotations: [], logprobs: [] };
  }

  get item() {
    const status = this.#status, content = this.finished || this.text ? [this.part] : [];
    return { id: this.itemId, type: "message", role: "assistant", status, content };
  }

  get #status() {
    if (this.finished === undefined) return "in_progress";
    return this.finished === "length" ? "incomplete" : "completed";
  }

  get response() {
    const { model, instructions, max_output_tokens, temperature, top_p, text } = this.request;
    const isWhole = this.finished !== undefined, usage = this.begun.usage();
    return {
      id: this.#id,
      object: "response",
      created_at: this.#created,
      status: this.#status,
      error: null,
      incomplete_details: this.finished === "length" ? { reason: "max_output_tokens" } : null,
      instructions: instructions ?? null,
      max_output_tokens: max_output_tokens ?? null,
      metadata: {},
      model,
      output: isWhole ? [this.item] : [],
      parallel_tool_calls: false,
      previous_response_id: null,
      store: false,
      temperature: temperature ?? 1,
      text: text ?? { format: { type: "text" } },
      tool_choice: "none",
      tools: [],
      top_p: top_p ?? 1,
      truncation: "disabled",
      usage: isWhole
        ? {
          input_tokens: usage.prompt_tokens,
          input_tokens_details: { cached_tokens: 0 },
          output_tokens: usage.completion_tokens,
          output_tokens_details: { reasoning_tokens: 0 },
          total_tokens: usage.total_tokens,
        }
        : null,
    };
  }

  /** Takes all of the answer; tells each piece of text. */
  async *pieces(): AsyncGenerator<string> {
    for await (const { part: { text, finished } } of this.begun.parts) {
      this.text += text;
      this.finished = finished;
      if (text !== "") yield text;
    }
  }
}

/** The events of a response, each with its type and number. */
async function* events(state: ResponseState) {
  let sequence_number = 0;
  const event = (type: string, rest: object) => ({
    type,
    sequence_number: sequence_number++,
    ...rest,
  });
  const place = { item_id: state.itemId, output_index: 0, content_index: 0 };
  yield event("response.created", { response: state.response });
  yield event("response.in_progress", { response: state.response });
  yield event("response.output_item.added", { output_index: 0, item: state.item });
  yield event("response.content_part.added", { ...place, part: state.part });
  for await (const delta of state.pieces()) {
    yield event("response.output_text.delta", { ...place, delta, logprobs: [] });
  }
  yield event("response.output_text.done", { ...place, text: state.text, logprobs: [] });
  yield event("response.content_part.done", { ...place, part: state.part });
  yield event("response.output_item.done", { output_index: 0, item: state.item });
  const last = state.finished === "length" ? "incomplete" : "completed";
  yield event(`response.${last}`, { response: state.response });
}

export function responses(app: App, serving: Serving): void {
  app.openapi(route, async (context) => {
    const request = context.req.valid("json");
    const adapter = adapterNamed(serving, request.model), encode = await serving.chatEncoder();
    const { length, read } = conversationOf(messagesOf(request));
    const prompt = promptIds(serving, { param: "input", length }, () => encode(read()));
    const begun = beginAnswers(
      serving,
      {
        fields: request,
        adapter,
        prompts: [prompt],
        maxTokens: request.max_output_tokens ?? Infinity,
        logprobs: undefined,
        grammar: grammarOf(formatOf(request), {}),
        echo: false,
      },
      { client: context.get("client"), signal: context.req.raw.signal },
    );
    const state = new ResponseState(request, begun);
    if (request.stream) return eventStream(events(state), { named: true });
    for await (const _ of state.pieces());
    return Response.json(state.response);
  }, bodyHook(schema));
}
