/**
 * Templates without roles of their own, for models without a chat template.
 *
 * @module
 */
import { UserError } from "../../../kernels/errors.ts";
import { alpacaTurns, openingOf, type TextRange } from "../prompt.ts";
import type { Span } from "../targets.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { SPACE } from "./jinja/text.ts";
import { calledNames, joinedParts } from "./message_parts.ts";
import type { Message } from "./messages.ts";
import { tokenSpans } from "./token_spans.ts";

/** Their names. */
export type PlainTemplate = "alpaca" | "llama2" | "none";

/** A conversation as token ids, with those of the assistant's messages by the messages' numbers. */
export interface EncodedTurns {
  ids: readonly number[];
  turns: ReadonlyMap<number, readonly Span[]>;
}

/** A conversation as templates without roles of their own see it. */
interface Turns {
  system: string | undefined;
  /** Questions with their answers; the last, open question has none. */
  turns: { user: string; assistant: string | undefined }[];
}

/** @throws UserError where a message is no text, which only a model's own template can make one of. */
function textsOf(messages: readonly Message[], template: PlainTemplate) {
  return messages.map(({ role, content }, i) => {
    if (content !== null) return { role, content };
    const which = `message ${i + 1} of the conversation`;
    throw new UserError(
      `${which} has no text as its content, which template ${template} needs; ` +
        "--template chat is the model's own",
    );
  });
}

/**
 * @param ends Who the last message is by.
 * @throws UserError where users and assistants don't take turns, from a user on.
 */
function takeTurns(
  messages: readonly Message[],
  template: PlainTemplate,
  ends: "user" | "assistant",
): Turns {
  const texts = textsOf(messages, template);
  const system = texts[0]?.role === "system" ? texts[0].content : undefined;
  const first = system === undefined ? 0 : 1;
  const rest = texts.slice(first);
  const turns: Turns["turns"] = [];
  for (const [i, { role, content }] of rest.entries()) {
    const expected = i % 2 === 0 ? "user" : "assistant";
    if (role !== expected) {
      throw new UserError(
        `message ${first + i + 1} of the conversation is by "${role}", expected ` +
          `"${expected}": template ${template} takes one system message at most, at the beginning, ` +
          "and then user and assistant by turns",
      );
    }
    if (role === "user") turns.push({ user: content, assistant: undefined });
    else turns[turns.length - 1].assistant = content;
  }
  if (rest.length === 0 || (rest.length % 2 === 0) !== (ends === "assistant")) {
    throw new UserError(
      `the conversation does not end with a message by "${ends}", which template ${template} needs`,
    );
  }
  return { system, turns };
}

/** Stanford Alpaca's template. */
function alpacaText({ system, turns }: Turns) {
  const sections = turns.map(({ user, assistant }) => ({ instruction: user, answer: assistant }));
  return alpacaTurns(openingOf({ system }), sections);
}

const BLANKS = new RegExp(`^[${SPACE}]+|[${SPACE}]+$`, "g");

/** Python's `strip`. */
const strip = (text: string): string => text.replace(BLANKS, "");

/**
 * Llama 2's chat format, as `chat_completion` of Meta's reference code makes it
 * (https://github.com/meta-llama/llama, llama/generation.py): each turn is encoded on its own and stands
 * between BOS and EOS; the system message is part of the first question.
 *
 * @returns ids with the answers' places.
 */
function encodeLlama2({ system, turns }: Turns, tokenizer: Tokenizer): EncodedAnswers {
  const answers: (readonly Span[])[] = [];
  let length = 0;
  const ids = turns.flatMap(({ user, assistant }, i) => {
    const instructions = i === 0 && system !== undefined ? `<<SYS>>\n${system}\n<</SYS>>\n\n` : "";
    const question = `[INST] ${strip(instructions + user)} [/INST]`;
    const { prefix_ids: bos } = tokenizer, asked = tokenizer.encode(question);
    if (assistant === undefined) return [...bos, ...asked];
    const turn = tokenizer.encode(`${question} ${strip(assistant)} `);
    const begin = length + bos.length + asked.length;
    length += bos.length + turn.length + 1;
    answers.push([[begin, length]]);
    return [...bos, ...turn, tokenizer.eos_id];
  });
  return { ids, answers };
}

/** A conversation as ids, with those of each answer. */
interface EncodedAnswers {
  ids: number[];
  answers: (readonly Span[])[];
}

/** Ids of a conversation that the assistant is to continue. */
export function encodePlain(
  template: PlainTemplate,
  messages: readonly Message[],
  tokenizer: Tokenizer,
): number[] {
  if (template === "llama2") {
    return encodeLlama2(takeTurns(messages, template, "user"), tokenizer).ids;
  }
  const text = template === "alpaca"
    ? alpacaText(takeTurns(messages, template, "user")).text
    : textsOf(messages, template).map(({ content }) => content).join("\n");
  return [...tokenizer.prefix_ids, ...tokenizer.encode(text)];
}

/** A text and which of its characters are answers, as ids: the last answer's end is EOS. */
export function encodeAnswers(
  text: string,
  answers: readonly TextRange[],
  tokenizer: Tokenizer,
): EncodedAnswers {
  const sections = tokenizer.encodeSections(text, () => true), { prefix_ids } = tokenizer;
  const ids = [...prefix_ids, ...sections.flatMap(({ ids }) => ids), tokenizer.eos_id];
  const spans = answers.map((answer) =>
    tokenSpans(sections, [answer], false)
      .map(([begin, end]): Span => [begin + prefix_ids.length, end + prefix_ids.length])
  );
  const last = spans.pop();
  if (last !== undefined) spans.push([[last.at(0)?.[0] ?? ids.length - 1, ids.length]]);
  return { ids, answers: spans };
}

/** The contents of a conversation, a line each; an answer begins where the line before it ends. */
function joinedLines(messages: readonly Message[]): { text: string; answers: TextRange[] } {
  let text = "";
  const answers: TextRange[] = [];
  textsOf(messages, "none").forEach(({ role, content }, i) => {
    const start = text.length;
    text += (i === 0 ? "" : "\n") + content;
    if (role === "assistant") answers.push({ start, end: text.length });
  });
  return { text, answers };
}

/**
 * Messages of data as these templates take them: parts of text as one text, and a developer's as the system's.
 *
 * @throws UserError where one calls a tool.
 */
export function plainMessages(
  messages: readonly Message[],
  template: PlainTemplate,
): readonly Message[] {
  return messages.map((message, i) => {
    const [name] = calledNames(message);
    if (name !== undefined) {
      throw new UserError(
        `message ${i + 1} calls the tool ${
          JSON.stringify(name)
        }, which template ${template} does ` +
          "not write; --template chat is the model's own",
      );
    }
    const { role, content } = joinedParts(message);
    return { role: role === "developer" ? "system" : role, content };
  });
}

/** A conversation up to the last message by the assistant, after which EOS stands. */
export function encodePlainTurns(
  template: PlainTemplate,
  messages: readonly Message[],
  tokenizer: Tokenizer,
): EncodedTurns {
  const isAssistant = ({ role }: Message) => role === "assistant";
  const kept = messages.slice(0, messages.findLastIndex(isAssistant) + 1);
  const encode = () => {
    if (template === "none") {
      const { text, answers } = joinedLines(kept);
      return encodeAnswers(text, answers, tokenizer);
    }
    const turns = takeTurns(kept, template, "assistant");
    if (template === "llama2") return encodeLlama2(turns, tokenizer);
    const { text, answers } = alpacaText(turns);
    return encodeAnswers(text, answers, tokenizer);
  };
  const { ids, answers } = encode();
  const numbers = kept.flatMap((message, i) => isAssistant(message) ? [i] : []);
  return { ids, turns: new Map(numbers.map((number, i) => [number, answers[i]])) };
}
