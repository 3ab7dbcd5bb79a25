/**
 * Where the heads of queries, keys and values lie: side by side in a range of a tensor's columns, so
 * that all three may be parts of one tensor.
 *
 * @module
 */
import type { Tensor } from "../../gpu/tensor.ts";

/** Heads side by side in the columns of a tensor, from column `from` (a multiple of 4) on. */
export interface Heads {
  tensor: Tensor;
  from: number;
}

/** Uniforms that place the heads of each name, in vectors of four: from row to row, and the first. */
export function headUniforms(...names: string[]): Record<string, "u32"> {
  return Object.fromEntries(names.flatMap((x) => [[`${x}_stride`, "u32"], [`${x}_from`, "u32"]]));
}

/**
 * Values of {@linkcode headUniforms}; a tensor alone has its heads from column 0 on.
 *
 * @throws {Error} where columns or rows do not begin at multiples of four elements.
 */
export function headValues(all: Readonly<Record<string, Heads | Tensor>>): Record<string, number> {
  const values: Record<string, number> = {};
  for (const [name, x] of Object.entries(all)) {
    const { tensor, from } = "tensor" in x ? x : { tensor: x, from: 0 };
    if (from % 4 !== 0 || tensor.rowSize % 4 !== 0) {
      throw new Error(`attention: ${name} is not aligned to vectors of four`);
    }
    values[`${name}_stride`] = tensor.rowSize / 4;
    values[`${name}_from`] = from / 4;
  }
  return values;
}

/** WGSL for the first vector of a head row. */
export function headStart(name: string, row: string, head: string, vectors: number): string {
  return `((${row}) * u.${name}_stride + u.${name}_from + (${head}) * ${vectors}u)`;
}
