/**
 * Reading the steps of a tokenizer.json: normalizers, pre-tokenizers, post-processors and decoders are each
 * one step, a sequence of them, or none.
 *
 * @module
 */
import { brief, isObject } from "../../../files/json_file.ts";

/** A step: its type and its own settings. */
export type Step = Record<string, unknown>;

/** A pattern in Oniguruma's syntax as a regular expression with the flag `g`. */
export type Patterns = (oniguruma: string) => RegExp;

/** @throws {RangeError} naming the type of a step that can't be computed. */
export function refuse(what: string, step: unknown): never {
  const name = isObject(step) && typeof step.type === "string"
    ? `type ${brief(step.type)}`
    : "no type";
  throw new RangeError(`has a ${what} of ${name}, which is not supported`);
}

/** The steps of a sequence, of a single one or of none, in order. */
export function steps(value: unknown, what: string, list: string): Step[] {
  if (value === null || value === undefined) return [];
  if (!isObject(value)) refuse(what, value);
  if (value.type !== "Sequence") return [value];
  const inner = value[list];
  if (!Array.isArray(inner)) throw new RangeError(`has a ${what} sequence without "${list}"`);
  return inner.flatMap((step) => steps(step, what, list));
}

/** A setting that has to be there. */
export function textOf(step: Step, key: string, what: string): string {
  const value = step[key];
  if (typeof value === "string") return value;
  throw new RangeError(
    `has a ${what} ${brief(step.type)} with ${key} ${brief(value)}, expected a text`,
  );
}

/** A setting that is true or false; where it is absent or null, `absent`. */
export function flagOf(step: Step, key: string, absent: boolean, what: string): boolean {
  const value = step[key] ?? absent;
  if (typeof value === "boolean") return value;
  throw new RangeError(
    `has a ${what} ${brief(step.type)} with ${key} ${brief(value)}, expected true or false`,
  );
}

/** A setting that is one of several words. */
export function wordOf<T extends string>(
  step: Step,
  key: string,
  words: readonly T[],
  absent: T | undefined,
  what: string,
): T {
  const value = step[key] ?? absent;
  const found = words.find((word) => word === value);
  if (found !== undefined) return found;
  throw new RangeError(
    `has a ${what} ${brief(step.type)} with ${key} ${brief(value)}, expected ${words.join(", ")}`,
  );
}

/** A text as a regular expression that matches it and nothing else. */
export function literal(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&");
}

/** The pattern of a step with the flag `g`: a text or a regular expression. */
export function patternOf(step: Step, what: string, patterns: Patterns): RegExp {
  const { pattern } = step;
  if (isObject(pattern)) {
    if (typeof pattern.String === "string") return new RegExp(literal(pattern.String), "gu");
    if (typeof pattern.Regex === "string") return patterns(pattern.Regex);
  }
  throw new RangeError(
    `has a ${what} ${brief(step.type)} with pattern ${brief(pattern)}, expected a String or Regex`,
  );
}
