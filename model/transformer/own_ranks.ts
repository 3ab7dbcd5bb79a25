/**
 * Several adapters on one model: whose each rank is, and which of them the rows of a pass have.
 *
 * @module
 */
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import type { Memory } from "../../kernels/gpu/memory.ts";
import type { Tensor } from "../../kernels/gpu/tensor.ts";
import type { RowAdapters } from "../../kernels/ops/lora/own_ranks.ts";
import type { BatchTensors } from "./batch.ts";

/** Which adapters the rows of a pass have, and those that logits are made of; nothing where all have the same. */
export interface PassAdapters {
  rowAdapters?: RowAdapters;
  outputAdapters?: RowAdapters;
}

/** Whose the ranks of adapters are that lie side by side. */
export class OwnRanks {
  readonly #tensor: Tensor;

  /** @param owners The adapter of each rank, counted from 1. */
  constructor(memory: Memory, readonly owners: Uint32Array) {
    this.#tensor = memory.tensor("parameter", "adapter_owners", "u32", [owners.length]);
  }

  /** Adapters that there are. */
  get count(): number {
    return Math.max(...this.owners);
  }

  /** Writes the table. */
  initialize(gpu: Gpu): void {
    gpu.write(this.#tensor, this.owners);
  }

  /** What a pass over a batch needs. */
  of({ adapters }: BatchTensors): PassAdapters {
    if (adapters === undefined) return {};
    const owners = this.#tensor;
    return {
      rowAdapters: { owners, adapters: adapters.tokens },
      outputAdapters: { owners, adapters: adapters.targets },
    };
  }
}
