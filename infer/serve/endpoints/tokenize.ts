/**
 * `POST /tokenize` and `POST /detokenize`: texts and conversations to ids and back, as other servers have them.
 *
 * @module
 */
import { createRoute } from "hono-openapi";
import { z } from "zod";
import { ApiError } from "../api_error.ts";
import { conversationOf, messageField } from "../conversation.ts";
import { adapterNamed, promptIds, type Serving } from "../serving.ts";
import { answers, type App, bodyHook, jsonBody } from "./endpoint.ts";

const tokenizeSchema = z.strictObject({
  model: z.string().nullish(),
  prompt: z.string().optional(),
  messages: z.array(messageField).min(1).optional(),
  add_special_tokens: z.boolean().nullish(),
});

const detokenizeSchema = z.strictObject({
  model: z.string().nullish(),
  tokens: z.array(z.int().min(0)),
});

const tokenizeRoute = createRoute({
  method: "post",
  path: "/tokenize",
  summary: "The ids of a text, or of a conversation in the model's template.",
  request: jsonBody(tokenizeSchema),
  responses: answers("The ids."),
});

const detokenizeRoute = createRoute({
  method: "post",
  path: "/detokenize",
  summary: "The text of ids.",
  request: jsonBody(detokenizeSchema),
  responses: answers("The text."),
});

/** The ids that a request asks for. */
async function idsOf(
  serving: Serving,
  request: z.output<typeof tokenizeSchema>,
): Promise<number[]> {
  const { prompt, messages, add_special_tokens } = request, { tokenizer } = serving;
  if ((prompt === undefined) === (messages === undefined)) {
    throw new ApiError(400, "expected prompt or messages, one of them", {
      param: "prompt",
      code: "invalid_value",
    });
  }
  if (messages !== undefined) {
    const { length, read } = conversationOf(messages);
    const encode = await serving.chatEncoder();
    return promptIds(serving, { param: "messages", length }, () => encode(read()));
  }
  const text = prompt ?? "", what = { param: "prompt", length: text.length };
  return promptIds(
    serving,
    what,
    () => add_special_tokens === false ? tokenizer.encodeSpecial(text) : tokenizer.encodeText(text),
  );
}

export function tokenize(app: App, serving: Serving): void {
  const { tokenizer, vocab, context, names } = serving;
  app.openapi(tokenizeRoute, async (c) => {
    const request = c.req.valid("json");
    adapterNamed(serving, request.model ?? names[0]);
    const tokens = await idsOf(serving, request);
    return Response.json({ count: tokens.length, max_model_len: context, tokens });
  }, bodyHook(tokenizeSchema));
  app.openapi(detokenizeRoute, (c) => {
    const { model, tokens } = c.req.valid("json");
    adapterNamed(serving, model ?? names[0]);
    const strange = tokens.find((id) => id >= vocab);
    if (strange !== undefined) {
      const message = `tokens: there is no token ${strange}; expected ids from 0 to ${vocab - 1}`;
      throw new ApiError(400, message, { param: "tokens", code: "invalid_value" });
    }
    return Response.json({ prompt: tokenizer.decode(tokens) });
  }, bodyHook(detokenizeSchema));
}
