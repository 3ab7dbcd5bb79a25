/**
 * Rows of `conversations`, in ShareGPT's words or OpenAI's; `system` may stand beside them.
 *
 * @module
 */
import { chatSample, readMessages } from "./conversation.ts";
import type { DataFormat } from "./format.ts";

/** Conversations by another name. */
export const SHAREGPT: DataFormat = {
  name: "sharegpt",
  fields: ["conversations", "conversation", "system", "tools", "chat_template_kwargs"],
  expected: "conversations (ShareGPT)",
  tells: (fields) => fields.has("conversations") || fields.has("conversation"),
  read(fields) {
    const field = fields.first("conversations", "conversation") ?? "conversations";
    return { sample: chatSample(fields, readMessages(fields, field)) };
  },
};
