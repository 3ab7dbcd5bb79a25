/**
 * WGSL of what a thread multiplies weights with (matvec/program.ts): its registers of A's rows, as stored or
 * combined from attention's KV splits, their norm and their rounding.
 *
 * Register p of row i in step s is `x{i}_{s}_{p}`, a vector of four.
 *
 * @module
 */
import { combinedSplits, splitBindings } from "../attention/decode/kv_splits.ts";
import { type Binding, reads } from "../../gpu/program.ts";
import { repeat } from "../../wgsl/repeat.ts";
import type { Dtype } from "../../gpu/tensor.ts";
import { type NormOffset, normWeight, rmsScale } from "../../wgsl/rms.ts";
import type { Float } from "../numerics.ts";
import type { MatvecLayout } from "./layout.ts";
import { sumOverWorkgroup } from "./sums.ts";

/** What a product's input depends on. */
export type InputKind = {
  a: Dtype;
  /** The norm's weight, or `none`: A's rows are multiplied without a norm. */
  norm: Dtype | "none";
  /** What is added to it. */
  normOffset: NormOffset;
  /** What A is rounded to before it is multiplied. */
  operands: Float;
  rows: number;
  /** Loads of a row of B of a `whole` product. */
  vectors: number;
  /** A and C begin where their tensors do, and their rows lie side by side. */
  compact: boolean;
  /** KV splits that make A's only row, by heads of so many columns; 0: A is stored whole. */
  kvSplits: number;
  headDim: number;
};

/** Bindings that stand for A. */
export function inputBindings({ a, kvSplits }: InputKind): Binding[] {
  return kvSplits === 0 ? reads(a, "a") : splitBindings();
}

/** Registers of row i in step s. */
export function registersOf(i: number, s: number, { wide }: MatvecLayout): string[] {
  return Array.from({ length: wide / 4 }, (_, p) => `x${i}_${s}_${p}`);
}

/** A line for each register of a thread in `steps` steps. */
function eachRegister(
  rows: number,
  steps: number,
  layout: MatvecLayout,
  line: (x: string, place: { i: number; s: number; p: number }) => string,
): string {
  const ofStep = (i: number, s: number) =>
    registersOf(i, s, layout).map((x, p) => line(x, { i, s, p })).join("\n");
  return repeat(rows, (i) => repeat(steps, (s) => ofStep(i, s)));
}

/** A thread's registers, loaded from A. */
export function loadedInput(
  { rows, vectors, compact }: InputKind,
  layout: MatvecLayout,
  { loads, within }: {
    /** The load of B that each step's registers belong to. */
    loads: readonly string[];
    /** WGSL of whether the thread takes part in a step; absent where it always does. */
    within?: (s: number) => string;
  },
): string {
  const perLoad = layout.wide / 4;
  // Not by way of uniforms where that can be: loads would wait for them.
  const start = (i: number) =>
    compact ? `${i * vectors * perLoad}u` : `u.aOffset + ${i}u * u.aStride`;
  return eachRegister(rows, loads.length, layout, (x, { i, s, p }) => {
    const loaded = `load_a(${start(i)} + (${loads[s]}) * ${perLoad}u + ${p}u)`;
    return `  var ${x} = ${within ? `select(vec4<f32>(), ${loaded}, ${within(s)})` : loaded};`;
  });
}

/** The same, combined from KV splits. */
function splitInput(
  { vectors, kvSplits, headDim }: InputKind,
  layout: MatvecLayout,
  { loads, within }: Parameters<typeof loadedInput>[2],
): string {
  const columns = vectors * layout.wide;
  return loads.map((load, s) => {
    const names = registersOf(0, s, layout);
    const combined = combinedSplits({ splits: kvSplits, headDim, columns, load, names });
    if (within === undefined) return combined;
    return [combined, ...names.map((x) => `  ${x} = select(vec4<f32>(), ${x}, ${within(s)});`)]
      .join(
        "\n",
      );
  }).join("\n");
}

/** Rounds the registers of so many steps, where A is rounded and is not stored so. */
export function roundedInput(
  { a, norm, kvSplits, rows, operands }: InputKind,
  layout: MatvecLayout,
  steps: number,
): string {
  const isStored = a === "f16" && norm === "none" && kvSplits === 0;
  if (operands === "f32" || isStored) return "";
  return eachRegister(rows, steps, layout, (x) => `  ${x} = rounded(${x});`);
}

/** Norms the registers. `early`: the weights of the norm are loaded before the sum of squares is made. */
function normedInput(
  { rows, vectors, normOffset }: InputKind,
  layout: MatvecLayout,
  { loads, early }: { loads: readonly string[]; early: boolean },
): string {
  const { wide } = layout, steps = loads.length;
  const weight = (s: number, p: number) =>
    normWeight(`load_w(${loads[s]} * ${wide / 4}u + ${p}u)`, normOffset);
  const name = (s: number, p: number) => `norm${s}_${p}`;
  const each = (line: Parameters<typeof eachRegister>[3]) =>
    eachRegister(rows, steps, layout, line);
  const loadedWeights = eachRegister(
    1,
    steps,
    layout,
    (_, { s, p }) => `  let ${name(s, p)} = ${weight(s, p)};`,
  );
  const squares = Array.from({ length: rows }, (_, i) => `square${i}`);
  const scale = (i: number) => rmsScale(`total_squares(${i}u, count)`, `${vectors * wide}.0`);
  return `${early ? loadedWeights : ""}
${repeat(rows, (i) => `  var square${i} = 0.0;`)}
${each((x, { i }) => `  square${i} += dot(${x}, ${x});`)}
  ${sumOverWorkgroup("squares", squares, (i) => `${i}u`, layout)}
  workgroupBarrier();
${repeat(rows, (i) => `  let scale${i} = ${scale(i)};`)}
${each((x, { i, s, p }) => `  ${x} *= scale${i} * ${early ? name(s, p) : weight(s, p)};`)}`;
}

/** All registers of a `whole` product's threads, at the loads `v0`, `v1`, … . */
export function wholeInput(kind: InputKind, layout: MatvecLayout, early: boolean): string {
  const { norm, vectors, kvSplits } = kind, { steps, threads } = layout;
  const loads = Array.from({ length: steps }, (_, s) => `v${s}`);
  // Past the end: zeros times the last weight.
  const within = threads * steps === vectors
    ? undefined
    : (s: number) => `thread + ${s * threads}u < vectors`;
  return [
    (kvSplits > 0 ? splitInput : loadedInput)(kind, layout, { loads, within }),
    norm === "none" ? "" : normedInput(kind, layout, { loads, early }),
    roundedInput(kind, layout, steps),
  ].join("\n");
}
