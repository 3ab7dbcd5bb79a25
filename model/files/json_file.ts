/**
 * JSON files: reading them within limits, writing them, and their values in messages.
 *
 * @module
 */

import { UserError } from "../../kernels/errors.ts";
import { replaceText, writeNewText } from "./durable.ts";
import { readText } from "./whole_file.ts";

/** Whether a value from JSON is an object, neither null nor a list. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A value from JSON as it would stand in the file, cut to fit a message. */
export function brief(value: unknown): string {
  const text = JSON.stringify(value) ?? "missing";
  return text.length > 100 ? `${text.slice(0, 97)}...` : text;
}

/** Descriptions of models are small; a file beyond this is something else. */
const MAX_JSON_BYTES = 100_000_000;
/** More than any description has, and few enough for whatever walks through a value. */
const MAX_JSON_DEPTH = 64;

/** Whether brackets are nested deeper than `most`. Safe on any text; only JSON's answer means anything. */
export function nestedDeeper(text: string, most: number): boolean {
  for (let at = 0, depth = 0; at < text.length; at++) {
    const character = text[at];
    if (character === '"') at = stringEnd(text, at);
    else if (character === "{" || character === "[") depth++;
    else if (character === "}" || character === "]") depth--;
    if (depth > most) return true;
  }
  return false;
}

/** Where the string that begins at a quotation mark ends: at its other one, or beyond the text. */
export function stringEnd(text: string, start: number): number {
  let at = start + 1;
  while (at < text.length && text[at] !== '"') at += text[at] === "\\" ? 2 : 1;
  return at;
}

/**
 * A JSON file's value.
 *
 * @param maxBytes Refused beyond this size, since the value takes many times as much memory.
 * @throws UserError where it can't be read, is too large, stands in place of another file (a pointer of Git LFS
 *   ...), is not JSON or is nested absurdly deep.
 */
export function readJson(path: string, maxBytes = MAX_JSON_BYTES): unknown {
  return parseJson(path, maxBytes);
}

/** As {@linkcode readJson}, of a file that holds an object. @throws UserError where it holds anything else. */
export function readJsonObject(path: string): Record<string, unknown> {
  const json = readJson(path);
  if (isObject(json)) return json;
  throw new UserError(`${path}: is ${brief(json)}, expected an object`);
}

/**
 * As {@linkcode readJson}, for values that are written again: numbers that JavaScript would spell otherwise
 * (`10000.0`, which Python reads as a float, or 10^30 with all its digits) are kept as they are spelled.
 * `JSON.stringify` writes them so; nothing else can be done with those numbers.
 */
export function readJsonToWrite(path: string): unknown {
  return parseJson(path, MAX_JSON_BYTES, (_key, value, { source } = {}) => {
    const same = typeof value !== "number" || source === undefined || source === String(value);
    return same ? value : rawJSON(source);
  });
}

/** A number that Python reads as a float also where it is whole; `JSON.stringify` writes it so. */
export function asFloat(value: number): unknown {
  return Number.isInteger(value) && Math.abs(value) < 1e21 ? rawJSON(value.toFixed(1)) : value;
}

/** Parts of JSON that TypeScript's library doesn't describe yet: what a number's text was, and such a text. */
type Reviver = (key: string, value: unknown, context?: { source?: string }) => unknown;
const { rawJSON } = JSON as unknown as { rawJSON(text: string): unknown };

function parseJson(path: string, maxBytes: number, reviver?: Reviver): unknown {
  const text = readText(path, { what: "a JSON file", maxBytes });
  if (nestedDeeper(text, MAX_JSON_DEPTH)) {
    throw new UserError(`${path}: is nested more than ${MAX_JSON_DEPTH} levels deep`);
  }
  try {
    return JSON.parse(text, reviver);
  } catch (error) {
    // The message quotes the text, line breaks and all.
    const where = (error as Error).message.replace(/\s+/g, " ");
    throw new UserError(`${path}: is not valid JSON (${where})`);
  }
}

/** A value as indented JSON that ends in a newline. */
function jsonText(value: unknown): string {
  return JSON.stringify(value, null, 2) + "\n";
}

/** Writes a value as indented JSON that ends in a newline, as {@linkcode replaceText} does. @throws UserError where it can't. */
export function writeJson(path: string, value: unknown): void {
  replaceText(path, jsonText(value));
}

/** Writes a value so to a file that is not there yet. @throws UserError where something has its name, or it can't be written. */
export function writeNewJson(path: string, value: unknown): void {
  writeNewText(path, jsonText(value));
}
