/**
 * Holes in the keys of queries: documents that begin alike share the rows of their beginning, so that the keys of
 * a later one are that beginning and its own rows, and not what lies between.
 *
 * `holes` `[rows, 2]` u32: query i does not attend to the keys from holes[i, 0] to before holes[i, 1]; none where
 * both are 0. The hole of a query holds no key of a later query. Programs without holes are not bound to them.
 *
 * @module
 */
import { type Binding, readsScalars } from "../../gpu/program.ts";

/** The binding of a program that is `holed`. */
export function holeBindings(holed: boolean): Binding[] {
  return holed ? readsScalars("u32", "holes") : [];
}

/**
 * WGSL that reads a row's hole into `hole_low` and `hole_high`, which are declared before and have `index` after
 * their names.
 *
 * @param value WGSL to be made of what is read.
 */
export function readHole(
  row: string,
  { holed, index = "", value = (word) => word }: {
    holed: boolean;
    index?: number | "";
    value?: (word: string) => string;
  },
): string {
  if (!holed) return "";
  return `hole_low${index} = ${value(`holes[2u * ${row}]`)};
    hole_high${index} = ${value(`holes[2u * ${row} + 1u]`)};`;
}

/** WGSL that follows a condition: and the column lies outside row `i`'s hole. */
export function outsideHole(column: string, i: number, holed: boolean): string {
  return holed ? ` && (${column} < hole_low${i} || ${column} >= hole_high${i})` : "";
}

/**
 * WGSL for where the tile of the other side after the one at `tile` begins. What lies in the hole of the workgroup's
 * first query, from `skip_low` to `skip_high`, is left out, as no later query attends to it either.
 */
export function nextTile(columns: number, holed: boolean): string {
  const next = `tile + ${columns}u`;
  return holed ? `select(${next}, skip_high, ${next} >= skip_low && ${next} < skip_high)` : next;
}
