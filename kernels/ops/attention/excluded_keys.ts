/**
 * Ranges of keys that queries do not attend to: documents that begin alike share the rows of their beginning, so
 * that the keys of a later one are that beginning and its own rows, and not what lies between (a prefix-sharing
 * mask).
 *
 * excludedKeys `[rows, 2]` u32: query i does not attend to the keys from excludedKeys[i, 0] to before
 * excludedKeys[i, 1]; none where both are 0. The range of a query holds no key of a later query. Programs that
 * exclude none are not bound to them.
 *
 * @module
 */
import { type Binding, readsScalars } from "../../gpu/program.ts";
import type { RowWord } from "./row_index.ts";

/** The binding of a program that excludes keys. */
export function excludedBindings(excludes: boolean): Binding[] {
  return excludes ? readsScalars("u32", "excluded_keys") : [];
}

/**
 * WGSL that reads a row's range into `excluded_low` and `excluded_high`, which are declared before and have
 * `index` after their names.
 *
 * @param value WGSL to be made of what is read.
 */
export function readExcluded(
  row: string,
  { excludes, word, index = "", value = (word) => word }: {
    excludes: boolean;
    word: RowWord;
    index?: number | "";
    value?: (word: string) => string;
  },
): string {
  if (!excludes) return "";
  return `excluded_low${index} = ${value(word("excluded_keys", row, 0))};
    excluded_high${index} = ${value(word("excluded_keys", row, 1))};`;
}

/** WGSL that follows a condition: and the column lies outside row `i`'s range. */
export function outsideExcluded(column: string, i: number, excludes: boolean): string {
  return excludes ? ` && (${column} < excluded_low${i} || ${column} >= excluded_high${i})` : "";
}

/**
 * WGSL for where the tile of the other side after the one at `tile` begins, the name of a variable. What the workgroup's first query
 * excludes, from `skip_low` to `skip_high`, is left out, as no later query attends to it either.
 */
export function nextTile(columns: number, excludes: boolean, tile = "tile"): string {
  const next = `${tile} + ${columns}u`;
  return excludes ? `select(${next}, skip_high, ${next} >= skip_low && ${next} < skip_high)` : next;
}
