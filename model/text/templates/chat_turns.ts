/**
 * Conversations as token ids with those of the assistant's messages, by a template in Jinja. It is loaded only where it
 * is needed.
 *
 * @module
 */
import { UserError } from "../../../kernels/errors.ts";
import type { Span } from "../targets.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { templateIds } from "../tokenizer/vocabulary_check.ts";
import { type OpenChatTemplate, openChatTemplate, type TemplateInputs } from "./chat_rendering.ts";
import { TemplateHabits } from "./habits.ts";
import { Text } from "./jinja/text.ts";
import { calledNames } from "./message_parts.ts";
import type { Conversation, Message } from "./messages.ts";
import { tokenSpans } from "./token_spans.ts";
import { turnsOf } from "./turns.ts";

/** What of a conversation is asked for. */
export interface WantedTurns {
  /** Numbers of messages by the assistant. */
  answers: readonly number[];
  /** With all that follows, from where the first of them begins. */
  andRest: boolean;
}

/** A conversation as ids, with those that were asked for. */
export interface EncodedConversation {
  ids: number[];
  targets: Span[];
}

const isAssistant = ({ role }: Message) => role === "assistant";

/** What of each message was written. */
function writtenOf(whole: Text): Map<number, string> {
  const written = new Map<number, string>();
  for (const { start, end, origin: { quoted, from } } of whole.runs) {
    if (!quoted || from === undefined) continue;
    written.set(from, (written.get(from) ?? "") + whole.value.slice(start, end));
  }
  return written;
}

/** What of a conversation may go lost without it being refused. */
type Lost = "system message" | "tools" | "thinking";

/** Fields of what was thought before a message. */
const THINKING = ["reasoning_content", "reasoning", "thinking"];

/** What the template leaves out that people may miss: templates drop system texts and thinking on purpose, too. */
function lostOf(
  { messages, tools }: Conversation,
  whole: Text,
  { answers, written }: { answers: readonly number[]; written: ReadonlyMap<number, string> },
): Lost[] {
  const lost = new Set<Lost>();
  for (const [i, { role, content }] of messages.entries()) {
    if (role === "system" && content?.trim() && !written.has(i)) lost.add("system message");
  }
  // What is quoted from no message is from the tools.
  const toolsWritten = whole.runs.some(({ origin: { quoted, from } }) =>
    quoted && from === undefined
  );
  if (tools !== undefined && !toolsWritten) lost.add("tools");
  for (const i of answers) {
    const thoughts = THINKING.map((name) => messages[i].record?.text(name));
    const gone = thoughts.some((thought) =>
      thought instanceof Text && !written.get(i)?.includes(thought.value.trim())
    );
    if (gone) lost.add("thinking");
  }
  return [...lost];
}

/** @throws UserError where the template leaves out what a user, a tool or a call says. */
function checkWritten(
  { messages }: Conversation,
  written: ReadonlyMap<number, string>,
  { answers, file }: { answers: readonly number[]; file: string },
): void {
  for (const [i, { role, content }] of messages.entries()) {
    const needed = role !== "system" && role !== "assistant" && content?.trim();
    if (!needed || written.has(i)) continue;
    throw new UserError(
      `message ${i + 1} is by "${role}", and ${file} writes nothing of it; expected a chat ` +
        "template that knows this role",
    );
  }
  for (const i of answers) {
    const missing = calledNames(messages[i]).find((name) => !written.get(i)?.includes(name));
    if (missing === undefined) continue;
    throw new UserError(
      `message ${i + 1} calls the tool ${JSON.stringify(missing)}, and ${file} does not write ` +
        "that; expected a chat template that writes tool calls",
    );
  }
}

/** Encodes conversations by one template. */
export class ChatTurnEncoder {
  readonly #opened = new Map<boolean, { template: OpenChatTemplate; habits: TemplateHabits }>();
  readonly #now: () => Date;
  readonly #control: ReadonlySet<number>;
  readonly #lost = new Map<Lost, number>();

  /**
   * @param now What the time is for all conversations.
   * @throws UserError where there is no template, or it is no Jinja, or the inputs are wrong.
   */
  constructor(readonly tokenizer: Tokenizer, readonly inputs: TemplateInputs, now: Date) {
    this.#now = () => now;
    this.#control = new Set(tokenizer.special_tokens.values());
    this.#open(false);
  }

  /** Lines on what the template left out of conversations. */
  get notes(): string[] {
    return [...this.#lost].map(([lost, count]) =>
      `The chat template writes nothing of the ${lost} of ${count} ${
        count === 1 ? "sample" : "samples"
      }`
    );
  }

  /** The model may have a template of its own for conversations with tools. */
  #open(tools: boolean): { template: OpenChatTemplate; habits: TemplateHabits } {
    let opened = this.#opened.get(tools);
    if (opened === undefined) {
      const { named_tokens } = this.tokenizer;
      const template = openChatTemplate(
        { ...this.inputs, hasTools: tools },
        named_tokens,
        this.#now,
      );
      opened = { template, habits: new TemplateHabits(template) };
      this.#opened.set(tools, opened);
    }
    return opened;
  }

  /** The ids of a conversation that the assistant is to continue. @throws UserError where the template refuses it. */
  prompt(conversation: Conversation): number[] {
    const { template, habits } = this.#open(conversation.tools !== undefined);
    const messages = conversation.messages.map((message, i) => habits.adapt(message, i));
    const text = template.conversation({ ...conversation, messages })(messages.length, true);
    const ids = this.tokenizer.encodeSpecial(text.value, (start, end) => text.isQuoted(start, end));
    return templateIds(this.tokenizer, ids);
  }

  /**
   * A conversation with what is wanted of it.
   *
   * @throws UserError where the template refuses it, leaves something out, or does not tell what the assistant makes.
   */
  encode(conversation: Conversation, { answers, andRest }: WantedTurns): EncodedConversation {
    const { template, habits } = this.#open(conversation.tools !== undefined);
    const messages = conversation.messages.map((message, i) => habits.adapt(message, i));
    const adapted = { ...conversation, messages }, count = messages.length;
    const render = template.conversation(adapted), whole = render(count, false);
    const { source: { file }, saysGenerated } = template;
    const written = writtenOf(whole);
    checkWritten(adapted, written, { answers, file });
    for (const lost of lostOf(adapted, whole, { answers, written })) {
      this.#lost.set(lost, (this.#lost.get(lost) ?? 0) + 1);
    }
    const assistants = messages.flatMap((message, i) => isAssistant(message) ? [i] : []);
    const sections = this.tokenizer.encodeSections(
      whole.value,
      (start, end) => whole.isQuoted(start, end),
    );
    const edges = new Set(sections.map(({ end }) => end));
    const rendered = { whole, render, count, assistants, edges };
    const turns = turnsOf(rendered, answers, { saysGenerated, file });
    const own = sections.flatMap(({ ids }) => ids);
    const ids = templateIds(this.tokenizer, own);
    // What was put before the template's ids, or taken from them.
    const shift = ids.length - own.length, end = whole.value.length;
    const wanted = andRest && turns.length > 0 ? [{ ...turns[0], end }] : turns;
    const targets = tokenSpans(sections, wanted, true)
      .map(([begin, end]): Span => [begin + shift, end + shift]);
    const [begin, stop] = targets.at(-1) ?? [0, 0];
    const endless = stop === ids.length && !saysGenerated && isAssistant(messages[count - 1]) &&
      !ids.slice(begin).some((id) => this.#control.has(id));
    if (!endless) return { ids, targets };
    // The template marks no end of a turn: the model would go on for ever.
    return {
      ids: [...ids, this.tokenizer.eos_id],
      targets: [...targets.slice(0, -1), [begin, stop + 1]],
    };
  }
}
