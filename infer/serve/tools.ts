/**
 * Tools that a model may call: what a request says of them, the grammar of a call that has to be made, and calls in the
 * text of an answer.
 *
 * @module
 */
import { z } from "zod";
import { isObject } from "../../model/files/json_file.ts";
import { ApiError } from "./api_error.ts";
import { type Grammar, jsonSchemaGrammar } from "./grammar/json_schema.ts";

/** Tools of a request at most. */
export const MOST_TOOLS = 128;

/** What a function is. */
export const functionFields = {
  name: z.string().regex(/^[\w.-]{1,64}$/, "expected letters, digits, _, . and -, 64 at most"),
  description: z.string().nullish(),
  parameters: z.record(z.string(), z.unknown()).nullish(),
  strict: z.boolean().nullish(),
};

const toolField = z.strictObject({
  type: z.literal("function"),
  function: z.strictObject(functionFields),
});

/** Fields of a chat request. */
export const toolFields = {
  tools: z.array(toolField).max(MOST_TOOLS).nullish(),
  tool_choice: z.union([
    z.enum(["none", "auto", "required"]),
    z.strictObject({
      type: z.literal("function"),
      function: z.strictObject({ name: z.string() }),
    }),
  ], { error: "expected none, auto, required, or a function by its name" }).nullish(),
  parallel_tool_calls: z.boolean().nullish(),
};
/** What they hold. */
export type ToolFields = z.output<z.ZodObject<typeof toolFields>>;
type Tool = z.output<typeof toolField>;

/** A call of a tool, in OpenAI's words. */
export interface ToolCall {
  id: string;
  type: "function";
  function: { name: string; arguments: string };
}

/** What a request asks of tools. */
export interface ToolUse {
  /** As templates take them; undefined where there are none, or none is to be called. */
  readonly json?: string;
  readonly names: readonly string[];
  /** Calls of an answer at most. */
  readonly most: number;
  /** The grammar of an answer that has to be a call. */
  readonly grammar?: Grammar;
}

/** A schema within another one: its references to itself lead to its new place. */
function placedAt(schema: unknown, place: string): unknown {
  if (Array.isArray(schema)) return schema.map((item) => placedAt(item, place));
  if (!isObject(schema)) return schema;
  return Object.fromEntries(
    Object.entries(schema).map(([key, value]) => {
      const isReference = key === "$ref" && typeof value === "string" && value.startsWith("#");
      return [key, isReference ? `${place}${value.slice(1)}` : placedAt(value, place)];
    }),
  );
}

/** The grammar of a call of one of some tools. */
function callGrammar(tools: readonly Tool[]): Grammar {
  const parameters = tools.map(({ function: { parameters, strict } }) => {
    const schema = { type: "object", ...parameters };
    try {
      jsonSchemaGrammar(schema, "tools");
      return schema;
    } catch (error) {
      // As OpenAI has it, only strict functions are sure to get what their schema says.
      if (!(error instanceof ApiError) || strict) throw error;
      return { type: "object" };
    }
  });
  const $defs = Object.fromEntries(
    parameters.map((schema, i) => [`tool${i}`, placedAt(schema, `#/$defs/tool${i}`)]),
  );
  const anyOf = tools.map(({ function: { name } }, i) => ({
    type: "object",
    properties: { name: { const: name }, arguments: { $ref: `#/$defs/tool${i}` } },
    required: ["name", "arguments"],
  }));
  return jsonSchemaGrammar({ $defs, anyOf }, "tools");
}

/**
 * What a request asks of tools.
 *
 * @throws {ApiError} where it chooses a tool that there is not, or a strict one's schema can't be kept.
 */
export function toolUse({ tools, tool_choice, parallel_tool_calls }: ToolFields): ToolUse {
  const all = tools ?? [], most = parallel_tool_calls === false ? 1 : Infinity;
  const names = all.map(({ function: { name } }) => name);
  const isChosen = typeof tool_choice === "object" && tool_choice !== null;
  const chosen = isChosen ? [tool_choice.function.name] : names;
  const missing = chosen.find((name) => !names.includes(name));
  const isForced = isChosen || tool_choice === "required";
  if (missing !== undefined || (isForced && all.length === 0)) {
    const what = missing === undefined ? "there are no tools" : `there is no tool "${missing}"`;
    throw new ApiError(400, `tool_choice: ${what}; expected one of tools`, {
      param: "tool_choice",
      code: "invalid_value",
    });
  }
  if (all.length === 0 || tool_choice === "none") return { names: [], most };
  const json = JSON.stringify(all);
  if (!isForced) return { json, names, most };
  const callable = all.filter(({ function: { name } }) => chosen.includes(name));
  return { json, names, most: 1, grammar: callGrammar(callable) };
}

/** What stands around a call of Hermes' and Qwen's templates. */
const OPENING = "<tool_call>", CALL = /<tool_call>\s*([\s\S]*?)\s*<\/tool_call>/g;

/** Calls in JSON: one, or a list; undefined where it is something else. */
function readCalls(json: string, names: readonly string[]): ToolCall[] | undefined {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    return undefined;
  }
  const calls = (Array.isArray(value) ? value : [value]).map((call) => {
    const given = isObject(call) ? call.arguments ?? call.parameters : undefined;
    if (!isObject(call) || !names.includes(String(call.name)) || !isObject(given)) return undefined;
    const id = `call_${crypto.randomUUID().replaceAll("-", "").slice(0, 24)}`;
    const made = { name: String(call.name), arguments: JSON.stringify(given) };
    return { id, type: "function" as const, function: made };
  });
  return calls.length > 0 && calls.every((call) => call !== undefined) ? calls : undefined;
}

/**
 * Tells calls from text, as an answer is made. Calls are `<tool_call>` around JSON, as Hermes and Qwen write them, or an
 * answer of nothing but JSON, as Llama and Mistral do: an object, or a list of them, with `name` and `arguments` or `parameters`.
 */
export class ToolText {
  #pending = "";
  #told = false;

  constructor(readonly use: ToolUse) {}

  /** Takes more of the answer; returns what of it is text for sure. */
  push(text: string): string {
    this.#pending += text;
    const begun = this.#pending.trimStart();
    if (!this.#told && (begun === "" || /^[[{]/.test(begun))) return "";
    const opening = this.#pending.indexOf(OPENING);
    return this.#tell(
      opening >= 0 ? opening : this.#pending.length - partialOpening(this.#pending),
    );
  }

  /** What is left at the answer's end. */
  end(): { text: string; calls: ToolCall[] } {
    const { names, most } = this.use, rest = this.#pending;
    const whole = this.#told ? undefined : readCalls(rest.trim(), names);
    if (whole !== undefined) return { text: "", calls: whole.slice(0, most) };
    const calls: ToolCall[] = [];
    const text = rest.replace(CALL, (written, json) => {
      const read = readCalls(json, names);
      calls.push(...read ?? []);
      return read === undefined ? written : "";
    });
    return { text: calls.length > 0 ? text.trimEnd() : text, calls: calls.slice(0, most) };
  }

  #tell(length: number): string {
    const text = this.#pending.slice(0, length);
    this.#pending = this.#pending.slice(length);
    this.#told ||= text !== "";
    return text;
  }
}

/** Characters at a text's end that may begin a call. */
function partialOpening(text: string): number {
  for (let length = OPENING.length - 1; length > 0; length--) {
    if (text.endsWith(OPENING.slice(0, length))) return length;
  }
  return 0;
}
