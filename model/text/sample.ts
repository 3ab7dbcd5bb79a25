/**
 * What a model learns from.
 *
 * @module
 */
import { type AlpacaSample, renderPrompt, type TextSample } from "./prompt.ts";
import type { Conversation, Message } from "./templates/messages.ts";

/** A conversation to learn from. */
export interface ChatSample extends Conversation {
  /** Numbers of the messages by the assistant that may be learnt, ascending. */
  answers: readonly number[];
  /** Those of them that are blank. Without one that is not, there is nothing to learn. */
  blank: ReadonlySet<number>;
  /** So many messages are a prompt: nothing of them is learnt. */
  prompt: number;
  /** Where it is, for messages. */
  where: () => string;
}

/** What a model learns from, or answers. */
export type Sample = TextSample | ChatSample;

/** Whether a sample is a conversation. */
export function isChat(sample: Sample): sample is ChatSample {
  return "messages" in sample;
}

/** An instruction with its history and its answer as a conversation. */
export function conversationOf(
  { system, history = [], output, ...question }: AlpacaSample,
): Message[] {
  return [
    ...(system ? [{ role: "system", content: system }] : []),
    ...history.flatMap(([question, answer]): Message[] => [
      { role: "user", content: question },
      { role: "assistant", content: answer },
    ]),
    { role: "user", content: renderPrompt(question, "none") },
    { role: "assistant", content: output },
  ];
}
