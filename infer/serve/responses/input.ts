/**
 * What a request for a response asks: a text, or items of a conversation, as messages.
 *
 * @module
 */
import { z } from "zod";
import { isObject } from "../../../model/files/json_file.ts";
import type { messageField } from "../conversation.ts";

type ChatMessage = z.output<typeof messageField>;

const textPart = z.strictObject({
  type: z.enum(["input_text", "output_text"]),
  text: z.string(),
  annotations: z.unknown().optional(),
  logprobs: z.unknown().optional(),
  parsed: z.unknown().optional(),
});

const texts = z.union([z.string(), z.array(textPart).min(1)], {
  error: "expected a text, or a list of parts of type input_text or output_text",
});

/** What an item that was part of a response has besides; npm's openai adds what it parsed. */
const told = {
  id: z.unknown().optional(),
  status: z.unknown().optional(),
  parsed_arguments: z.unknown().optional(),
};

const messageItem = z.strictObject({
  ...told,
  type: z.literal("message").optional(),
  role: z.enum(["system", "developer", "user", "assistant"]),
  content: texts,
});

const callItem = z.strictObject({
  ...told,
  type: z.literal("function_call"),
  call_id: z.string().min(1),
  name: z.string(),
  arguments: z.string(),
});

const outputItem = z.strictObject({
  ...told,
  type: z.literal("function_call_output"),
  call_id: z.string().min(1),
  output: texts,
});

const itemField = z.discriminatedUnion("type", [callItem, outputItem, messageItem], {
  error: ({ input }) =>
    isObject(input) && input.type === "item_reference"
      ? "nothing is kept here; expected the item itself, as the AI SDK sends it with store false"
      : "expected an item of type message, function_call or function_call_output",
});

/** `input` of a request. */
export const inputField = z.union([z.string(), z.array(itemField).min(1)], {
  error: ({ input }) =>
    Array.isArray(input) && input.length > 0 ? undefined : "expected a text, or a list of items",
});

const textOf = (content: z.output<typeof texts>) =>
  typeof content === "string" ? content : content.map(({ text }) => text).join("");

/** The conversation of a request. */
export function messagesOf({ input, instructions }: {
  input: z.output<typeof inputField>;
  instructions?: string | null;
}): ChatMessage[] {
  const messages: ChatMessage[] = instructions ? [{ role: "system", content: instructions }] : [];
  if (typeof input === "string") return [...messages, { role: "user", content: input }];
  for (const item of input) {
    if (item.type === "function_call_output") {
      messages.push({ role: "tool", tool_call_id: item.call_id, content: textOf(item.output) });
    } else if (item.type === "function_call") {
      const { call_id: id, name, arguments: json } = item;
      const call = { id, type: "function" as const, function: { name, arguments: json } };
      // Calls belong to the answer before them.
      const last = messages.at(-1);
      if (last?.role === "assistant") last.tool_calls = [...last.tool_calls ?? [], call];
      else messages.push({ role: "assistant", tool_calls: [call] });
    } else messages.push({ role: item.role, content: textOf(item.content) });
  }
  return messages;
}
