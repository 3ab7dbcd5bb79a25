/**
 * Where a model's weights come from, and the file handling that every folder of weights shares.
 *
 * @module
 */

import { dirname } from "node:path";
import { UserError } from "../../kernels/errors.ts";
import type { LlamaConfig } from "../config.ts";
import { fileError, readText } from "./whole_file.ts";

export { fileError };

/** How weights are stored in a file, in safetensors' names. */
export type FileDtype = "F32" | "F16" | "BF16";

/** Whether a dtype's name is one of those that weights are read in. */
export function isFileDtype(dtype: string): dtype is FileDtype {
  return dtype === "F32" || dtype === "F16" || dtype === "BF16";
}

/** Bytes of one number in a file. */
export function bytesPerElement(dtype: FileDtype): 2 | 4 {
  return dtype === "F32" ? 4 : 2;
}

/** A model's weights, any bytes of any tensor at a time. */
export interface WeightSource {
  readonly config: LlamaConfig;
  /** What is stored under a name of `weightShapes(config)`; `bytes` is the tensor's whole size. */
  info(name: string): { dtype: FileDtype; shape: number[]; bytes: number };
  /**
   * Fills `target` with the tensor's raw little-endian bytes from byte `begin` on. Several calls may
   * be under way at once.
   *
   * @throws UserError where the file can't be read, RangeError for bytes that the tensor doesn't have.
   */
  read(name: string, begin: number, target: Uint8Array): Promise<void>;
  /** Closes files. Nothing may be read afterwards. */
  close(): void;
}

/** Whether a value from JSON is an object, neither null nor a list. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A value from JSON as it would stand in the file, cut to fit a message. */
export function brief(value: unknown): string {
  const text = JSON.stringify(value) ?? "missing";
  return text.length > 100 ? `${text.slice(0, 97)}...` : text;
}

/** Whether two shapes are the same. */
export function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, i) => size === b[i]);
}

/** Whether anything has this name. */
export function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
      return false;
    }
    throw fileError(path, "read", error);
  }
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

/** Writes a value as indented JSON that ends in a newline. @throws UserError where it can't. */
export function writeJson(path: string, value: unknown): void {
  try {
    Deno.writeTextFileSync(path, jsonText(value));
  } catch (error) {
    throw fileError(path, "write", error);
  }
}

/**
 * As {@linkcode writeJson}, in a folder that is made where there is none: under its own name the file is whole,
 * whenever the program is killed.
 */
export function replaceJson(path: string, value: unknown): void {
  const temporary = temporaryName(path);
  try {
    Deno.mkdirSync(dirname(path), { recursive: true });
    Deno.writeTextFileSync(temporary, jsonText(value));
    Deno.renameSync(temporary, path);
  } catch (error) {
    throw fileError(path, "write", error);
  }
}

/** A name beside `path` that nothing has, so that a rename to `path` stays on one file system. */
export function temporaryName(path: string): string {
  return `${path.replace(/[/\\]+$/, "")}.partial-${crypto.randomUUID().slice(0, 8)}`;
}

/**
 * Makes a folder whole or not at all: `fill` writes into a temporary one beside it, which gets its
 * name at the end and is removed if anything fails. Missing parents are made.
 *
 * @throws UserError where `folder` exists already: nothing is overwritten.
 */
export async function writeFolder(
  folder: string,
  fill: (temporary: string) => Promise<void>,
): Promise<void> {
  const refuse = () => {
    if (exists(folder)) throw new UserError(`${folder} exists already and is not overwritten`);
  };
  refuse();
  const temporary = temporaryName(folder);
  try {
    await Deno.mkdir(temporary, { recursive: true });
    await fill(temporary);
    refuse(); // Saving can take minutes; rename would replace an empty folder made meanwhile.
    await Deno.rename(temporary, folder);
  } catch (error) {
    await Deno.remove(temporary, { recursive: true }).catch(() => {});
    throw fileError(folder, "write", error);
  }
}
