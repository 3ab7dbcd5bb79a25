/**
 * Alpaca's rows: `instruction` with `input`, `output`, `system` and `history`; `context` and `response` are Dolly's names
 * for input and output.
 *
 * @module
 */
import type { AlpacaSample } from "../../prompt.ts";
import { asText, kindOf, parseValue } from "../row.ts";
import { type DataFormat, emptyName } from "./format.ts";
import type { RowFields } from "./row_fields.ts";

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
      const question = asText(turn[0]), answer = asText(turn[1]);
      if (question !== undefined && answer !== undefined) return [question, answer];
    }
    const fault = Array.isArray(turn) ? "a list of something else" : kindOf(turn);
    throw fields.refusal(`history's turn ${i + 1} is ${fault}; ${expected}`);
  });
}

/** Instructions with their answers. */
export const ALPACA: DataFormat = {
  name: "alpaca",
  fields: ["instruction", "input", "output", "system", "history", "context", "response"],
  expected: "instruction and output (Alpaca), instruction and response (Dolly)",
  tells: (fields) => fields.has("instruction"),
  read(fields, options) {
    const instruction = fields.required("instruction");
    const input = fields.text(fields.first("input", "context") ?? "input");
    const output = options.outputs ? fields.answer("output", "response") : "";
    const sample: AlpacaSample = { instruction, input, output };
    const system = fields.text("system"), turns = history(fields);
    if (system.trim() !== "") sample.system = system;
    if (turns.length > 0) sample.history = turns;
    return { sample, empty: emptyName(output, "output", options) };
  },
};
