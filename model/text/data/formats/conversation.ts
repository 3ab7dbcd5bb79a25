/**
 * Conversations of rows: messages as OpenAI has them (`role`, `content`) or ShareGPT (`from`, `value`), with the tools and
 * variables that stand beside them.
 *
 * @module
 */
import { UserError } from "../../../../kernels/errors.ts";
import { TemplateError } from "../../templates/jinja/errors.ts";
import { JSON_STYLE, readJsonText, writeJsonText } from "../../templates/jinja/json.ts";
import { Text } from "../../templates/jinja/text.ts";
import { Dict, List, text, type Value as TemplateValue } from "../../templates/jinja/values.ts";
import type { Message } from "../../templates/messages.ts";
import type { ChatSample } from "../../sample.ts";
import { asText, type Fields, isFields, kindOf, Literal, parseValue, type Value } from "../row.ts";
import type { RowFields } from "./row_fields.ts";

/** Who speaks, by other names. */
const ROLES: Readonly<Record<string, string>> = {
  human: "user",
  prompter: "user",
  gpt: "assistant",
  chatgpt: "assistant",
  bing: "assistant",
  bard: "assistant",
  bot: "assistant",
  model: "assistant",
  ai: "assistant",
  function: "tool",
  function_response: "tool",
  observation: "tool",
};

/** Who calls a function, in the value of a message. */
const CALLER = "function_call";

/** Fields of messages that are read here; a template gets the others as they are. */
const OWN_FIELDS = new Set([
  "role",
  "from",
  "content",
  "value",
  "tool_calls",
  "function_call",
  "weight",
]);

/** Fields of what was thought before a message. */
const THINKING = ["reasoning_content", "reasoning", "thinking"];

/** A value of a row as templates have it. */
export function templateValue(value: Value): TemplateValue {
  if (value === null) return null;
  if (typeof value === "string") return text(value);
  if (value instanceof Literal) return readJsonText(value.source);
  if (Array.isArray(value)) return new List(value.map(templateValue));
  return new Dict(
    Object.entries(value).map(([name, inner]) => [text(name), templateValue(inner)] as const),
  );
}

/** A value, or what it is the JSON text of. @throws {TemplateError} where it is no JSON. */
function parsed(value: Value): TemplateValue {
  return typeof value === "string" ? readJsonText(value) : templateValue(value);
}

/** Reads the messages of one row. */
class MessageReader {
  constructor(readonly row: RowFields, readonly field: string) {}

  refusal(number: number, fault: string): UserError {
    return this.row.refusal(`${this.field}, message ${number + 1}: ${fault}`);
  }

  /** A content's parts, of which all are texts. */
  #parts(parts: readonly Value[], number: number): Value[] {
    return parts.map((part) => {
      if (typeof part === "string") return { type: "text", text: part };
      const type = isFields(part) ? part.type ?? "text" : undefined;
      if (isFields(part) && type === "text" && typeof part.text === "string") {
        return { type, text: part.text };
      }
      const is = typeof type === "string"
        ? `of type ${JSON.stringify(type)}`
        : `which is ${kindOf(part)}`;
      throw this.refusal(number, `its content has a part ${is}; expected parts of text`);
    });
  }

  /** Text, parts of text, null, or undefined where there is none. */
  #content(fields: Fields, role: string, number: number): Value | undefined {
    const name = ["content", "value"].find((name) => Object.hasOwn(fields, name));
    if (name === undefined) return undefined;
    const content = fields[name];
    if (content === null) return null;
    const written = asText(content);
    if (written !== undefined) return written;
    // What a tool gives back is often JSON.
    if (role === "tool" && (isFields(content) || !this.#hasParts(content))) {
      return writeJsonText(templateValue(content), JSON_STYLE).value;
    }
    if (Array.isArray(content)) return this.#parts(content, number);
    throw this.refusal(
      number,
      `its ${name} is ${kindOf(content)}; expected text or a list of parts`,
    );
  }

  #hasParts(content: Value): boolean {
    return Array.isArray(content) && content.every((part) => isFields(part) && "type" in part);
  }

  /** Calls of tools, also in the words of OpenAI's older functions and of ShareGPT. */
  #calls(fields: Fields, role: string, number: number): TemplateValue {
    const call = fields.function_call ?? null;
    const calls = role === CALLER ? fields.value ?? fields.content ?? null : call;
    if (calls === null) {
      const given = fields.tool_calls ?? null;
      if (given === null || Array.isArray(given) && given.every(isFields)) {
        return templateValue(given);
      }
      throw this.refusal(number, `its tool_calls are ${kindOf(given)}; expected a list of calls`);
    }
    let value: TemplateValue;
    try {
      value = parsed(calls);
    } catch (error) {
      if (!(error instanceof TemplateError)) throw error;
      throw this.refusal(number, `its function call is not JSON; expected name and arguments`);
    }
    const list = value instanceof List ? value.items : [value];
    return new List(list.map((call) => {
      if (!(call instanceof Dict) || call.text("name") === undefined) {
        throw this.refusal(number, "its function call has no name; expected name and arguments");
      }
      return new Dict([[text("type"), text("function")], [text("function"), call]]);
    }));
  }

  /** Whether a message is learnt: OpenAI's `weight` is 0 where it is not. */
  #isLearnt({ weight = null }: Fields, number: number): boolean {
    const written = asText(weight);
    if (weight === null || Number(written) === 1) return true;
    if (written !== undefined && written.trim() !== "" && Number(written) === 0) return false;
    throw this.refusal(number, `its weight is ${written ?? kindOf(weight)}; expected 0 or 1`);
  }

  /** A message, whether it may be learnt, and whether it says nothing. */
  read(value: Value, number: number): { message: Message; learnt: boolean; blank: boolean } {
    if (!isFields(value)) {
      throw this.refusal(
        number,
        `it is ${kindOf(value)}; expected an object with role and content`,
      );
    }
    const by = value.role ?? value.from ?? null;
    if (typeof by !== "string" || by.trim() === "") {
      const fault = by === null ? "it has no role" : `its role is ${kindOf(by)}`;
      throw this.refusal(number, `${fault}; expected user, assistant, system or tool`);
    }
    const spoken = by === CALLER ? "assistant" : by.trim();
    const role = Object.hasOwn(ROLES, spoken.toLowerCase()) ? ROLES[spoken.toLowerCase()] : spoken;
    const content = by === CALLER ? "" : this.#content(value, role, number);
    const calls = this.#calls(value, by, number),
      hasCalls = calls instanceof List && calls.items.length > 0;
    const learnt = this.#isLearnt(value, number);
    const record = new Dict([[text("role"), text(role)]]);
    if (content !== undefined) record.set(text("content"), templateValue(content));
    if (hasCalls) record.set(text("tool_calls"), calls);
    for (const [name, inner] of Object.entries(value)) {
      // Tables write what a message has not as null.
      if (!OWN_FIELDS.has(name) && inner !== null) record.set(text(name), templateValue(inner));
    }
    const written = typeof content === "string" ? content : null;
    const says = Array.isArray(content) ? content.length > 0 : (written ?? "").trim() !== "";
    const something = says || hasCalls || THINKING.some((name) => (value[name] ?? "") !== "");
    if (!something && (content ?? null) === null) {
      throw this.refusal(number, "it has no content; expected text");
    }
    return { message: { role, content: written, record }, learnt, blank: !something };
  }
}

/** What is read of a list of messages. */
export interface ReadMessages {
  messages: Message[];
  /** Numbers of those by the assistant that may be learnt, and which of them say nothing. */
  answers: number[];
  blank: ReadonlySet<number>;
}

/**
 * The messages under a field of a row.
 *
 * @throws {UserError} where it is no list of messages, or one of them is none; names the row and the message.
 */
export function readMessages(row: RowFields, field: string): ReadMessages {
  let value = row.value(field);
  if (typeof value === "string") {
    // Tables have no lists but those written as JSON.
    try {
      value = parseValue(value);
    } catch {
      // Text that is no list: refused below.
    }
  }
  if (!Array.isArray(value)) {
    throw row.refusal(`${field} is ${kindOf(value)}; expected a list of messages`);
  }
  if (value.length === 0) throw row.refusal(`${field} has no message; expected at least one`);
  const reader = new MessageReader(row, field);
  const read = value.map((message, i) => reader.read(message, i));
  const answers = read.flatMap(({ message, learnt }, i) =>
    learnt && message.role === "assistant" ? [i] : []
  );
  return {
    messages: read.map(({ message }) => message),
    answers,
    blank: new Set(answers.filter((number) => read[number].blank)),
  };
}

/** A value that a row may hold as it is or as JSON text; undefined where it has none. */
function jsonValue(row: RowFields, field: string): TemplateValue | undefined {
  const value = row.value(field);
  if (value === null || typeof value === "string" && value.trim() === "") return undefined;
  try {
    return parsed(value);
  } catch (error) {
    if (!(error instanceof TemplateError)) throw error;
    throw row.refusal(`${field} is text that is no JSON (${error.message})`);
  }
}

/** Tools in the column `tools`: a list of schemas, of which each may be JSON text. */
function toolsOf(row: RowFields): List | undefined {
  const value = jsonValue(row, "tools");
  if (value === undefined || value === null) return undefined;
  const expected = "expected a list of JSON schemas";
  if (!(value instanceof List)) throw row.refusal(`tools is no list; ${expected}`);
  if (value.items.length === 0) return undefined;
  return new List(value.items.map((item, i) => {
    let tool = item;
    try {
      if (item instanceof Text) tool = readJsonText(item.value);
    } catch (error) {
      if (!(error instanceof TemplateError)) throw error;
    }
    if (tool instanceof Dict) return tool;
    throw row.refusal(`tools, tool ${i + 1}: it is no object; ${expected}`);
  }));
}

/** Variables of the template in the column `chat_template_kwargs`. */
function variablesOf(row: RowFields): Dict | undefined {
  const value = jsonValue(row, "chat_template_kwargs");
  if (value === undefined || value === null) return undefined;
  if (value instanceof Dict) return value;
  throw row.refusal("chat_template_kwargs is no object; expected variables of the chat template");
}

/**
 * A row's messages as a sample, with what stands beside them in the row.
 *
 * @param prompt So many messages are only read.
 */
export function chatSample(
  row: RowFields,
  { messages, answers, blank }: ReadMessages,
  prompt = 0,
): ChatSample {
  const system = row.text("system"), adds = system.trim() !== "" && messages[0].role !== "system";
  const shift = (number: number) => adds ? number + 1 : number;
  return {
    messages: adds ? [{ role: "system", content: system }, ...messages] : messages,
    answers: answers.map(shift),
    blank: new Set(Array.from(blank, shift)),
    prompt: prompt === 0 ? 0 : shift(prompt),
    tools: toolsOf(row),
    variables: variablesOf(row),
    where: row.where,
  };
}
