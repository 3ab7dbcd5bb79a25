/**
 * What all of attention's gradient programs are bound to.
 *
 * @module
 */
import { type Binding, reads, readsScalars, writes } from "../program.ts";
import type { Dtype } from "../tensor.ts";

/** The bindings of a gradient program: its ranges of rows by name, and RoPE's table where it is `turned` back. */
export function gradientBindings(
  dtype: Dtype,
  ranges: readonly string[],
  turned: boolean,
): Binding[] {
  return [
    ...reads(dtype, "qkv", "out", "dout"),
    ...readsScalars("f32", "lse"),
    ...readsScalars("u32", ...ranges),
    ...writes(dtype, "gradient"),
    ...turned ? [...reads("f32", "table"), ...readsScalars("u32", "positions")] : [],
  ];
}
