/**
 * The KV cache: keys and values of the tokens so far, of every block, allocated once.
 *
 * @module
 */
import type { Memory } from "../../kernels/gpu/memory.ts";
import type { Dtype } from "../../kernels/gpu/tensor.ts";
import type { ArchSpec } from "../families/spec.ts";
import type { BlockKeys } from "./activations.ts";

/** What sizes a cache. */
export interface CacheSizes {
  sequences: number;
  /** Tokens of one sequence at most. */
  context: number;
  dtype: Dtype;
}

/**
 * How a pass uses the KV cache: its keys and values are appended at the batch's `cacheRows`, and the
 * batch's `starts` and `ends` are rows of the cache.
 */
export interface CachePass {
  blocks: readonly BlockKeys[];
}

/** The same where every row is the next token of a sequence. */
export interface DecodePass extends CachePass {
  /** Most keys of a query. */
  longest: number;
}

/**
 * Keys and values `[sequences · context, kv_heads · head_dim]` of every block; sequence i has rows
 * i · context to (i + 1) · context.
 */
export class KvCache {
  readonly blocks: BlockKeys[];

  constructor(memory: Memory, spec: ArchSpec, readonly sizes: CacheSizes) {
    const { sequences, context, dtype } = sizes;
    const shape = [sequences * context, spec.num_key_value_heads * spec.head_dim];
    const make = (name: string) => memory.tensor("activation", name, dtype, shape);
    this.blocks = Array.from({ length: spec.layers.length }, () => ({
      k: make("cached_k"),
      v: make("cached_v"),
    }));
  }

  /** Bytes of all keys and values. */
  get bytes(): number {
    return this.blocks.reduce((sum, { k, v }) => sum + k.bytes + v.bytes, 0);
  }
}
