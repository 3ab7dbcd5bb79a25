/**
 * Rows of `conversations`, in ShareGPT's words or OpenAI's; `system` may stand beside them.
 *
 * @module
 */
import { Dict, List, text, type Value } from "../../templates/jinja/values.ts";
import { chatSample, readMessages } from "./conversation.ts";
import type { DataFormat } from "./format.ts";

/** A tool as templates expect it: files of this kind have the function alone, as LLaMA-Factory reads them. */
function asTool(tool: Value): Value {
  if (!(tool instanceof Dict) || tool.text("name") === undefined) return tool;
  if (["type", "function"].some((name) => tool.text(name) !== undefined)) return tool;
  return new Dict([[text("type"), text("function")], [text("function"), tool]]);
}

/** Conversations by another name. */
export const SHAREGPT: DataFormat = {
  name: "sharegpt",
  fields: ["conversations", "conversation", "system", "tools", "chat_template_kwargs"],
  expected: "conversations (ShareGPT)",
  tells: (fields) => fields.has("conversations") || fields.has("conversation"),
  read(fields) {
    const field = fields.first("conversations", "conversation") ?? "conversations";
    const sample = chatSample(fields, readMessages(fields, field)), { tools } = sample;
    return {
      sample: tools === undefined
        ? sample
        : { ...sample, tools: new List(tools.items.map(asTool)) },
    };
  },
};
