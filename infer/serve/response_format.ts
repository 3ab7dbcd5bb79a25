/**
 * The form of an answer that a request asks for, as a grammar.
 *
 * @module
 */
import { z } from "zod";
import { ApiError } from "./api_error.ts";
import { type Grammar, jsonSchemaGrammar } from "./grammar/json_schema.ts";

/** `response_format` of a chat request. */
export const responseFormatField = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("text") }),
  z.strictObject({ type: z.literal("json_object") }),
  z.strictObject({
    type: z.literal("json_schema"),
    json_schema: z.strictObject({
      name: z.string().max(64),
      description: z.string().nullish(),
      schema: z.record(z.string(), z.unknown()),
      strict: z.boolean().nullish(),
    }),
  }),
]);

/**
 * The grammar of a form; undefined for text. A schema is kept whether it is `strict` or not.
 *
 * @throws {ApiError} where a schema says what can't be kept.
 */
export function grammarOf(
  format: z.output<typeof responseFormatField> | null | undefined,
  { ignore_eos }: { ignore_eos?: boolean | null },
): Grammar | undefined {
  if (format === null || format === undefined || format.type === "text") return undefined;
  if (ignore_eos) {
    throw new ApiError(
      400,
      "ignore_eos: an answer of a form ends where the form does; leave it out",
      {
        param: "ignore_eos",
        code: "invalid_value",
      },
    );
  }
  const schema = format.type === "json_object" ? { type: "object" } : format.json_schema.schema;
  return jsonSchemaGrammar(schema, "response_format.json_schema.schema");
}
