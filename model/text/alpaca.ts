/**
 * Instruction-following samples in Alpaca's format, from JSON or JSON Lines.
 *
 * @module
 */

import builtinJson from "../../examples/builtin/instructions.json" with { type: "text" };
import { UserError } from "../../kernels/errors.ts";
import type { AlpacaSample } from "./prompt.ts";

/** The name that stands for the samples of examples/builtin, which are part of the program. */
const BUILTIN_DATA = "builtin";

/**
 * Reads samples from a JSON array or from JSON Lines; which of them is told by the content.
 *
 * @param path A file, or `builtin`.
 * @param limit Only the first so many samples; the others aren't even checked.
 * @param options `outputs`: whether each sample needs one. Questions to be answered don't.
 * @throws {UserError} When the file is missing, unreadable, empty, cut short or something else, or
 * when a sample is not in Alpaca's format; names the file and the sample or line.
 */
export function loadAlpaca(
  path: string,
  limit: number = Infinity,
  { outputs = true }: { outputs?: boolean } = {},
): AlpacaSample[] {
  if (path === BUILTIN_DATA) return parseAlpaca(builtinJson, BUILTIN_DATA, limit);
  let bytes: Uint8Array;
  try {
    bytes = Deno.readFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      throw new UserError(`data file "${path}" does not exist; expected Alpaca JSON or JSON Lines`);
    }
    throw new UserError(
      `data file "${path}" can't be read (${
        (error as Error).message
      }); expected a file with Alpaca ` +
        "JSON or JSON Lines",
    );
  }
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new UserError(
      `data file "${path}" is not UTF-8 text; expected Alpaca JSON or JSON Lines`,
    );
  }
  return parseAlpaca(text, path, limit, { outputs });
}

/**
 * Parses the text of a data file.
 *
 * @param file What to call it in messages.
 */
export function parseAlpaca(
  text: string,
  file: string,
  limit: number = Infinity,
  { outputs = true }: { outputs?: boolean } = {},
): AlpacaSample[] {
  const start = text.trimStart();
  if (start === "") {
    throw new UserError(`data file "${file}" is empty; expected Alpaca JSON or JSON Lines`);
  }
  const samples = start.startsWith("{")
    ? parseLines(text, file, limit, outputs)
    : parseArray(text, file, limit, outputs);
  if (samples.length === 0) {
    throw new UserError(`data file "${file}" holds no samples; expected at least one`);
  }
  return samples;
}

function parseArray(
  text: string,
  file: string,
  limit: number,
  outputs: boolean,
): AlpacaSample[] {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    const fault = jsonFault(text, error as Error);
    throw new UserError(
      `data file "${file}" is ${fault}; expected a JSON array of samples or JSON Lines`,
    );
  }
  if (!Array.isArray(json)) {
    throw new UserError(
      `data file "${file}" holds ${kindOf(json)}; expected a JSON array of samples or JSON Lines`,
    );
  }
  return json.slice(0, limit).map((element, i) =>
    checkSample(element, `data file "${file}", sample ${i + 1}`, outputs)
  );
}

function parseLines(
  text: string,
  file: string,
  limit: number,
  outputs: boolean,
): AlpacaSample[] {
  const samples: AlpacaSample[] = [];
  const lines = text.split("\n");
  for (const [i, line] of lines.entries()) {
    if (samples.length >= limit) break;
    if (line.trim() === "") continue;
    let json: unknown;
    try {
      json = JSON.parse(line);
    } catch (error) {
      // One object laid out over several lines is JSON, but neither an array nor JSON Lines.
      if (samples.length === 0 && isJson(text)) return parseArray(text, file, limit, outputs);
      const fault = jsonFault(line, error as Error, i + 1);
      throw new UserError(`data file "${file}" is ${fault}; expected one JSON object a line`);
    }
    samples.push(checkSample(json, `data file "${file}", line ${i + 1}`, outputs));
  }
  return samples;
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** What is wrong with `text`, which `JSON.parse` refused; `line` when it is one line of many. */
function jsonFault(text: string, error: Error, line?: number): string {
  const at = /position (\d+)/.exec(error.message)?.[1];
  const position = at === undefined ? undefined : Number(at);
  const ended = position !== undefined && position >= text.trimEnd().length;
  if (ended || /end of JSON|unterminated/i.test(error.message)) {
    return line === undefined
      ? "truncated: it ends before its JSON array does"
      : `truncated at line ${line}: the line ends before its JSON object does`;
  }
  if (position !== undefined) line ??= text.slice(0, position).split("\n").length;
  const where = line === undefined ? "" : ` at line ${line}`;
  return `not JSON${where} (${error.message.replaceAll(/\s+/g, " ")})`;
}

/** What a JSON value is, with its article, for messages. */
function kindOf(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "an array";
  if (typeof value === "object") return "an object";
  return `a ${typeof value}`;
}

/** @param where Names the file and the sample. */
function checkSample(element: unknown, where: string, outputs: boolean): AlpacaSample {
  if (typeof element !== "object" || element === null || Array.isArray(element)) {
    throw new UserError(
      `${where} is ${kindOf(element)}; expected an object with instruction, input and output`,
    );
  }
  const field = (name: keyof AlpacaSample | "text", required: boolean): string => {
    const value = (element as Record<string, unknown>)[name] ?? undefined;
    if (value !== undefined && typeof value !== "string") {
      throw new UserError(`${where}: ${name} is ${kindOf(value)}; expected a string`);
    }
    if (required && (value === undefined || value.trim() === "")) {
      const fault = value === undefined ? "is missing" : "is empty";
      throw new UserError(`${where}: ${name} ${fault}; expected a non-empty string`);
    }
    return value ?? "";
  };
  if ("text" in element && !("instruction" in element) && !("output" in element)) {
    return { instruction: "", input: "", output: field("text", true) };
  }
  return {
    instruction: field("instruction", true),
    input: field("input", false),
    output: field("output", outputs),
  };
}
