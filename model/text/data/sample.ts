/**
 * From a row of data to a sample, by the names of its fields.
 *
 * @module
 */
import { UserError } from "../../../kernels/errors.ts";
import { didYouMean } from "../../../kernels/suggestion.ts";
import type { AlpacaSample, Sample } from "../prompt.ts";
import { kindOf, parseValue, type Row, type Value } from "./row.ts";

/** Names of a sample's fields: Alpaca's, Dolly's other two, TRL's, plain text's, and those of chats. */
const NAMES = new Set([
  "instruction",
  "input",
  "output",
  "system",
  "history",
  "context",
  "response",
  "prompt",
  "completion",
  "text",
  "messages",
  "conversations",
]);

/** Whether a field of this name may be one of a sample's. */
export function isField(name: string): boolean {
  return NAMES.has(name);
}

/** What rows may be, for messages. */
const EXPECTED = "instruction and output (Alpaca), instruction and response (Dolly), " +
  "prompt and completion, or text";

/** A row's fields under the names they are known by. */
class RowFields {
  /** Names that were asked for. */
  readonly used = new Set<string>();

  constructor(readonly where: () => string, readonly fields: Record<string, Value>) {}

  /** Whether there is a value under this name. */
  has(name: string): boolean {
    return Object.hasOwn(this.fields, name) && this.fields[name] !== null;
  }

  /** A field's value; null where it is missing. */
  value(name: string): Value {
    this.used.add(name);
    return Object.hasOwn(this.fields, name) ? this.fields[name] : null;
  }

  /** A field's text; empty where it is missing. */
  text(name: string): string {
    const value = this.value(name);
    if (value !== null && typeof value !== "string") {
      throw this.refusal(`${name} is ${kindOf(value)}; expected text`);
    }
    return value ?? "";
  }

  /** Whether there is such a field, even without a value. */
  holds(name: string): boolean {
    return Object.hasOwn(this.fields, name);
  }

  /** The first of these names under which there is a value, else the first that there is. */
  first(...names: string[]): string | undefined {
    return names.find((name) => this.has(name)) ?? names.find((name) => this.holds(name));
  }

  /** The text to be learnt under the first of these names: it must be there, but may be empty. */
  answer(...names: string[]): string {
    const name = this.first(...names);
    if (name !== undefined) return this.text(name);
    const near = didYouMean(names[0], Object.keys(this.fields));
    throw this.refusal(`${names[0]} is missing; expected text${near}`);
  }

  /** A field's text, which must be there and not be blank. */
  required(name: string): string {
    const text = this.text(name);
    if (text.trim() !== "") return text;
    const fault = this.has(name) ? "is empty" : "is missing";
    throw this.refusal(`${name} ${fault}; expected text`);
  }

  refusal(fault: string): UserError {
    return new UserError(`${this.where()}: ${fault}`);
  }
}

/** Questions and answers before an instruction; null and an empty list are none. */
function history(fields: RowFields): [string, string][] {
  let turns = fields.value("history");
  if (typeof turns === "string") {
    // Tables have no lists but those written as JSON.
    try {
      turns = turns.trim() === "" ? null : parseValue(turns);
    } catch {
      // Text that is no list: refused below.
    }
  }
  if (turns === null) return [];
  const expected = "expected a list of [question, answer] pairs";
  if (!Array.isArray(turns)) throw fields.refusal(`history is ${kindOf(turns)}; ${expected}`);
  return turns.map((turn, i) => {
    if (Array.isArray(turn) && turn.length === 2) {
      const [question, answer] = turn;
      if (typeof question === "string" && typeof answer === "string") return [question, answer];
    }
    const fault = Array.isArray(turn) ? "a list of something else" : kindOf(turn);
    throw fields.refusal(`history's turn ${i + 1} is ${fault}; ${expected}`);
  });
}

/** An instruction in Alpaca's form, or with Dolly's names for input and output. */
function instructionSample(fields: RowFields, outputs: boolean): AlpacaSample {
  const instruction = fields.required("instruction");
  const input = fields.text(fields.first("input", "context") ?? "input");
  const output = outputs ? fields.answer("output", "response") : "";
  const sample: AlpacaSample = { instruction, input, output };
  const system = fields.text("system"), turns = history(fields);
  if (system.trim() !== "") sample.system = system;
  if (turns.length > 0) sample.history = turns;
  return sample;
}

/** What a row that is no sample has, for a message. */
function unknownRow(fields: RowFields): UserError {
  const chat = ["messages", "conversations"].find((name) => fields.has(name));
  if (chat !== undefined) {
    return fields.refusal(`${chat} is a chat, which can't be read; expected ${EXPECTED}`);
  }
  if (fields.has("output")) return fields.refusal("instruction is missing; expected text");
  const names = Object.keys(fields.fields);
  const listed = names.slice(0, 8).map((name) => JSON.stringify(name.slice(0, 40))).join(", ");
  const has = names.length === 0
    ? "is empty"
    : `has the fields ${listed}${names.length > 8 ? " ..." : ""}`;
  return new UserError(`${fields.where()} ${has}; expected ${EXPECTED}`);
}

/**
 * A row as a sample.
 *
 * - `instruction` with `input`, `output`, `system` and `history` is Alpaca's form; `context` and `response`
 *   are Dolly's names for input and output. Such a row's other texts are not used.
 * - `prompt` and `completion` are texts without a template, as TRL reads them.
 * - `text` alone is learnt as a whole.
 *
 * @param outputs Whether a sample needs one. Questions to be answered don't.
 * @returns The sample, and which fields were asked for.
 * @throws {UserError} Where it is none of these, or a field is missing or no text; names the row.
 */
export function toSample(
  { where, value }: Row,
  outputs: boolean,
): { sample: Sample; used: ReadonlySet<string> } {
  if (value === null || typeof value !== "object" || Array.isArray(value)) {
    throw new UserError(`${where()} is ${kindOf(value)}; expected an object with ${EXPECTED}`);
  }
  const fields = new RowFields(where, value), { used } = fields;
  if (!outputs) ["output", "response", "completion"].forEach((name) => used.add(name));
  if (fields.has("instruction")) return { sample: instructionSample(fields, outputs), used };
  const completes = fields.has("completion") || fields.has("prompt") && !fields.has("text");
  if (completes) {
    const prompt = fields.required("prompt");
    return { sample: { prompt, completion: outputs ? fields.answer("completion") : "" }, used };
  }
  if (fields.holds("text")) {
    return { sample: { prompt: "", completion: fields.text("text") }, used };
  }
  throw unknownRow(fields);
}
