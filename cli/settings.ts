/**
 * Settings of a command as zod schemas whose every value knows, in words, what it may be: the same
 * schema gives types, checks, messages and help. Training and inference build theirs from these parts.
 *
 * @module
 */

import { z } from "zod";
import { didYouMean, nearest } from "../kernels/suggestion.ts";

/** What a key's values look like, for messages and help; `value` is short, `expected` is complete. */
interface Wording {
  value: string;
  expected: string;
  /** Of a list: whether its entries are given with a flag each. */
  repeated?: boolean;
  /** What is wrong with a value, where that can be told of a part of it: it takes the place of `expected` in messages. */
  problem?: (value: unknown) => string | undefined;
}

const wordings = z.registry<Wording>();

/** Attaches the words for a schema's values. */
export function worded<T extends z.ZodType>(
  schema: T,
  value: string,
  expected: string,
  problem?: Wording["problem"],
): T {
  wordings.add(schema, { value, expected, problem });
  return schema;
}

/** A string that is not empty. */
export function text(value: string, expected: string): z.ZodString {
  return worded(z.string().min(1), value, expected);
}

/** A whole number in a range, both ends included. */
export function whole(minimum: number, maximum: number = Number.MAX_SAFE_INTEGER): z.ZodInt {
  return worded(
    z.int().min(minimum).max(maximum),
    "integer",
    maximum === Number.MAX_SAFE_INTEGER
      ? `a whole number of at least ${minimum}`
      : `a whole number from ${minimum} to ${maximum}`,
  );
}

/** What the GPU's float32 holds, with room for a factor: smaller is 0 there, larger is infinite. */
const SMALLEST = 1e-37, LARGEST = 1e37;

/** A number of at least 0. */
export function atLeastZero(): z.ZodNumber {
  return worded(z.number().min(0).max(LARGEST), "number", `a number from 0 to ${LARGEST}`);
}

/** A number above 0. */
export function aboveZero(): z.ZodNumber {
  const schema = z.number().min(SMALLEST).max(LARGEST);
  return worded(schema, "number", `a number above 0 (from ${SMALLEST} to ${LARGEST})`);
}

/** A number in [0, 1). */
export function share(): z.ZodNumber {
  return worded(z.number().min(0).lt(1), "number", "a number of at least 0 and less than 1");
}

/** True or false; on the command line also on or off, nothing, or `--no-` before the name. */
export function flag(): z.ZodBoolean {
  return worded(z.boolean(), "boolean", "true or false");
}

/** Texts of at least `minimum` characters, each given with a flag of its own: the flag may be repeated. */
export function texts(
  value: string,
  expected: string,
  minimum = 1,
): z.ZodArray<z.ZodString> {
  const schema = z.array(z.string().min(minimum));
  wordings.add(schema, { value, expected, repeated: true });
  return schema;
}

/** One of several words, which are called something for short. */
export function named<const T extends readonly [string, ...string[]]>(
  value: string,
  values: T,
): z.ZodEnum<{ [K in T[number]]: K }> {
  return worded(z.enum(values), value, `one of ${values.join(", ")}`);
}

/** One of a few words. */
export function choice<const T extends readonly [string, ...string[]]>(
  values: T,
): z.ZodEnum<{ [K in T[number]]: K }> {
  return named(values.join("|"), values);
}

/**
 * What a value is written as on the command line: lists with commas or, `repeated`, with a flag for each
 * entry; `group` switches keys `<name>.*` on and off.
 */
export type ValueKind =
  | "string"
  | "number"
  | "boolean"
  | "strings"
  | "numbers"
  | "repeated"
  | "group";

/** A key as messages, flags and the help need it. */
export interface Key {
  /** Dotted inside a group: `lora.rank`. */
  name: string;
  kind: ValueKind;
  schema: z.ZodType;
  /** Whether it may be left out, and then has no value. */
  optional: boolean;
  /** Undefined where it is optional or has to be given. */
  default: unknown;
  description: string;
  /** A word for the value, for the help. */
  value: string;
  /** What a value must be, for messages. */
  expected: string;
  /** What is wrong with a part of a value, where that can be told. */
  problem?: (value: unknown) => string | undefined;
}

/** A key of a schema made of the parts above. */
export function describeKey(name: string, schema: z.ZodType): Key {
  const description = schema.description ?? "";
  let inner = schema;
  let fallback: unknown;
  if (inner instanceof z.ZodDefault) {
    fallback = inner.def.defaultValue;
    inner = inner.def.innerType as z.ZodType;
  }
  const optional = inner instanceof z.ZodOptional;
  if (inner instanceof z.ZodOptional) inner = inner.def.innerType as z.ZodType;
  const { repeated = false, ...wording } = wordings.get(inner) as Wording;
  let kind: ValueKind = "string";
  // A list that may be one word besides is written as a list, and such a number as a number.
  if (inner instanceof z.ZodUnion) {
    const list = inner.options.find((option) =>
      option instanceof z.ZodArray && !(option.element instanceof z.ZodNumber)
    );
    if (list !== undefined) kind = "strings";
    else if (inner.options.some((option) => option instanceof z.ZodNumber)) kind = "number";
  }
  if (inner instanceof z.ZodNumber) kind = "number";
  if (inner instanceof z.ZodBoolean) kind = "boolean";
  if (inner instanceof z.ZodArray) {
    kind = inner.element instanceof z.ZodNumber ? "numbers" : "strings";
    if (repeated) kind = "repeated";
  }
  return { name, kind, schema, optional, default: fallback, description, ...wording };
}

/** The flag of a key. */
export function asFlag(name: string): string {
  return `--${name.replaceAll("_", "-")}`;
}

/** A value as it was given. */
export interface Given {
  value: unknown;
  /** What to call it in messages. */
  where: string;
  /** Where it was given: a flag, or a file's line. */
  place: string;
}

/** Given values by dotted key; a group's own name stands for its switch. */
export type Givens = Map<string, Given>;

/** A suggestion for an unknown name: `spell` writes a key the way it would have been typed. */
export function suggestion(
  word: string,
  keys: readonly Key[],
  spell: (name: string) => string = (name) => name,
): string {
  const names = keys.map(({ name }) => name);
  // Someone who writes `rank` wants `lora.rank`, however far apart the words are.
  const near = names.find((name) => name.endsWith(`.${word}`)) ?? nearest(word, names);
  return near === undefined ? "" : `; did you mean "${spell(near)}"?`;
}

/** A value as messages show it. */
export function shown(value: unknown): string {
  return typeof value === "number" ? String(value) : JSON.stringify(value);
}

/** Whether a value means "as if it were not given". */
function isUnset(value: unknown, key: Key): boolean {
  if (value === null || value === undefined) return true;
  return key.optional && (value === "none" || (value === "all" && key.kind === "number"));
}

/**
 * Checks every value against its key's schema and fills in defaults; faulty values, and keys that
 * should have been given, are reported and left out. Groups' switches are the caller's to read.
 */
export function checkValues(
  keys: readonly Key[],
  givens: Givens,
  problems: string[],
): Map<string, unknown> {
  const checked = new Map<string, unknown>();
  for (const key of keys) {
    if (key.kind === "group") continue;
    const given = givens.get(key.name);
    const value = given === undefined || isUnset(given.value, key) ? undefined : given.value;
    const result = key.schema.safeParse(value);
    if (result.success) {
      checked.set(key.name, result.data);
      continue;
    }
    if (given === undefined) {
      problems.push(`${asFlag(key.name)} is missing; expected ${key.expected}`);
      continue;
    }
    const choices = key.value.includes("|") ? key.value.split("|") : [];
    const hint = typeof value === "string" ? didYouMean(value, choices) : "";
    const problem = key.problem?.(value);
    problems.push(
      problem === undefined
        ? `${given.where} is ${shown(value)}; expected ${key.expected}${hint}`
        : `${given.where}: ${problem}`,
    );
  }
  return checked;
}
