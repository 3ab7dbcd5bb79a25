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
import { str } from "./jinja/repr.ts";
import { type Origin, Text } from "./jinja/text.ts";
import { Dict, List, text, truth, typeName, type Value } from "./jinja/values.ts";
import type { Conversation, Message } from "./messages.ts";

/** JSON as it is written, and what to call it in messages. */
export interface JsonText {
  json: string;
  name: string;
}

/** What a template is given beside the messages. */
export interface TemplateInputs {
  /** Where the tokenizer is, or its file. */
  folder?: string;
  /** A template in place of the one that is there. */
  template?: ChatTemplateSource;
  /** A list of tools, as JSON schemas. */
  tools?: JsonText;
  /** Whether conversations have tools, of their own or these. Default: whether there are these. */
  hasTools?: boolean;
  /** An object of variables; `chat_template` is the name of the template to take. */
  variables?: JsonText;
  /** The same of whoever asks for one conversation: they come before the others, and their texts make no control tokens. */
  asked?: JsonText;
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
function quote(
  value: Value,
  origin: Origin,
  isOwn: (key: string) => boolean = () => false,
): Value {
  if (value instanceof Text) return Text.quote(value.value, origin);
  if (value instanceof List) return new List(value.items.map((item) => quote(item, origin)));
  if (!(value instanceof Dict)) return value;
  return new Dict(
    value.items().map(([key, item]) => {
      const own = key instanceof Text && isOwn(key.value) && item instanceof Text;
      return [quote(key, origin), own ? item : quote(item, origin)] as const;
    }),
  );
}

/** Parts of a content, and calls of tools: of what type each is, is no quotation. */
function quoteParts(value: Value, origin: Origin): Value {
  if (!(value instanceof List)) return quote(value, origin);
  return new List(value.items.map((part) => quote(part, origin, (key) => key === "type")));
}

/**
 * A message as the template sees it. Templates make control tokens of roles and types, so these count as
 * the template's own words; all else is quoted.
 */
function toValue({ role, content, record }: Message, number: number): Dict {
  const origin: Origin = { quoted: true, from: number };
  if (record === undefined) {
    const quoted = content === null ? null : Text.quote(content, origin);
    return new Dict([[text("role"), text(role)], [text("content"), quoted]]);
  }
  return new Dict(
    record.items().map(([key, value]) => {
      const name = key instanceof Text ? key.value : "";
      if (name === "role") return [key, value] as const;
      const parts = name === "content" || name === "tool_calls";
      const quoted = parts ? quoteParts(value, origin) : quote(value, origin);
      return [quote(key, origin), quoted] as const;
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

/** Whether a template says what the model makes, as `transformers` tells it. */
const GENERATION = /\{%-?\s*generation\s*-?%\}/;

/** Renders a conversation: its first messages, and what asks the assistant to go on if that is wanted. */
export type RenderConversation = (messages: number, asks: boolean) => Rendering;

/** A template that was read, with what it is given beside conversations. */
export class OpenChatTemplate {
  /** Whether it says by `generation` what of a conversation the model makes. */
  readonly saysGenerated: boolean;
  readonly #template: Template;

  /**
   * @param source The template, and what to call it in messages.
   * @param given Variables of every conversation by name.
   * @param now What the time is, for templates that ask.
   * @throws UserError where it is no Jinja.
   */
  constructor(
    readonly source: ChatTemplateSource,
    readonly given: ReadonlyMap<string, Value>,
    readonly now?: () => Date,
  ) {
    this.saysGenerated = GENERATION.test(source.source);
    try {
      this.#template = new Template(source.source);
    } catch (error) {
      throw refused(source, error);
    }
  }

  /**
   * A conversation to be rendered. Tools and variables of its own come before those of every one.
   *
   * @returns what throws a UserError where the template refuses the messages or fails.
   */
  conversation({ messages, tools, variables }: Conversation): RenderConversation {
    const values = messages.map(toValue), numbers = new Map<Value, number>();
    values.forEach((value, i) => numbers.set(value, i));
    const own = variables?.items().map(([name, value]) => [str(name).value, value] as const) ?? [];
    const given = new Map<string, Value>([...this.given, ...own]);
    if (tools !== undefined) given.set("tools", quote(tools, { quoted: true }));
    return (count, asks) => {
      given.set("messages", new List(values.slice(0, count)));
      given.set("add_generation_prompt", asks);
      try {
        return this.#template.render(given, this.now, numbers);
      } catch (error) {
        throw refused(this.source, error);
      }
    };
  }

  /** A conversation, up to where the assistant goes on unless a variable says otherwise. */
  render(messages: readonly Message[]): Rendering {
    const asks = this.given.get("add_generation_prompt") ?? true;
    return this.conversation({ messages })(messages.length, truth(asks));
  }
}

/**
 * Reads the model's own template, or the one given, with what it is given beside conversations.
 *
 * @param tokens Texts of the named control tokens; one that the tokenizer lacks is undefined in the template.
 * @param now What the time is, for templates that ask.
 * @throws UserError where there is no template, or it is no Jinja, or the inputs are wrong.
 */
export function openChatTemplate(
  { folder, template, tools, hasTools = tools !== undefined, variables, asked }: TemplateInputs,
  tokens: ReadonlyMap<string, string>,
  now?: () => Date,
): OpenChatTemplate {
  const named = variables ? readVariables(variables) : new Map<string, Value>();
  const own = asked ? readVariables(asked) : new Map<string, Value>();
  const usual = chosenName(named, variables?.name ?? "");
  const name = chosenName(own, asked?.name ?? "") ?? usual;
  const toolList = tools ? readTools(tools) : undefined;
  const source = template ?? findChatTemplate(folder, { name, tools: hasTools });
  const quoted: Origin = { quoted: true };
  for (const [name, value] of own) named.set(name, quote(value, quoted));
  const given = new Map<string, Value>([
    ["tools", toolList ? quote(toolList, quoted) : null],
    ...[...tokens].map(([name, token]) => [name, text(token)] as const),
    ...named,
    ["documents", quote(named.get("documents") ?? null, quoted)],
  ]);
  return new OpenChatTemplate(source, given, now);
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
