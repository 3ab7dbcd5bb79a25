/**
 * A conversation with one model, or side by side with two, which are asked the same and each have answers of their own.
 *
 * @module
 */

/** A text that a token may be, and its log-probability. */
export interface Likely {
  readonly text: string;
  readonly logprob: number;
}

/** A token of an answer, and the likeliest ones in its place. */
export interface Token extends Likely {
  readonly top: readonly Likely[];
}

/** How an answer stands: the model ended it, or the limit of tokens, a person, or what went wrong. */
export type AnswerState = "running" | "stop" | "length" | "stopped" | "failed";

/** An answer of a model. */
export interface Answer {
  readonly model: string;
  text: string;
  state: AnswerState;
  /** What was told of its tokens, where that was asked for. */
  tokens?: Token[];
  /** What went wrong, in a sentence. */
  problem?: string;
  /** Tokens that it has, and milliseconds until the first one and until its end. */
  count?: number;
  first?: number;
  took?: number;
}

/** What a person asked, and what each column answered; null where it was not asked. */
export interface Turn {
  readonly prompt: string;
  readonly answers: readonly (Answer | null)[];
}

/** A message as templates take it. */
export interface Message {
  readonly role: "system" | "user" | "assistant";
  readonly content: string;
}

/** How many models can be compared. */
export const COLUMNS = 2;

/** Whether an answer belongs to its conversation: it has a text, or the model chose to say nothing. */
function counts(answer: Answer | null): answer is Answer {
  return answer !== null && answer.state !== "running" &&
    (answer.text !== "" || answer.state === "stop");
}

/**
 * The messages of a column's conversation. Turns that the column has no answer to are no part of it: templates demand
 * that the roles alternate.
 */
export function messagesOf(system: string, turns: readonly Turn[], column: number): Message[] {
  const messages: Message[] = system.trim() === "" ? [] : [{ role: "system", content: system }];
  for (const { prompt, answers } of turns) {
    const answer = answers[column] ?? null;
    if (!counts(answer)) continue;
    messages.push({ role: "user", content: prompt }, { role: "assistant", content: answer.text });
  }
  return messages;
}

/** A column's conversation as a line of a training file; undefined where it has no answer. */
export function sampleOf(
  system: string,
  turns: readonly Turn[],
  column: number,
): string | undefined {
  const messages = messagesOf(system, turns, column);
  const isAnswered = messages.some(({ role }) => role === "assistant");
  return isAnswered ? `${JSON.stringify({ messages })}\n` : undefined;
}
