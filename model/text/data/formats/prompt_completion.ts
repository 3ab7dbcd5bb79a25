/**
 * Rows of `prompt` and `completion`: texts without a template, as TRL reads them, or the messages of a conversation and
 * those that are learnt.
 *
 * @module
 */
import { kindOf } from "../row.ts";
import { chatSample, readMessages } from "./conversation.ts";
import { type DataFormat, emptyName, type ReadOptions, type ReadRow } from "./format.ts";
import type { RowFields } from "./row_fields.ts";

/** Both as messages. */
function conversation(fields: RowFields, { outputs }: ReadOptions): ReadRow {
  const asked = readMessages(fields, "prompt");
  if (!outputs) return { sample: chatSample(fields, { ...asked, answers: [] }) };
  if (!Array.isArray(fields.value("completion"))) {
    const is = fields.has("completion") ? kindOf(fields.value("completion")) : "missing";
    throw fields.refusal(`completion is ${is}, and prompt a list; expected messages in both`);
  }
  const learnt = readMessages(fields, "completion"), { length } = asked.messages;
  if (learnt.messages[0].role !== "assistant") {
    throw fields.refusal(
      `completion begins with a message by "${learnt.messages[0].role}"; expected the assistant's`,
    );
  }
  const messages = [...asked.messages, ...learnt.messages];
  const answers = learnt.answers.map((number) => number + length);
  const blank = new Set(Array.from(learnt.blank, (number) => number + length));
  return { sample: chatSample(fields, { messages, answers, blank }, length) };
}

/** Beside which a prompt alone says nothing. */
const OTHERS = ["text", "messages", "conversations", "conversation"];

/** Prompts with what follows them. */
export const PROMPT_COMPLETION: DataFormat = {
  name: "prompt-completion",
  fields: ["prompt", "completion", "tools", "chat_template_kwargs"],
  expected: "prompt and completion",
  tells: (fields) =>
    fields.has("completion") || fields.has("prompt") && !OTHERS.some((name) => fields.has(name)),
  read(fields, options) {
    if (Array.isArray(fields.fields.prompt)) return conversation(fields, options);
    const prompt = fields.required("prompt");
    const completion = options.outputs ? fields.answer("completion") : "";
    return { sample: { prompt, completion }, empty: emptyName(completion, "completion", options) };
  },
};
