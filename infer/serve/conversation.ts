/**
 * Messages of a request as templates see them.
 *
 * @module
 */
import { z } from "zod";
import { readMessages } from "../../model/text/templates/chat_rendering.ts";
import type { Message } from "../../model/text/templates/chat.ts";

const textPart = z.strictObject({ type: z.literal("text"), text: z.string() });

/** A content of several texts is one text, as the model is given them. */
const content = z.union([z.string(), z.array(textPart).min(1)], {
  error: "expected a text, or a list of parts of type text",
});

const toolCall = z.strictObject({
  id: z.string(),
  // What streams number calls by comes back from clients that have joined them.
  index: z.int().nullish(),
  type: z.literal("function"),
  function: z.strictObject({ name: z.string(), arguments: z.string() }),
});

const name = z.string().nullish();

/** What answers of this server or another one hold beside a text: clients send them back as they are. */
const answeredFields = {
  refusal: z.null().optional(),
  audio: z.null().optional(),
  function_call: z.null().optional(),
  annotations: z.array(z.unknown()).nullish(),
  // Thoughts are no part of what was said.
  reasoning: z.string().nullish(),
  reasoning_content: z.string().nullish(),
};

/** A message of a request. */
export const messageField = z.discriminatedUnion("role", [
  z.strictObject({ role: z.enum(["system", "developer", "user"]), content, name }),
  z.strictObject({
    role: z.literal("assistant"),
    content: content.nullish(),
    name,
    tool_calls: z.array(toolCall).nullish(),
    ...answeredFields,
  }),
  z.strictObject({ role: z.literal("tool"), content, tool_call_id: z.string(), name }),
]);
type RequestMessage = z.output<typeof messageField>;

/** Messages of a request, and the characters in them. */
export interface Conversation {
  readonly length: number;
  /** @throws {UserError} where they are no conversation. */
  read(): Message[];
}

/** Templates write arguments out themselves; text that is no JSON is left as it is. */
function argumentsOf(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    return json;
  }
}

function plainMessage(message: RequestMessage) {
  const { role, content, name } = message;
  const text = typeof content === "string"
    ? content
    : content?.map(({ text }) => text).join("") ?? "";
  const calls = role === "assistant" && message.tool_calls && message.tool_calls.length > 0
    ? message.tool_calls.map(({ id, type, function: { name, arguments: json } }) => ({
      id,
      type,
      function: { name, arguments: argumentsOf(json) },
    }))
    : undefined;
  return {
    // No template knows the newer name.
    role: role === "developer" ? "system" : role,
    content: text,
    ...(name ? { name } : {}),
    ...(calls ? { tool_calls: calls } : {}),
    ...(role === "tool" ? { tool_call_id: message.tool_call_id } : {}),
  };
}

/** Messages as templates take them. */
export function conversationOf(messages: readonly RequestMessage[]): Conversation {
  const json = JSON.stringify(messages.map(plainMessage));
  return { length: json.length, read: () => readMessages({ json, name: "messages" }) };
}
