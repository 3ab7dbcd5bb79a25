/**
 * Rows of `messages`, OpenAI's conversations, with `tools` and `chat_template_kwargs`.
 *
 * @module
 */
import { chatSample, readMessages } from "./conversation.ts";
import type { DataFormat } from "./format.ts";

/** Conversations. */
export const MESSAGES: DataFormat = {
  name: "messages",
  fields: ["messages", "tools", "chat_template_kwargs"],
  expected: "messages",
  tells: (fields) => fields.has("messages"),
  read: (fields) => ({ sample: chatSample(fields, readMessages(fields, "messages")) }),
};
