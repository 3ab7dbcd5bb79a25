/**
 * WGSL of what a thread multiplies weights with (matvec/program.ts): its parts of A's rows, as they are stored
 * or added up from ranges of keys, their norm and their rounding.
 *
 * Part p of row i in step s is `x{i}_{s}_{p}`, a vector of four.
 *
 * @module
 */
import { combinedSplits, splitBindings } from "../attention/decode/kv_splits.ts";
import { type Binding, reads } from "../../gpu/program.ts";
import { repeat } from "../../wgsl/repeat.ts";
import type { Dtype } from "../../gpu/tensor.ts";
import { rmsScale } from "../../wgsl/rms.ts";
import type { Float } from "../numerics.ts";
import type { MatvecLayout } from "./layout.ts";
import { sumOverWorkgroup } from "./sums.ts";

/** What a product's input depends on. */
export type InputKind = {
  a: Dtype;
  /** The norm's weight; A's rows are multiplied as they are where there is none. */
  norm: Dtype | "none";
  /** What A is rounded to before it is multiplied. */
  operands: Float;
  rows: number;
  /** Loads of a row of B of a `whole` product. */
  vectors: number;
  /** A begins where its tensor does and its rows lie side by side; so it is with C. */
  compact: boolean;
  /** Ranges of keys whose results A's only row is the sum of, by heads of so many columns; 0: none. */
  ranges: number;
  headDim: number;
};

/** Bindings that stand for A. */
export function inputBindings({ a, ranges }: InputKind): Binding[] {
  return ranges === 0 ? reads(a, "a") : splitBindings();
}

/** Parts of row i in step s. */
export function partsOf(i: number, s: number, { wide }: MatvecLayout): string[] {
  return Array.from({ length: wide / 4 }, (_, p) => `x${i}_${s}_${p}`);
}

/** A line for each part that a thread has in `steps` steps. */
function eachPart(
  rows: number,
  steps: number,
  layout: MatvecLayout,
  line: (x: string, place: { i: number; s: number; p: number }) => string,
): string {
  const ofStep = (i: number, s: number) =>
    partsOf(i, s, layout).map((x, p) => line(x, { i, s, p })).join("\n");
  return repeat(rows, (i) => repeat(steps, (s) => ofStep(i, s)));
}

/** A thread's parts, as they are stored. */
export function loadedParts(
  { rows, vectors, compact }: InputKind,
  layout: MatvecLayout,
  { loads, within }: {
    /** The load of B that each step's parts belong to. */
    loads: readonly string[];
    /** Says for a step in WGSL whether the thread has a part in it; absent where it always has. */
    within?: (s: number) => string;
  },
): string {
  const parts = layout.wide / 4;
  // Not by way of uniforms where that can be: loads would wait for them.
  const start = (i: number) =>
    compact ? `${i * vectors * parts}u` : `u.aOffset + ${i}u * u.aStride`;
  return eachPart(rows, loads.length, layout, (x, { i, s, p }) => {
    const loaded = `load_a(${start(i)} + (${loads[s]}) * ${parts}u + ${p}u)`;
    return `  var ${x} = ${within ? `select(vec4<f32>(), ${loaded}, ${within(s)})` : loaded};`;
  });
}

/** The same, added up from ranges of keys. */
function rangedParts(
  { vectors, ranges, headDim }: InputKind,
  layout: MatvecLayout,
  { loads, within }: Parameters<typeof loadedParts>[2],
): string {
  const columns = vectors * layout.wide;
  return loads.map((load, s) => {
    const names = partsOf(0, s, layout);
    const sums = combinedSplits({ splits: ranges, headDim, columns, load, names });
    if (within === undefined) return sums;
    return [sums, ...names.map((x) => `  ${x} = select(vec4<f32>(), ${x}, ${within(s)});`)].join(
      "\n",
    );
  }).join("\n");
}

/** Rounds the parts of so many steps, where A is rounded. */
export function roundedParts(
  { rows, operands }: InputKind,
  layout: MatvecLayout,
  steps: number,
): string {
  if (operands === "f32") return "";
  return eachPart(rows, steps, layout, (x) => `  ${x} = rounded(${x});`);
}

/** Makes the norm of the parts; `early`: its weights are asked for before the sum of squares is made. */
function normedParts(
  { rows, vectors }: InputKind,
  layout: MatvecLayout,
  { loads, early }: { loads: readonly string[]; early: boolean },
): string {
  const { wide } = layout, steps = loads.length;
  const weight = (s: number, p: number) => `load_w(${loads[s]} * ${wide / 4}u + ${p}u)`;
  const name = (s: number, p: number) => `norm${s}_${p}`;
  const each = (line: Parameters<typeof eachPart>[3]) => eachPart(rows, steps, layout, line);
  const asked = eachPart(
    1,
    steps,
    layout,
    (_, { s, p }) => `  let ${name(s, p)} = ${weight(s, p)};`,
  );
  const squares = Array.from({ length: rows }, (_, i) => `square${i}`);
  const scale = (i: number) => rmsScale(`total_squares(${i}u, slots)`, `${vectors * wide}.0`);
  return `${early ? asked : ""}
${repeat(rows, (i) => `  var square${i} = 0.0;`)}
${each((x, { i }) => `  square${i} += dot(${x}, ${x});`)}
  ${sumOverWorkgroup("squares", squares, (i) => `${i}u`, layout)}
  workgroupBarrier();
${repeat(rows, (i) => `  let scale${i} = ${scale(i)};`)}
${each((x, { i, s, p }) => `  ${x} *= scale${i} * ${early ? name(s, p) : weight(s, p)};`)}`;
}

/** All parts of a `whole` product's threads, at the loads `v0`, `v1`, … . */
export function wholeInput(kind: InputKind, layout: MatvecLayout, early: boolean): string {
  const { norm, vectors, ranges } = kind, { steps, threads } = layout;
  const loads = Array.from({ length: steps }, (_, s) => `v${s}`);
  // Past the end: zeros times the last weight.
  const within = threads * steps === vectors
    ? undefined
    : (s: number) => `thread + ${s * threads}u < vectors`;
  return [
    (ranges > 0 ? rangedParts : loadedParts)(kind, layout, { loads, within }),
    norm === "none" ? "" : normedParts(kind, layout, { loads, early }),
    roundedParts(kind, layout, steps),
  ].join("\n");
}
