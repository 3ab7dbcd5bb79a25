/**
 * The KV cache: keys and values of the tokens so far, of every block, allocated once.
 *
 * @module
 */
import type { Memory } from "../../kernels/gpu/memory.ts";
import type { Dtype } from "../../kernels/gpu/tensor.ts";
import type { CachedBlock } from "./block.ts";
import type { ModelConfig } from "../families/config.ts";

/** What sizes a cache. */
export interface CacheSizes {
  sequences: number;
  /** Tokens of one sequence at most. */
  context: number;
  dtype: Dtype;
}

/**
 * Keys and values `[sequences · context, kv_heads · head_dim]` of every block; sequence i has rows
 * i · context to (i + 1) · context.
 */
export class KvCache {
  readonly blocks: CachedBlock[];

  constructor(memory: Memory, config: ModelConfig, readonly sizes: CacheSizes) {
    const { sequences, context, dtype } = sizes;
    const shape = [sequences * context, config.num_key_value_heads * config.head_dim];
    const make = (name: string) => memory.tensor("activation", name, dtype, shape);
    this.blocks = Array.from({ length: config.num_hidden_layers }, () => ({
      k: make("cached_k"),
      v: make("cached_v"),
    }));
  }

  /** Bytes of all keys and values. */
  get bytes(): number {
    return this.blocks.reduce((sum, { k, v }) => sum + k.bytes + v.bytes, 0);
  }
}
