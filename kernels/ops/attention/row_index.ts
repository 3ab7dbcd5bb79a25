/**
 * What all of attention's gradient programs are bound to.
 *
 * @module
 */
import { type Binding, reads, readsScalars, writes } from "../../gpu/program.ts";
import { holeBindings } from "./excluded_keys.ts";
import type { Dtype } from "../../gpu/tensor.ts";

/** How the gradient programs differ in what they are bound to. */
export interface GradientVariant {
  /** RoPE is undone in dq and dk: there is its table. */
  turned: boolean;
  /** Keys have holes (holes.ts). */
  holed: boolean;
}

/** The bindings of a gradient program with these ranges of rows, by name. */
export function gradientBindings(
  dtype: Dtype,
  ranges: readonly string[],
  { turned, holed }: GradientVariant,
): Binding[] {
  return [
    ...reads(dtype, "qkv", "out", "dout"),
    ...readsScalars("f32", "lse"),
    ...readsScalars("u32", ...ranges),
    ...holeBindings(holed),
    ...writes(dtype, "gradient"),
    ...turned ? [...reads("f32", "table"), ...readsScalars("u32", "positions")] : [],
  ];
}
