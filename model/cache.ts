/**
 * The KV cache: keys and values of the tokens so far, of every block, allocated once.
 *
 * @module
 */
import type { Memory } from "../kernels/memory.ts";
import type { Dtype, Tensor } from "../kernels/tensor.ts";
import type { CacheRows } from "./block.ts";
import type { LlamaConfig } from "./config.ts";

/** Keys and values `[capacity, kv_heads·head_dim]` of every block. */
export class KvCache {
  readonly #k: Tensor[];
  readonly #v: Tensor[];
  /** Tokens in it. */
  length = 0;

  constructor(memory: Memory, config: LlamaConfig, readonly capacity: number, dtype: Dtype) {
    const width = config.num_key_value_heads * config.head_dim;
    const make = (name: string) =>
      Array.from(
        { length: config.num_hidden_layers },
        () => memory.tensor("activation", name, dtype, [capacity, width]),
      );
    this.#k = make("cached_k");
    this.#v = make("cached_v");
  }

  /** What a pass over the next tokens is given. */
  rows(): CacheRows[] {
    return this.#k.map((k, i) => ({ k, v: this.#v[i], length: this.length }));
  }
}
