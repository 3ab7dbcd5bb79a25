/**
 * Holes in the keys of queries: documents that begin alike share the rows of their beginning, so that the keys of
 * a later one are that beginning and its own rows, and not what lies between.
 *
 * `holes` `[rows, 2]` u32: query i does not attend to the keys from holes[i, 0] to before holes[i, 1]; none where
 * both are 0. The hole of a query holds no key of a later query. Programs without holes are not bound to them.
 *
 * @module
 */
import { type Binding, readsScalars } from "../program.ts";

/** The binding of a program that is `holed`. */
export function holeBindings(holed: boolean): Binding[] {
  return holed ? readsScalars("u32", "holes") : [];
}

/**
 * WGSL for where the tile of the other side after the one at `tile` begins. What lies in the hole of the workgroup's
 * first query, from `skip_low` to `skip_high`, is left out, as no later query attends to it either.
 */
export function nextTile(columns: number, holed: boolean): string {
  const next = `tile + ${columns}u`;
  return holed ? `select(${next}, skip_high, ${next} >= skip_low && ${next} < skip_high)` : next;
}
