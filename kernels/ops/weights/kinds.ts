/**
 * The kinds of weights that there are, by name: a new one is a file beside this one and a line here.
 *
 * @module
 */
import type { Dtype } from "../../gpu/tensor.ts";
import { DENSE } from "./dense.ts";
import { INT8 } from "./int8.ts";
import { INT8_ROWS } from "./int8_rows.ts";
import type { WeightKind } from "./kind.ts";
import { NF4, NF4_F32 } from "./nf4.ts";
import { Q4_0 } from "./q4_0.ts";
import { Q4_K } from "./q4_k.ts";
import { Q6_K } from "./q6_k.ts";

const KINDS: readonly WeightKind[] = [
  DENSE.f32,
  DENSE.f16,
  INT8,
  INT8_ROWS,
  NF4,
  NF4_F32,
  Q4_0,
  Q4_K,
  Q6_K,
];

const byName = new Map(KINDS.map((kind) => [kind.name, kind]));

/** Whether there is a kind of a name. */
export function isKind(name: string | undefined): name is string {
  return name !== undefined && byName.has(name);
}

/**
 * The kind of a name, which in a program's key stands for it.
 *
 * @throws {Error} where there is none.
 */
export function weightKind(name: string): WeightKind {
  const kind = byName.get(name);
  if (kind === undefined) throw new Error(`there are no weights of kind "${name}"`);
  return kind;
}

/**
 * The dense kind of an element type.
 *
 * @throws {Error} for integers.
 */
export function denseKind(dtype: Dtype): WeightKind {
  if (dtype === "u32") throw new Error("weights are floating-point numbers, not u32");
  return DENSE[dtype];
}
