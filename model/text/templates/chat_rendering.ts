/**
 * A model's own chat template, rendered as `transformers` does. It is loaded only where it is needed.
 *
 * @module
 */
import { UserError } from "../../../kernels/errors.ts";
import { type ChatTemplateSource, findChatTemplate } from "./chat_template.ts";
import { TemplateError } from "./jinja/errors.ts";
import { readJsonText } from "./jinja/json.ts";
import { Template } from "./jinja/template.ts";
import { Text } from "./jinja/text.ts";
import { Dict, List, text, typeName, type Value } from "./jinja/values.ts";
import type { Message } from "./messages.ts";

/** JSON as it is written, and what to call it in messages. */
export interface JsonText {
  json: string;
  name: string;
}

/** What a template is given beside the messages. */
export interface TemplateInputs {
  /** Where the tokenizer is, or its file. */
  folder?: string;
  /** A list of tools, as JSON schemas. */
  tools?: JsonText;
  /** An object of variables; `chat_template` is the name of the template to take. */
  variables?: JsonText;
}

/** A conversation as text, which knows what of it is quoted from messages. */
export type Rendering = Text;

function parse({ json, name }: JsonText): Value {
  try {
    return readJsonText(json);
  } catch (error) {
    if (!(error instanceof TemplateError)) throw error;
    throw new UserError(`${name}: is not JSON: ${error.message}`);
  }
}

/** The same value with all its texts quoted, but those that `isOwn` tells. */
function quote(value: Value, isOwn: (key: string) => boolean = () => false): Value {
  if (value instanceof Text) return Text.quote(value.value);
  if (value instanceof List) return new List(value.items.map((item) => quote(item)));
  if (!(value instanceof Dict)) return value;
  return new Dict(
    value.items().map(([key, item]) => {
      const own = key instanceof Text && isOwn(key.value) && item instanceof Text;
      return [quote(key), own ? item : quote(item)] as const;
    }),
  );
}

/** Parts of a content, and calls of tools: of what type each is, is no quotation. */
function quoteParts(value: Value): Value {
  if (!(value instanceof List)) return quote(value);
  return new List(value.items.map((part) => quote(part, (key) => key === "type")));
}

/**
 * A message as the template sees it. Templates make control tokens of roles and types, so these count as
 * the template's own words; all else is quoted.
 */
function toValue({ role, content, record }: Message): Dict {
  if (record === undefined) {
    const quoted = content === null ? null : Text.quote(content);
    return new Dict([[text("role"), text(role)], [text("content"), quoted]]);
  }
  return new Dict(
    record.items().map(([key, value]) => {
      const name = key instanceof Text ? key.value : "";
      if (name === "role") return [key, value] as const;
      const parts = name === "content" || name === "tool_calls";
      return [quote(key), parts ? quoteParts(value) : quote(value)] as const;
    }),
  );
}

function readTools(tools: JsonText): List {
  const value = parse(tools);
  if (!(value instanceof List)) {
    throw new UserError(`${tools.name}: is a ${typeName(value)}, expected a list of tools`);
  }
  const wrong = value.items.findIndex((tool) => !(tool instanceof Dict));
  if (wrong < 0) return value;
  throw new UserError(
    `${tools.name}: tool ${wrong + 1} is a ${typeName(value.items[wrong])}, expected an object ` +
      "with the JSON schema of a function",
  );
}

function readVariables(variables: JsonText): Map<string, Value> {
  const value = parse(variables);
  if (!(value instanceof Dict)) {
    throw new UserError(
      `${variables.name}: is a ${typeName(value)}, expected an object of variables`,
    );
  }
  const named = new Map(value.items().map(([key, item]) => [(key as Text).value, item]));
  for (const [name, flag] of [["messages", "--prompt or --messages"], ["tools", "--tools"]]) {
    if (!named.has(name)) continue;
    throw new UserError(`${variables.name}: has ${name}, which are given with ${flag}`);
  }
  return named;
}

/** Takes the name of a template out of the variables. */
function chosenName(named: Map<string, Value>, from: string): string | undefined {
  const value = named.get("chat_template");
  named.delete("chat_template");
  if (value === undefined || value === null) return undefined;
  if (value instanceof Text) return value.value;
  const is = `chat_template is a ${typeName(value)}`;
  throw new UserError(`${from}: ${is}, expected the name of one of the model's templates`);
}

function refused({ file }: ChatTemplateSource, error: unknown): unknown {
  if (!(error instanceof TemplateError)) return error;
  if (error.raised) {
    return new UserError(`${file}: the chat template refuses the conversation: ${error.message}`);
  }
  const line = error.line === undefined ? "" : `, line ${error.line}`;
  return new UserError(`${file}: the chat template${line}, can't be rendered: ${error.message}`);
}

/**
 * Reads the model's own template with what it is given.
 *
 * @param tokens Texts of the named control tokens; one that the tokenizer lacks is undefined in the template.
 * @param now What the time is, for templates that ask.
 * @returns what renders conversations up to where the assistant goes on.
 * @throws UserError where there is no template, or it is no Jinja, or the inputs are wrong; the function,
 *   where the template refuses the messages or fails.
 */
export function openChatTemplate(
  { folder, tools, variables }: TemplateInputs,
  tokens: ReadonlyMap<string, string>,
  now?: () => Date,
): (messages: readonly Message[]) => Rendering {
  const named = variables ? readVariables(variables) : new Map<string, Value>();
  const name = chosenName(named, variables?.name ?? "");
  const toolList = tools ? readTools(tools) : undefined;
  const source = findChatTemplate(folder, { name, tools: tools !== undefined });
  const documents = named.get("documents") ?? null;
  let template: Template;
  try {
    template = new Template(source.source);
  } catch (error) {
    throw refused(source, error);
  }
  return (messages) => {
    const given = new Map<string, Value>([
      ["tools", toolList ? quote(toolList) : null],
      ["add_generation_prompt", true],
      ...[...tokens].map(([name, token]) => [name, text(token)] as const),
      ...named,
      ["documents", quote(documents)],
      ["messages", new List(messages.map(toValue))],
    ]);
    try {
      return template.render(given, now);
    } catch (error) {
      throw refused(source, error);
    }
  };
}

/**
 * The messages of a conversation in JSON: a list of them, or an object with `messages`.
 *
 * @throws UserError that names the message which is none.
 */
export function readMessages(source: JsonText): Message[] {
  const value = parse(source), { name } = source;
  const list = value instanceof Dict && value.size === 1 ? value.text("messages") : value;
  if (!(list instanceof List)) {
    const keys = value instanceof Dict && value.size > 0
      ? ` with ${value.keys().map((key) => (key as Text).value).join(", ")}`
      : "";
    const is = `is a ${typeName(value)}${keys}`;
    throw new UserError(
      `${name}: ${is}, expected a list of messages, or an object with messages alone`,
    );
  }
  if (list.items.length === 0) throw new UserError(`${name}: has no message`);
  return list.items.map((record, i) => {
    const role = record instanceof Dict ? record.text("role") : undefined;
    if (!(record instanceof Dict) || !(role instanceof Text)) {
      const is = record instanceof Dict ? "has no role" : `is a ${typeName(record)}`;
      throw new UserError(
        `${name}: message ${i + 1} ${is}, expected an object with role and content`,
      );
    }
    const content = record.text("content");
    return { role: role.value, content: content instanceof Text ? content.value : null, record };
  });
}
