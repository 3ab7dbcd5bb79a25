/**
 * Rows of `prompt` and `completion`: texts without a template, as TRL reads them.
 *
 * @module
 */
import { type DataFormat, emptyName } from "./format.ts";

/** Prompts with what follows them. */
export const PROMPT_COMPLETION: DataFormat = {
  name: "prompt-completion",
  fields: ["prompt", "completion"],
  expected: "prompt and completion",
  tells: (fields) => fields.has("completion") || fields.has("prompt") && !fields.has("text"),
  read(fields, options) {
    const prompt = fields.required("prompt");
    const completion = options.outputs ? fields.answer("completion") : "";
    return { sample: { prompt, completion }, empty: emptyName(completion, "completion", options) };
  },
};
