/**
 * Messages of a request as templates see them.
 *
 * @module
 */
import { z } from "zod";
import { readMessages } from "../../model/text/templates/chat_rendering.ts";
import type { Message } from "../../model/text/templates/chat.ts";

const textPart = z.strictObject({ type: z.literal("text"), text: z.string() });

/** A message of a request. A content of several texts is one text, as the model is given them. */
export const messageField = z.strictObject({
  role: z.enum(["system", "developer", "user", "assistant"]),
  content: z.union([z.string(), z.array(textPart).min(1)], {
    error: "expected a text, or a list of parts of type text",
  }),
  name: z.string().nullish(),
  refusal: z.null().optional(),
});

/** Messages of a request, and the characters in them. */
export interface Conversation {
  readonly length: number;
  /** @throws {UserError} where they are no conversation. */
  read(): Message[];
}

/** Messages as templates take them. */
export function conversationOf(messages: readonly z.output<typeof messageField>[]): Conversation {
  const plain = messages.map(({ role, content, name }) => ({
    // No template knows the newer name.
    role: role === "developer" ? "system" : role,
    content: typeof content === "string" ? content : content.map(({ text }) => text).join(""),
    ...(name ? { name } : {}),
  }));
  return {
    length: plain.reduce((sum, { content }) => sum + content.length, 0),
    read: () => readMessages({ json: JSON.stringify(plain), name: "messages" }),
  };
}
