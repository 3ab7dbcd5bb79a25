/**
 * The loop of a conversation in the terminal: messages and commands are read, answers printed.
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import { noteError, noteLine, printText } from "../../kernels/terminal.ts";
import { writeNewJson } from "../../model/files/json_file.ts";
import type { Message } from "../../model/text/templates/chat.ts";
import { NotFinite } from "../../model/transformer/not_finite.ts";
import type { LineInput } from "../line_input.ts";

const HELP = `/reset       forget the conversation
/save FILE   write the conversation to a JSON file
/help        this
/exit        leave (Ctrl-D does too); Ctrl-C stops an answer`;

/** A conversation, and who answers in it. */
export interface Partner {
  readonly messages: readonly Message[];
  /** What `/save` writes beside the messages: who answered. */
  readonly about: Readonly<Record<string, unknown>>;
  /** Forgets everything but the system's instructions. */
  reset(): void;
  /**
   * Answers a message, until `signal` ends it.
   *
   * @throws {UserError} where it can't.
   */
  reply(content: string, print: (text: string) => void, signal: AbortSignal): Promise<void>;
}

/** Reads messages and commands until the end of input. Ctrl-C stops an answer. */
export async function converse(input: LineInput, partner: Partner): Promise<void> {
  while (true) {
    const line = (await input.read("> "))?.trim();
    if (line === undefined || line === "/exit") return;
    if (line === "") continue;
    try {
      if (!line.startsWith("/")) {
        await interruptible((signal) => partner.reply(line, printText, signal));
        printText("\n");
        continue;
      }
      const [command, file = ""] = line.split(/\s+(.*)/);
      if (command === "/help") noteLine(HELP);
      else if (command === "/reset") {
        partner.reset();
        noteLine("(forgotten)");
      } else if (command === "/save") {
        if (file === "") throw new UserError("/save needs the name of a file to write");
        writeNewJson(file, { ...partner.about, messages: partner.messages });
        noteLine(`(written to ${file})`);
      } else {
        throw new UserError(`${command} is unknown; expected /reset, /save FILE, /help or /exit`);
      }
    } catch (error) {
      // A mistake in what was typed ends nothing; a model that can't answer does.
      if (!(error instanceof UserError) || error instanceof NotFinite) throw error;
      noteError(error.message);
    }
  }
}

/** Tells that the oldest turns are no longer part of the conversation. */
export function noteForgotten(turns: number): void {
  if (turns === 0) return;
  const what = turns === 1 ? "turn was" : `${turns} turns were`;
  noteLine(`(the oldest ${what} forgotten: the context is full)`);
}

/** Does what Ctrl-C stops. */
async function interruptible(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const controller = new AbortController(), abort = () => controller.abort();
  Deno.addSignalListener("SIGINT", abort);
  try {
    await work(controller.signal);
  } finally {
    Deno.removeSignalListener("SIGINT", abort);
  }
}
