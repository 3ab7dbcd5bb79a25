/**
 * Rows of `text` alone, which is learnt as a whole.
 *
 * @module
 */
import { type DataFormat, emptyName } from "./format.ts";

/** Plain text. */
export const TEXT: DataFormat = {
  name: "text",
  fields: ["text"],
  expected: "text",
  tells: (fields) => fields.holds("text"),
  read(fields, options) {
    const completion = fields.answer("text");
    return { sample: { prompt: "", completion }, empty: emptyName(completion, "text", options) };
  },
};
