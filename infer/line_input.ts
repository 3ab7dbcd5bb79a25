/**
 * Lines that a person types, or that come from a pipe.
 *
 * @module
 */
import process from "node:process";
import { createInterface } from "node:readline";
import { UserError } from "../kernels/errors.ts";
import { printable } from "../kernels/terminal.ts";

/** Reads lines one by one. */
export interface LineInput {
  /** The next line without its end; undefined at the end of input (Ctrl-D). */
  read(prompt: string): Promise<string | undefined>;
}

/** From a terminal: lines can be edited, and earlier ones come back with the arrow keys. */
class TerminalInput implements LineInput {
  #history: string[] = [];
  /** Lines that came at once with an earlier one, as pasted text does. */
  #ahead: string[] = [];
  /** What was typed of the line after them. */
  #begun = "";

  read(prompt: string): Promise<string | undefined> {
    const ahead = this.#ahead.shift();
    if (ahead !== undefined) {
      process.stdout.write(`${prompt}${printable(ahead)}\n`);
      return Promise.resolve(ahead);
    }
    // An interface for each line: in between the terminal is as ever, and Ctrl-C is a signal.
    const lines = createInterface({
      input: process.stdin,
      output: process.stdout,
      terminal: true,
      prompt,
      history: this.#history,
      historySize: 200,
    });
    return new Promise((resolve) => {
      lines.on("history", (history: string[]) => this.#history = [...history]);
      lines.on("SIGINT", () => {
        lines.write(null, { ctrl: true, name: "u" });
        process.stdout.write("\r\x1b[K(/exit or Ctrl-D leaves)\n");
        lines.prompt();
      });
      lines.on("line", (line) => {
        this.#ahead.push(line);
        // Not at once: whatever was read together with this line comes first.
        queueMicrotask(() => lines.close());
      });
      lines.on("close", () => {
        this.#begun = lines.line;
        if (this.#begun !== "") process.stdout.write("\r\x1b[K"); // shown again with the next prompt
        else if (this.#ahead.length === 0) process.stdout.write("\n");
        resolve(this.#ahead.shift());
      });
      lines.prompt();
      lines.write(this.#begun);
    });
  }
}

/** Characters of a message at most: what has no end of line is no conversation. */
const MOST_CHARACTERS = 1_000_000;

/** From a pipe or file, without prompts. */
class PipeInput implements LineInput {
  readonly #lines = this.#read();

  async *#read(): AsyncGenerator<string> {
    let rest = "";
    for await (const chunk of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + chunk).split(/\r?\n/);
      rest = lines.pop() ?? "";
      if (rest.length > MOST_CHARACTERS) {
        throw new UserError(
          `standard input has a line of more than ${MOST_CHARACTERS} characters; expected messages`,
        );
      }
      yield* lines;
    }
    if (rest !== "") yield rest;
  }

  async read(): Promise<string | undefined> {
    const { value, done } = await this.#lines.next();
    return done ? undefined : value;
  }
}

/** Standard input. */
export function openLineInput(): LineInput {
  return Deno.stdin.isTerminal() ? new TerminalInput() : new PipeInput();
}
