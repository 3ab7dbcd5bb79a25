/**
 * What differs from layer to layer of a specification, each once: sliding windows, and tables of positions.
 *
 * @module
 */
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import type { Memory } from "../../kernels/gpu/memory.ts";
import type { Tensor } from "../../kernels/gpu/tensor.ts";
import { ropeTable, tableWidth } from "../../kernels/ops/rope/frequencies.ts";
import type { Rotary } from "../../kernels/ops/rope/rotary.ts";
import type { ArchSpec, RopeSpec } from "../families/spec.ts";

/** The sliding windows of a model's layers, each once, the widest first. */
export function slidingWindowsOf({ layers }: ArchSpec): (number | null)[] {
  const width = (window: number | null) => window ?? Infinity;
  return [...new Set(layers.map(({ window }) => window))].sort((a, b) =>
    width(a) === width(b) ? 0 : width(b) - width(a)
  );
}

/** The widest of them, which batches are laid out for. */
export function widestWindow(spec: ArchSpec): number | null {
  return slidingWindowsOf(spec)[0] ?? null;
}

/** The narrowest of them: documents that are no longer attend to all of their keys in every layer. */
export function narrowestWindow(spec: ArchSpec): number | null {
  return slidingWindowsOf(spec).at(-1) ?? null;
}

/**
 * The length of a text up to which `longrope` takes its factors for short ones; null where no layer has it, so that a text
 * is rotated alike whatever its length.
 */
function shortTexts({ layers }: ArchSpec): number | null {
  for (const { rope } of layers) {
    if (rope?.scaling?.type === "longrope") return rope.scaling.original_max_position_embeddings;
  }
  return null;
}

/** The longest text that may share the rows of its beginning with others; null where any may. */
export function longestSharing(spec: ArchSpec): number | null {
  const limits = [narrowestWindow(spec), shortTexts(spec)].filter((limit) => limit !== null);
  return limits.length === 0 ? null : Math.min(...limits);
}

/** Frequencies 0: the rotation of layers that don't encode positions. */
const unrotated = ({ head_dim }: ArchSpec): RopeSpec => ({
  theta: 1,
  scaling: { type: "linear", factor: Infinity },
  trainedPositions: 1,
  rotary: { dims: head_dim, pairs: "halves" },
});

/** A table of positions, and which elements of a head are rotated by it. */
export interface LayerRope {
  readonly table: Tensor;
  readonly rotary: Rotary;
}

/**
 * Cosines and sines `[rows, width]` f32, one table for all layers that rotate alike. Row p is position p; but where texts
 * of more than `shortTexts` tokens are rotated by other frequencies, those of short ones come first and row
 * `shortTexts` + p is position p of a longer one.
 */
export class RopeTables {
  /** The longest text that the first rows are for, where a run has longer ones; else null. */
  readonly shortTexts: number | null;
  readonly #tables = new Map<string, LayerRope & { rope: RopeSpec }>();

  constructor(memory: Memory, readonly spec: ArchSpec, readonly positions: number) {
    const short = shortTexts(spec);
    this.shortTexts = short !== null && positions > short ? short : null;
    const rows = positions + (this.shortTexts ?? 0);
    for (const { rope: given } of spec.layers) {
      const key = JSON.stringify(given);
      if (this.#tables.has(key)) continue;
      const rope = given ?? unrotated(spec), { rotary } = rope;
      const shape = [rows, tableWidth(rotary, spec.head_dim)];
      const table = memory.tensor("workspace", "rope", "f32", shape);
      this.#tables.set(key, { rope, rotary, table });
    }
  }

  /** The table of a layer of the specification. */
  of(rope: RopeSpec | null): LayerRope {
    const found = this.#tables.get(JSON.stringify(rope));
    if (found === undefined) throw new Error("no layer of the specification rotates so");
    return found;
  }

  /** Writes the tables. */
  initialize(gpu: Gpu): void {
    const { positions, shortTexts, spec: { head_dim: headDim } } = this;
    for (const { rope, table } of this.#tables.values()) {
      const write = (positions: number, first: number) =>
        gpu.write(table, ropeTable({ headDim, positions, ...rope }), first * table.rowSize);
      if (shortTexts !== null) write(shortTexts, 0);
      write(positions, shortTexts ?? 0);
    }
  }
}
