/**
 * A request for a response.
 *
 * @module
 */
import { z } from "zod";
import { ignoredFields } from "../fields.ts";
import type { responseFormatField } from "../response_format.ts";
import { inputField } from "./input.ts";
import { responseToolFields } from "./tools.ts";

const formatField = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("text") }),
  z.strictObject({ type: z.literal("json_object") }),
  z.strictObject({
    type: z.literal("json_schema"),
    name: z.string().max(64),
    description: z.string().nullish(),
    schema: z.record(z.string(), z.unknown()),
    strict: z.boolean().nullish(),
  }),
]);

/** What only reasoning models heed: here no reasoning is told apart from an answer. */
const reasoningField = z.strictObject({
  effort: z.unknown().optional(),
  summary: z.literal("auto", {
    error: "reasoning is not told apart here; expected auto, or none",
  }).nullish(),
  generate_summary: z.null({ error: "expected summary in its place" }).optional(),
  context: z.unknown().optional(),
});

/** What may be included in a response whose kinds of items never have it. */
const INCLUDED = [
  "reasoning.encrypted_content",
  "file_search_call.results",
  "web_search_call.results",
  "web_search_call.action.sources",
  "code_interpreter_call.outputs",
  "computer_call_output.output.image_url",
  "message.input_image.image_url",
];
const includedField = z.enum(INCLUDED, {
  error: ({ input }) =>
    input === "message.output_text.logprobs"
      ? "responses have no log-probabilities here; expected logprobs in a request for a chat's completion"
      : `expected ${INCLUDED.join(", ")}`,
});

const unkept = z.null({
  error: "nothing is kept here; expected the whole conversation in input",
}).optional();

/** A request for a response. */
export const responsesSchema = z.strictObject({
  ...ignoredFields,
  ...responseToolFields,
  model: z.string().min(1),
  input: inputField,
  instructions: z.string().nullish(),
  max_output_tokens: z.int().min(1).nullish(),
  temperature: z.number().min(0).max(100).nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  stream: z.boolean().nullish(),
  stream_options: z.strictObject({ include_obfuscation: z.boolean().nullish() }).nullish(),
  text: z.strictObject({
    format: formatField.nullish(),
    // As of a chat, it is for models that know it.
    verbosity: z.enum(["low", "medium", "high"]).nullish(),
  }).nullish(),
  reasoning: reasoningField.nullish(),
  truncation: z.literal("disabled").nullish(),
  background: z.literal(false).nullish(),
  include: z.array(includedField).max(INCLUDED.length).nullish(),
  previous_response_id: unkept,
  conversation: unkept,
  // Only tools of a server's own are counted.
  max_tool_calls: z.int().min(0).nullish(),
});
/** A request, checked. */
export type ResponsesRequest = z.output<typeof responsesSchema>;

/** A response's form in chat's words. */
export function formatOf(
  { text }: ResponsesRequest,
): z.output<typeof responseFormatField> | null | undefined {
  const format = text?.format;
  if (format?.type !== "json_schema") return format;
  const { type, ...json_schema } = format;
  return { type, json_schema };
}
