/**
 * Rows of RoPE's tables for tokens that are the last of their sequences, where texts of more than `shortTexts` tokens have
 * rows of their own, `shortTexts` further on: tableRows[i] = positions[i] + (positions[i] < shortTexts ? 0 : shortTexts).
 * Both tensors are `[rows]` u32.
 *
 * @module
 */
import { elementGrid, elementMain } from "../../gpu/elementwise.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { programFamily, readsScalars, writesScalars } from "../../gpu/program.ts";
import type { Tensor } from "../../gpu/tensor.ts";

const program = programFamily("table_rows", () => ({
  bindings: [...readsScalars("u32", "positions"), ...writesScalars("u32", "table_rows")],
  uniforms: { vectors: "u32", short_texts: "u32" },
  body: elementMain(`
  let position = positions[i];
  table_rows[i] = position + select(u.short_texts, 0u, position < u.short_texts);`),
}));

/** Writes the rows of the first `rows` tokens. */
export function lastTokenRows(
  gpu: Gpu,
  { positions, tableRows, rows, shortTexts }: {
    positions: Tensor;
    tableRows: Tensor;
    rows: number;
    shortTexts: number;
  },
): void {
  const uniforms = { vectors: rows, short_texts: shortTexts };
  gpu.run(program({}), [positions, tableRows], uniforms, elementGrid(rows), {
    flops: 0,
    bytes: 8 * rows,
  });
}
