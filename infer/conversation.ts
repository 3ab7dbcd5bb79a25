/**
 * A conversation's messages, and how they fit the model's context.
 *
 * @module
 */
import { UserError } from "../kernels/errors.ts";
import type { ChatEncoder, Message } from "../model/text/templates/chat.ts";

/** Who said what so far. */
export class Conversation {
  #messages: Message[] = [];

  /**
   * @param encode Turns messages into ids.
   * @param system Instructions before the first message.
   */
  constructor(readonly encode: ChatEncoder, readonly system?: string) {
    this.reset();
  }

  get messages(): readonly Message[] {
    return this.#messages;
  }

  /** Forgets everything but the system's instructions. */
  reset(): void {
    this.#messages = this.system === undefined ? [] : [{ role: "system", content: this.system }];
  }

  /**
   * Adds a question.
   *
   * @param most Ids that the model can be given.
   * @returns the ids to continue, and how many of the oldest turns had to be forgotten for them.
   * @throws UserError, with the question not added, where it alone is too long.
   */
  ask(content: string, most: number): { ids: number[]; forgotten: number } {
    const first = this.system === undefined ? 0 : 1;
    const question: Message = { role: "user", content };
    for (let forgotten = 0;; forgotten++) {
      const kept = [
        ...this.#messages.slice(0, first),
        ...this.#messages.slice(first + 2 * forgotten),
        question,
      ];
      const ids = Array.from(this.encode(kept));
      if (ids.length <= most) {
        this.#messages = kept;
        return { ids, forgotten };
      }
      if (kept.length === first + 1) {
        throw new UserError(
          `the message has ${ids.length} tokens with its template, expected at most ${most}, ` +
            "so that an answer has room",
        );
      }
    }
  }

  /** Adds the answer to the last question. */
  answer(content: string): void {
    this.#messages.push({ role: "assistant", content });
  }
}
