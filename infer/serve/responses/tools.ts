/**
 * Tools of a request for a response, whose fields lie flatter than those of a chat.
 *
 * @module
 */
import { z } from "zod";
import { functionFields, MOST_TOOLS, type ToolFields } from "../tools.ts";

const toolField = z.strictObject({ type: z.literal("function"), ...functionFields });

/** Fields of a request. */
export const responseToolFields = {
  tools: z.array(toolField).max(MOST_TOOLS).nullish(),
  tool_choice: z.union([
    z.enum(["none", "auto", "required"]),
    z.strictObject({ type: z.literal("function"), name: z.string() }),
  ], { error: "expected none, auto, required, or a function by its name" }).nullish(),
  parallel_tool_calls: z.boolean().nullish(),
};

/** The same in chat's words. */
export function toolFieldsOf(
  { tools, tool_choice, parallel_tool_calls }: z.output<z.ZodObject<typeof responseToolFields>>,
): ToolFields {
  return {
    tools: tools?.map(({ type, ...described }) => ({ type, function: described })),
    tool_choice: typeof tool_choice === "object" && tool_choice !== null
      ? { type: "function", function: { name: tool_choice.name } }
      : tool_choice,
    parallel_tool_calls,
  };
}
