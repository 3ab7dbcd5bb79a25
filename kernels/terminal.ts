/**
 * What a command prints. Texts that come from files, names or a model can't steer the terminal: what it would obey is
 * written out instead. Every command prints by these functions.
 *
 * @module
 */
import { UserError } from "./errors.ts";

/**
 * What a terminal obeys, or what turns the order of what stands on a line: C0 but newline and tab, DEL, C1, and
 * Unicode's bidirectional embeddings, overrides and isolates (UAX #9).
 */
// deno-lint-ignore no-control-regex
const CONTROLS = /[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g;

/** Characters of a line on standard error at most, and lines of an error. */
const MOST_CHARACTERS = 1000, MOST_LINES = 60;

const hexadecimal = (character: string, digits: number) =>
  character.charCodeAt(0).toString(16).padStart(digits, "0");

/** `\x1b`, `\u202e`: a control character as a programmer writes it. */
function writtenOut(character: string): string {
  if (character === "\r") return "\\r";
  return character < "\u0100"
    ? `\\x${hexadecimal(character, 2)}`
    : `\\u${hexadecimal(character, 4)}`;
}

/**
 * A text whose control characters are written out: ESC is `\x1b`. Newlines and tabs stay, and a carriage return before
 * a newline goes.
 */
export function printable(text: string): string {
  return text.replaceAll("\r\n", "\n").replace(CONTROLS, writtenOut);
}

/** A text of at most so many characters: a longer one loses its middle. */
export function shortened(text: string, most: number): string {
  if (text.length <= most) return text;
  const kept = most - 3, start = Math.ceil(kept / 2);
  // A character of two UTF-16 units is left out whole.
  return text.slice(0, start).replace(/[\ud800-\udbff]$/, "") + "..." +
    text.slice(text.length - (kept - start)).replace(/^[\udc00-\udfff]/, "");
}

/** A text whose long lines lose their middle. */
function shortLines(text: string): string {
  return text.split("\n").map((line) => shortened(line, MOST_CHARACTERS)).join("\n");
}

/** How text is set off on a terminal, as its codes to begin and to end with. */
const STYLES = { dim: ["\x1b[2m", "\x1b[22m"], inverse: ["\x1b[7m", "\x1b[27m"] } as const;

/** Text that may be printed as it is: its codes are the program's own, and all else was made printable. */
export class StyledText {
  private constructor(readonly codes: string) {}

  /** A text, set off or plain. */
  static of(text: string, style?: keyof typeof STYLES): StyledText {
    const [open, close] = style === undefined ? ["", ""] : STYLES[style];
    return new StyledText(open + printable(text) + close);
  }

  /** Texts one after the other. */
  static join(texts: readonly StyledText[], style?: keyof typeof STYLES): StyledText {
    const [open, close] = style === undefined ? ["", ""] : STYLES[style];
    return new StyledText(open + texts.map(({ codes }) => codes).join("") + close);
  }
}

/**
 * Writes to standard output.
 *
 * @throws {UserError} where that can't be done, as on a full disk; a pipe that is closed remains what it is.
 */
function toStdout(write: () => void): void {
  try {
    write();
  } catch (error) {
    if (!(error instanceof Error) || error instanceof Deno.errors.BrokenPipe) throw error;
    throw new UserError(`standard output can't be written: ${error.message}`);
  }
}

/** Prints a line, or several, on standard output. */
export function printLine(line: string | StyledText): void {
  const text = typeof line === "string" ? printable(line) : line.codes;
  toStdout(() => console.log(text));
}

/** Whether the last piece ended with a carriage return, which may be the first half of a line's end. */
let endedWithReturn = false;

/** Prints a piece of text on standard output, with nothing after it. A carriage return at its end comes with the next. */
export function printText(text: string): void {
  const whole = endedWithReturn ? `\r${text}` : text;
  endedWithReturn = whole.endsWith("\r");
  const bytes = new TextEncoder().encode(printable(endedWithReturn ? whole.slice(0, -1) : whole));
  toStdout(() => {
    for (let done = 0; done < bytes.length;) done += Deno.stdout.writeSync(bytes.subarray(done));
  });
}

/** Prints a line, or several, on standard error: what a person is told beside the result. Long lines lose their middle. */
export function noteLine(line: string): void {
  console.error(shortLines(printable(line)));
}

/** Prints what went wrong on standard error, in a bounded number of lines of bounded length. */
export function noteError(message: string): void {
  const lines = message.split("\n", MOST_LINES + 1);
  const shown = lines.length > MOST_LINES ? [...lines.slice(0, MOST_LINES), "..."] : lines;
  noteLine(`error: ${shown.join("\n")}`);
}

/** Prints text of the program's own on standard error, whatever its length. */
export function noteText(text: string): void {
  console.error(printable(text));
}

/** A value as JSON that no terminal obeys: the same value, for JSON may write any character of a text as `\u009b`. */
export function printableJson(value: unknown, indent?: number): string {
  return JSON.stringify(value, null, indent).replace(
    CONTROLS,
    (character) => `\\u${hexadecimal(character, 4)}`,
  );
}

/** Prints a value as JSON on standard output. */
export function printJson(value: unknown, indent?: number): void {
  toStdout(() => console.log(printableJson(value, indent)));
}
