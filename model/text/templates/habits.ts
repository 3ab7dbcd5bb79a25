/**
 * What a chat template makes of messages that may be written in several ways, found by rendering small conversations; and
 * messages in the way that it understands.
 *
 * @module
 */
import { UserError } from "../../../kernels/errors.ts";
import type { OpenChatTemplate } from "./chat_rendering.ts";
import { TemplateError } from "./jinja/errors.ts";
import { JSON_STYLE, readJsonText, writeJsonText } from "./jinja/json.ts";
import { Dict, List, text, type Value } from "./jinja/values.ts";
import { Text } from "./jinja/text.ts";
import { changed, joinedParts } from "./message_parts.ts";
import type { Message } from "./messages.ts";

/** How contents are to be written: as they are, as text, or as parts. */
type ContentForm = "as given" | "text" | "parts";

/** How the arguments of a tool call are to be written: as they are, as an object, or as its JSON text. */
type ArgumentsForm = "as given" | "object" | "text";

const dict = (fields: Record<string, Value>) =>
  new Dict(Object.entries(fields).map(([name, value]) => [text(name), value] as const));

const withContent = (role: string, content: Value): Message => ({
  role,
  content: content instanceof Text ? content.value : null,
  record: dict({ role: text(role), content }),
});

/** A message that calls a tool. */
function calling(content: Value, given: Value): Message {
  const call = dict({
    id: text("abcdefghi"),
    type: text("function"),
    function: dict({ name: text("f"), arguments: given }),
  });
  const record = dict({ role: text("assistant"), content, tool_calls: new List([call]) });
  return { role: "assistant", content: content instanceof Text ? content.value : null, record };
}

const parts = (value: string) => new List([dict({ type: text("text"), text: text(value) })]);

/** The way of a template with messages; each is found when the first message needs it. */
export class TemplateHabits {
  #content: ContentForm | undefined;
  #takesDeveloper: boolean | undefined;
  #arguments: ArgumentsForm | undefined;
  #takesNoContent: boolean | undefined;

  constructor(readonly template: OpenChatTemplate) {}

  /** What the template writes; undefined where it fails. */
  #try(...messages: Message[]) {
    try {
      return this.template.conversation({ messages })(messages.length, false);
    } catch (error) {
      if (error instanceof UserError) return undefined;
      throw error;
    }
  }

  /** What it takes for contents: texts or parts alike, or one of them. */
  get content(): ContentForm {
    if (this.#content !== undefined) return this.#content;
    const written = (of: (value: string) => Value) =>
      this.#try(withContent("user", of("a")), withContent("assistant", of("b")));
    const given = written(parts), plain = written(text);
    const says = (written: typeof given) =>
      written?.runs.some(({ origin }) => origin.from === 0) ?? false;
    if (given !== undefined && given.value === plain?.value) return this.#content = "as given";
    return this.#content = says(given) && !says(plain) ? "parts" : "text";
  }

  /** Whether it writes messages of this role. */
  get takesDeveloper(): boolean {
    if (this.#takesDeveloper !== undefined) return this.#takesDeveloper;
    const written = this.#try(
      withContent("developer", text("a")),
      withContent("user", text("b")),
    );
    return this.#takesDeveloper = written?.runs.some(({ origin }) => origin.from === 0) ?? false;
  }

  /** What it takes for the arguments of a call: who writes `{'x': 'y'}` of an object wants its JSON text. */
  get arguments(): ArgumentsForm {
    if (this.#arguments !== undefined) return this.#arguments;
    const written = (value: Value) =>
      this.#try(withContent("user", text("a")), calling(text(""), value))?.value;
    const object = written(dict({ x: text("y") })), json = written(text('{"x": "y"}'));
    if (object === json) return this.#arguments = "as given";
    const wantsText = object === undefined || object.includes("{'x': 'y'}");
    return this.#arguments = wantsText ? "text" : "object";
  }

  /** Whether it takes a call without a content: who fails, or writes `None`, wants an empty one. */
  get takesNoContent(): boolean {
    if (this.#takesNoContent !== undefined) return this.#takesNoContent;
    const given = this.arguments === "text" ? text("{}") : new Dict();
    const written = (content: Value) =>
      this.#try(withContent("user", text("a")), calling(content, given))?.value;
    const none = written(null), empty = written(this.#emptyContent);
    const wantsEmpty = empty !== undefined && none !== empty && (none?.includes("None") ?? true);
    return this.#takesNoContent = !wantsEmpty;
  }

  get #emptyContent(): Value {
    return this.content === "parts" ? new List([]) : text("");
  }

  /** A tool call as the template understands it. @param which What to call it in messages. */
  #call(call: Value, which: string): Value {
    if (!(call instanceof Dict)) return call;
    const inner = call.text("function");
    if (inner instanceof Dict) {
      return new Dict([...call.items(), [text("function"), this.#call(inner, which)]]);
    }
    const given = call.text("arguments");
    if (given === undefined) return call;
    return new Dict([...call.items(), [text("arguments"), this.#argumentsOf(given, which)]]);
  }

  #argumentsOf(given: Value, which: string): Value {
    if (given instanceof Dict && this.arguments === "text") return writeJsonText(given, JSON_STYLE);
    if (!(given instanceof Text) || this.arguments !== "object") return given;
    if (given.value.trim() === "") return new Dict();
    try {
      const value = readJsonText(given.value);
      if (value instanceof Dict) return value;
    } catch (error) {
      if (!(error instanceof TemplateError)) throw error;
    }
    throw new UserError(`${which}: its arguments are text; expected a JSON object`);
  }

  /**
   * A message as the template understands it.
   *
   * @param number Its number in the conversation.
   * @throws {UserError} where the arguments of a call are no JSON object, and the template needs one.
   */
  adapt(message: Message, number: number): Message {
    let adapted = message;
    if (message.role === "developer" && !this.takesDeveloper) {
      adapted = changed(adapted, "role", text("system"));
    }
    const { content } = adapted;
    if (content === null && this.content === "text") adapted = joinedParts(adapted);
    else if (content !== null && this.content === "parts") {
      adapted = changed(adapted, "content", parts(content));
    }
    const calls = message.record?.text("tool_calls");
    if (!(calls instanceof List)) return adapted;
    const said = adapted.record?.text("content") ?? null;
    if (said === null && !this.takesNoContent) {
      adapted = changed(adapted, "content", this.#emptyContent);
    }
    const which = `message ${number + 1}, tool call`;
    const understood = calls.items.map((call, i) => this.#call(call, `${which} ${i + 1}`));
    return changed(adapted, "tool_calls", new List(understood));
  }
}
