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
  text: z.strictObject({ format: formatField.nullish() }).nullish(),
  truncation: z.literal("disabled").nullish(),
  background: z.literal(false).nullish(),
  include: z.array(z.string()).max(0).nullish(),
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
