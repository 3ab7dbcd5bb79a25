/**
 * What differs from layer to layer of a specification, each once: sliding windows, and tables of positions.
 *
 * @module
 */
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import type { Memory } from "../../kernels/gpu/memory.ts";
import type { Tensor } from "../../kernels/gpu/tensor.ts";
import { ropeTable } from "../../kernels/ops/rope/rope.ts";
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

/** Frequencies 0: the rotation of layers that don't encode positions. */
const UNROTATED: RopeSpec = {
  theta: 1,
  scaling: { type: "linear", factor: Infinity },
  trainedPositions: 1,
};

/** Cosines and sines of the positions `[positions, head_dim]` f32, one table for all layers that rotate alike. */
export class RopeTables {
  readonly #tables = new Map<string, { rope: RopeSpec; table: Tensor }>();

  constructor(memory: Memory, readonly spec: ArchSpec, positions: number) {
    for (const { rope } of spec.layers) {
      const key = JSON.stringify(rope);
      if (this.#tables.has(key)) continue;
      const table = memory.tensor("workspace", "rope", "f32", [positions, spec.head_dim]);
      this.#tables.set(key, { rope: rope ?? UNROTATED, table });
    }
  }

  /** The table of a layer of the specification. */
  of(rope: RopeSpec | null): Tensor {
    const found = this.#tables.get(JSON.stringify(rope));
    if (found === undefined) throw new Error("no layer of the specification rotates so");
    return found.table;
  }

  /** Writes the tables. */
  initialize(gpu: Gpu): void {
    for (const { rope, table } of this.#tables.values()) {
      const positions = table.shape[0];
      gpu.write(table, ropeTable({ headDim: this.spec.head_dim, positions, ...rope }));
    }
  }
}
