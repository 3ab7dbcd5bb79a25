/**
 * `POST /v1/responses`: an answer to a text or a conversation, in the newer form of OpenAI's API
 * (https://platform.openai.com/docs/api-reference/responses/create). Nothing is kept: a conversation is sent whole.
 *
 * @module
 */
import { createRoute } from "hono-openapi";
import { beginAnswers } from "../answering.ts";
import { conversationOf } from "../conversation.ts";
import { eventStream } from "../events.ts";
import { grammarOf } from "../response_format.ts";
import { type ResponseEvent, responseEvents } from "../responses/events.ts";
import { messagesOf } from "../responses/input.ts";
import { formatOf, responsesSchema } from "../responses/request.ts";
import { toolFieldsOf } from "../responses/tools.ts";
import { ToolText, toolUse } from "../tools.ts";
import { adapterNamed, promptIds, type Serving } from "../serving.ts";
import { answers as described, type App, bodyHook, jsonBody } from "./endpoint.ts";

const route = createRoute({
  method: "post",
  path: "/v1/responses",
  summary: "Answers a text or a conversation.",
  request: jsonBody(responsesSchema),
  responses: described("The response, or server-sent events of its parts."),
});

/** The response as it is at the end. */
async function wholeResponse(events: AsyncIterable<ResponseEvent>): Promise<unknown> {
  let response: unknown;
  for await (const event of events) response = event.response ?? response;
  return response;
}

export function responses(app: App, serving: Serving): void {
  app.openapi(route, async (context) => {
    const request = context.req.valid("json");
    const adapter = adapterNamed(serving, request.model);
    const use = toolUse(toolFieldsOf(request)),
      encode = await serving.chatEncoder({ tools: use.json });
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
        grammar: use.grammar ?? grammarOf(formatOf(request), {}),
        echo: false,
      },
      { client: context.get("client"), signal: context.req.raw.signal },
    );
    const tools = use.names.length > 0 ? new ToolText(use) : undefined;
    const events = responseEvents(request, begun, tools);
    if (request.stream) return eventStream(events, { named: true });
    return Response.json(await wholeResponse(events));
  }, bodyHook(responsesSchema));
}
