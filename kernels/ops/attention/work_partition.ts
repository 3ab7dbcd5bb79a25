/**
 * How the gradient programs partition their work over workgroups. One program makes both gradients: workgroups of the key
 * side own keys and walk over queries, the others own queries and walk over keys.
 *
 * @module
 */
import type { RowWord } from "./row_index.ts";

/** WGSL for a word that only rows of queries have: 0 for keys. */
export const ofQueries = (word: string): string => `select(${word}, 0u, key_side)`;

/**
 * WGSL that finds the workgroup's head or heads, its own `rows` rows and the range of the other side's.
 *
 * @param from `rows`: the workgroup's own. `unit`: vectors, or words, of a head row, as the program's uniforms count them.
 *   `excludes`: queries exclude keys (excluded_keys.ts): then `query_ends` may fall from one key to the next.
 */
export function partitionGradient(
  { rows, unit, excludes, word }: { rows: number; unit: number; excludes: boolean; word: RowWord },
): string {
  return `// The longest work goes first: keys that many queries attend to, queries that attend to many keys.
  let key_side = group.y % 2u == 0u;
  if (key_side && group.x >= u.kv_heads) { return; }
  let sharing = u.heads / u.kv_heads;
  let kv_head = select(group.x / sharing, group.x, key_side);
  var head = select(group.x, group.x * sharing, key_side);
  let head_end = select(head + 1u, head + sharing, key_side);
  let number = select((u.rows - 1u) / ${rows}u - group.y / 2u, group.y / 2u, key_side);
  let first = number * ${rows}u;
  let last = min(first + ${rows}u, u.rows) - 1u;
  let other_first = select(${word("starts", "first")}, first, key_side);
  var other_end = select(${word("ends", "last")}, ${word("query_ends", "last")}, key_side);
  ${
    excludes
      ? `if (key_side) {
    for (var row = first; row < last; row++) { other_end = max(other_end, ${
        word("query_ends", "row")
      }); }
  }
  let skip_low = ${ofQueries(word("excluded_keys", "first", 0))};
  let skip_high = ${ofQueries(word("excluded_keys", "first", 1))};`
      : ""
  }
  let own_start = select(u.q_from + head * ${unit}u, u.k_from + kv_head * ${unit}u, key_side);
  let own_value_start =
    select(u.dout_from + head * ${unit}u, u.v_from + kv_head * ${unit}u, key_side);`;
}
