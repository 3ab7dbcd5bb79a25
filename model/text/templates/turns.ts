/**
 * Which characters of a rendered conversation the assistant makes: from where the template asks it to go on, to the end
 * of what the template writes for its message. Where the template says it itself (`generation`), what it says.
 *
 * @module
 */
import type { RenderConversation } from "./chat_rendering.ts";
import type { Origin, Text } from "./jinja/text.ts";
import { UserError } from "../../../kernels/errors.ts";
import type { TextRange } from "../prompt.ts";

/** Why it can't be told what the assistant makes. */
export class UnknownTurn extends Error {}

/** A conversation as its template writes it. */
export interface RenderedConversation {
  /** All of it, the assistant not asked to go on. */
  whole: Text;
  render: RenderConversation;
  /** How many messages there are. */
  count: number;
  /** Numbers of those by the assistant. */
  assistants: readonly number[];
  /** Where control tokens begin and end in all of it. */
  edges: ReadonlySet<number>;
}

/** All that is between the first and the last of these characters; undefined where there is none. */
function extent(text: Text, is: (origin: Origin) => boolean): TextRange | undefined {
  const runs = text.runs.filter(({ origin }) => is(origin));
  const last = runs.at(-1);
  return last && { start: runs[0].start, end: last.end };
}

/** What was written during a message's turn of a loop, if nothing of another's is between it. */
function writtenDuring(text: Text, message: number): TextRange | undefined {
  const range = extent(text, ({ during }) => during === message);
  const others = range &&
    text.runs.some(({ start, end, origin: { during } }) =>
      during !== undefined && during !== message && range.start < end && start < range.end
    );
  return others ? undefined : range;
}

/** How many characters two texts have in common, from these places on. */
function inCommon(a: string, from: number, b: string, at: number): number {
  let length = 0;
  while (from + length < a.length && a[from + length] === b[at + length]) length++;
  return length;
}

/** What of the messages before one was written last. */
function lastBefore(text: Text, message: number, before: number) {
  return text.runs.findLast(({ end, origin: { quoted, from = message } }) =>
    quoted && from < message && end <= before
  );
}

/** The text up to where the assistant is asked for a message; undefined where the template refuses to write it. */
function asked({ render }: RenderedConversation, message: number): Text | undefined {
  try {
    return render(message, true);
  } catch (error) {
    if (error instanceof UserError) return undefined;
    throw error;
  }
}

/**
 * Where a message begins that is written during `own`, by what asks for one after it: some templates can't write a
 * conversation without a message, or one that ends with the system's.
 */
function beginByNext(
  { whole, render }: RenderedConversation,
  message: number,
  own: TextRange | undefined,
): number | undefined {
  const without = render(message + 1, false).value, asking = render(message + 1, true).value;
  const prompt = asking.slice(without.length);
  if (own === undefined || !asking.startsWith(without)) return undefined;
  return whole.value.startsWith(prompt, own.start) ? own.start + prompt.length : undefined;
}

/**
 * Where an answer begins of whose prompt only the beginning is there: characters that the answer and the rest of the
 * prompt happen to share are not the prompt's.
 */
function wholePart(
  { whole, edges }: RenderedConversation,
  { start, end }: TextRange,
): number {
  let at = end;
  while (at > start && whole.value[at - 1] !== "\n" && !edges.has(at)) at--;
  return at > start ? at : end;
}

/**
 * Where a message of the assistant begins: after what the template writes to ask for it. Earlier messages may look
 * otherwise there than in the whole conversation, so what follows the last of them is compared. Undefined where it is not
 * the same.
 */
function beginAfterPrompt(
  conversation: RenderedConversation,
  message: number,
  own: TextRange | undefined,
): number | undefined {
  const { whole } = conversation, prompt = asked(conversation, message);
  if (prompt === undefined) return beginByNext(conversation, message, own);
  if (whole.value.startsWith(prompt.value)) return prompt.value.length;
  const content = extent(whole, ({ from }) => from === message)?.start ?? Infinity;
  const here = lastBefore(whole, message, Math.min(own?.start ?? Infinity, content));
  const there = lastBefore(prompt, message, Infinity);
  if (here === undefined || there === undefined) return undefined;
  if (here.origin.from !== there.origin.from) return undefined;
  const length = inCommon(whole.value, here.end, prompt.value, there.end);
  const start = here.end + length;
  if (there.end + length === prompt.value.length) return start;
  // The template may drop what it lets answers begin with, such as thinking.
  if (own === undefined || start < own.start) return undefined;
  return start >= content ? content : wholePart(conversation, { start: own.start, end: start });
}

/** Where a message begins: if that can't be seen at its place, after what another of the assistant's begins with. */
function beginOf(
  conversation: RenderedConversation,
  message: number,
  own: TextRange | undefined,
): number {
  const found = beginAfterPrompt(conversation, message, own);
  if (found !== undefined) return found;
  const { whole, assistants } = conversation;
  for (const other of own === undefined ? [] : assistants.filter((other) => other !== message)) {
    const there = writtenDuring(whole, other);
    const begin = there && beginAfterPrompt(conversation, other, there);
    if (own === undefined || there === undefined || begin === undefined || begin < there.start) {
      continue;
    }
    const header = whole.value.slice(there.start, begin);
    if (whole.value.startsWith(header, own.start)) return own.start + header.length;
  }
  throw new UnknownTurn(
    "what precedes it there is not what the template writes to ask the assistant for it",
  );
}

/** Where a message ends that is not the last, by what the template writes after it if it is. */
function endByLast(
  { whole, render }: RenderedConversation,
  message: number,
  begin: number,
): number {
  const alone = render(message + 1, false);
  const last = (text: Text) => extent(text, ({ quoted, from }) => quoted && from === message);
  const here = last(whole)?.end ?? begin, there = last(alone)?.end;
  if (there === undefined) throw new UnknownTurn("nothing of it is written");
  const length = inCommon(whole.value, here, alone.value, there);
  if (length === 0 && there < alone.value.length) {
    throw new UnknownTurn("it ends otherwise there than at a conversation's end");
  }
  return here + length;
}

/** One turn by how the template renders. */
function computedTurn(conversation: RenderedConversation, message: number): TextRange {
  const { whole, count } = conversation, own = writtenDuring(whole, message);
  const start = beginOf(conversation, message, own);
  const end = message === count - 1
    ? whole.value.length
    : own?.end ?? endByLast(conversation, message, start);
  const others = whole.runs.some((run) =>
    run.origin.from !== undefined && run.origin.from !== message && start < run.end &&
    run.start < end
  );
  if (others) throw new UnknownTurn("texts of other messages are written in it");
  const content = extent(whole, ({ from }) => from === message);
  if (start >= end || (content !== undefined && content.start < start)) {
    throw new UnknownTurn("it is not where the template asks the assistant to go on");
  }
  return { start, end };
}

/**
 * The turns that the template says itself. What it says outside of all loops over messages belongs to the message
 * before it.
 */
function saidTurns({ whole, assistants }: RenderedConversation): Map<number, TextRange[]> {
  const turns = new Map<number, TextRange[]>(), unnamed: TextRange[] = [];
  let message: number | undefined, last: TextRange | undefined;
  for (const { start, end, origin: { during, generated } } of whole.runs) {
    message = during ?? message;
    if (!generated) continue;
    if (last?.end === start) last.end = end;
    else {
      last = { start, end };
      if (message === undefined) unnamed.push(last);
      else turns.set(message, [...turns.get(message) ?? [], last]);
    }
  }
  if (turns.size > 0 || unnamed.length === 0) return turns;
  if (unnamed.length !== assistants.length) {
    throw new UnknownTurn(
      `the template says ${unnamed.length} times what the model makes, for ${assistants.length} ` +
        "messages by the assistant",
    );
  }
  return new Map(assistants.map((message, i) => [message, [unnamed[i]]]));
}

/**
 * The characters of these messages of a conversation.
 *
 * @param wanted Numbers of messages by the assistant.
 * @param options.saysGenerated Whether the template says what the model makes. `file`: what to call it.
 * @throws {UserError} where it can't be told for one, with the reason.
 */
export function turnsOf(
  conversation: RenderedConversation,
  wanted: readonly number[],
  { saysGenerated, file }: { saysGenerated: boolean; file: string },
): TextRange[] {
  let message = wanted.at(0) ?? 0;
  try {
    if (saysGenerated) {
      const said = saidTurns(conversation);
      return wanted.flatMap((number) => said.get(number) ?? []);
    }
    return wanted.map((number) => computedTurn(conversation, message = number));
  } catch (error) {
    if (!(error instanceof UnknownTurn)) throw error;
    throw new UserError(
      `${file}: which tokens of message ${
        message + 1
      } the assistant makes can't be told from the ` +
        `chat template: ${error.message}; expected a template with generation tags, or another one`,
    );
  }
}
