/**
 * Messages whose content is in parts, and what else of them is to be written otherwise.
 *
 * @module
 */
import { Text } from "./jinja/text.ts";
import { Dict, List, text, type Value } from "./jinja/values.ts";
import type { Message } from "./messages.ts";

/** The texts of a content's parts; undefined where it has none, or others. */
function textParts(content: Value | undefined): string[] | undefined {
  if (!(content instanceof List)) return undefined;
  const texts = content.items.map((part) => part instanceof Dict ? part.text("text") : part);
  return texts.every((part) => part instanceof Text) ? texts.map(({ value }) => value) : undefined;
}

/** A message with all its fields. */
function recordOf({ role, content, record }: Message): Dict {
  if (record !== undefined) return record;
  const said = content === null ? null : text(content);
  return new Dict([[text("role"), text(role)], [text("content"), said]]);
}

/** A message with another value of a field. */
export function changed(message: Message, name: string, value: Value): Message {
  const record = new Dict([...recordOf(message).items(), [text(name), value]]);
  const content = name === "content" ? value instanceof Text ? value.value : null : message.content;
  const role = name === "role" && value instanceof Text ? value.value : message.role;
  return { role, content, record };
}

/** A message whose parts of text are one text, a line each, as servers join them. */
export function joinedParts(message: Message): Message {
  const texts = textParts(message.record?.text("content"));
  return texts === undefined ? message : changed(message, "content", text(texts.join("\n")));
}

/** The calls of tools in a message. */
export function callsOf({ record }: Message): readonly Value[] {
  const calls = record?.text("tool_calls");
  return calls instanceof List ? calls.items : [];
}

/** Names of the functions that a message calls. */
export function calledNames(message: Message): string[] {
  return callsOf(message).flatMap((call) => {
    const inner = call instanceof Dict ? call.text("function") ?? call : undefined;
    const name = inner instanceof Dict ? inner.text("name") : undefined;
    return name instanceof Text ? [name.value] : [];
  });
}
