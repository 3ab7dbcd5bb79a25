/**
 * What a user has given, before it is checked, and what to suggest for a name that is none.
 *
 * @module
 */

import { nearest } from "../kernels/errors.ts";
import { KEYS } from "./schema.ts";

/** A value as it was given, and what to call its place in messages. */
export interface Given {
  value: unknown;
  where: string;
}

/** Given values by dotted key; `lora` itself stands for its switch. */
export type Givens = Map<string, Given>;

/** The names of all keys, dotted inside `lora`. */
export const KEY_NAMES: readonly string[] = KEYS.map((key) => key.name);

/** A suggestion for an unknown name: `spell` writes a key the way it would have been typed. */
export function suggestion(
  word: string,
  spell: (name: string) => string = (name) => name,
): string {
  // Someone who writes `rank` wants `lora.rank`, however far apart the words are.
  const inner = KEY_NAMES.find((name) => name === `lora.${word}`);
  const near = inner ?? nearest(word, KEY_NAMES);
  return near === undefined ? "" : `; did you mean "${spell(near)}"?`;
}

/** The flag of a key. */
export const asFlag = (name: string): string => `--${name.replaceAll("_", "-")}`;
