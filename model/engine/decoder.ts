/**
 * Sequences on their way through the model: a prefill pass brings in whole prompts through the matrix
 * kernels, then every step feeds the next token of each sequence. With a KV cache a step reads the
 * keys and values of earlier tokens; without one it computes all of them again.
 *
 * Which token follows is not decided here: `decide` gets the logits of each pass and puts the ids
 * of the next tokens into {@linkcode Decoder.ids}.
 *
 * @module
 */
import { advance } from "../../kernels/ops/sampling/advance.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import type { Memory } from "../../kernels/gpu/memory.ts";
import { moveRows } from "../../kernels/ops/rows/move_rows.ts";
import type { Dtype, Tensor } from "../../kernels/gpu/tensor.ts";
import { putTokens } from "../../kernels/ops/sampling/token_history.ts";
import type { Batch } from "../transformer/batch.ts";
import { KvCache } from "../transformer/kv_cache.ts";
import { commonPrefix } from "../transformer/common_prefix.ts";
import type { Llama, LlamaOptions } from "../transformer/llama.ts";

/** What sizes a decoder. */
export interface DecoderSizes {
  /** Sequences at once. */
  sequences: number;
  /** Tokens of one sequence at most, prompt and answer. */
  context: number;
  /** Tokens of all prompts together at most. */
  promptTokens: number;
  /** Element type of the KV cache; absent to do without one. */
  cache?: Dtype;
}

/** Tokens of one prefill pass at most: larger passes are no faster and take more memory. */
const PREFILL_TOKENS = 2048;

/** What a model needs to be made with for such a decoder. */
export function decoderPasses(
  { sequences, context, promptTokens, cache }: DecoderSizes,
): Pick<LlamaOptions, "maxTokens" | "maxTargets" | "maxPosition" | "decodedSequences"> {
  return {
    maxTokens: cache ? Math.min(PREFILL_TOKENS, promptTokens) : sequences * context,
    maxTargets: sequences,
    maxPosition: context,
    decodedSequences: sequences,
  };
}

/** Logits `[rows, padded vocabulary]` of sequences `first` to `first + rows`. */
export type Decide = (logits: Tensor, first: number, rows: number) => void;

/** Tokens of one sequence that a pass computes. */
interface Piece {
  /** As {@linkcode Batch.ids}. */
  ids: ArrayLike<number>;
  /** Position of the first. */
  from: number;
  /** First row of the sequence in the cache. */
  base: number;
  /** Whether its last token's logits are wanted. */
  last: boolean;
}

/** Pieces laid end to end. `window`: most keys a token sees. `history`: as in {@linkcode Batch}. */
function layPieces(
  pieces: readonly Piece[],
  { window, cached, history }: { window: number; cached: boolean; history?: Tensor },
): Batch {
  const tokens = pieces.reduce((sum, { ids }) => sum + ids.length, 0);
  const column = () => new Uint32Array(tokens);
  const batch = {
    ids: column(),
    positions: column(),
    starts: column(),
    ends: column(),
    queryEnds: column().fill(tokens),
    cacheRows: cached ? column() : undefined,
  };
  const targetRows: number[] = [];
  let row = 0;
  for (const { ids, from, base, last } of pieces) {
    // The row of the sequence's first key, where this pass looks for keys.
    const firstKey = cached ? base : row;
    for (let i = 0; i < ids.length; i++) {
      const position = from + i;
      batch.ids[row] = ids[i];
      batch.positions[row] = position;
      batch.starts[row] = firstKey + Math.max(0, position + 1 - window);
      batch.ends[row] = firstKey + position + 1;
      if (batch.cacheRows) batch.cacheRows[row] = base + position;
      row++;
    }
    if (last) targetRows.push(row - 1);
  }
  const targetCount = targetRows.length;
  return {
    ...batch,
    tokens,
    targetCount,
    targetRows: Uint32Array.from(targetRows),
    targets: new Uint32Array(targetCount),
    weights: new Float32Array(targetCount),
    lossGroups: [],
    history,
  };
}

/** Sequences and the buffers that their decoding needs beside the model's. */
export class Decoder {
  readonly cache?: KvCache;
  /** Without a cache, the tokens of each place `[sequences, context]` u32, for passes to read. */
  readonly #history?: Tensor;
  readonly #bases: Tensor;
  readonly #limits: Tensor;
  /** All tokens of each live sequence, as far as the host knows them. */
  #sequences: number[][] = [];
  /** Place in the cache, or in the history, of each live sequence. */
  #places: number[] = [];
  /** Tokens of each live sequence that were fed, those that the host doesn't know yet included. */
  #fed: number[] = [];

  /** @param model Made with {@linkcode decoderPasses} of the same sizes. */
  constructor(memory: Memory, readonly model: Llama, readonly sizes: DecoderSizes) {
    const { sequences, context, cache: dtype } = sizes;
    if (dtype) this.cache = new KvCache(memory, model.config, { sequences, context, dtype });
    const make = (name: string, ...shape: number[]) =>
      memory.tensor("workspace", name, "u32", [sequences, ...shape]);
    if (!dtype) this.#history = make("history", context);
    this.#bases = make("cache_bases");
    this.#limits = make("cache_limits");
  }

  /** Next token of each live sequence `[sequences]` u32, for `decide` to write. */
  get ids(): Tensor {
    return this.model.decoded.ids;
  }

  /** Position of each live sequence's last token, while `decide` is called `[sequences]` u32. */
  get positions(): Tensor {
    return this.model.decoded.positions;
  }

  /** Number of live sequences. */
  get rows(): number {
    return this.#sequences.length;
  }

  /**
   * Starts sequences with their prompts, one or more tokens each.
   *
   * @param reuse What the cache holds of a prompt from before is not computed again: for conversations.
   *   The weights must not have changed since.
   */
  begin(
    gpu: Gpu,
    prompts: readonly (readonly number[])[],
    decide: Decide,
    { reuse = false }: { reuse?: boolean } = {},
  ): void {
    const { sequences, context } = this.sizes;
    if (prompts.length > sequences || prompts.some(({ length }) => length > context)) {
      throw new Error(`prompts exceed the plan's ${sequences} sequences of ${context} tokens`);
    }
    const held = reuse ? this.#held() : new Map<number, number[]>();
    this.#live(gpu, prompts.map((ids, place) => ({ place, ids })));
    if (this.cache === undefined) return this.#recompute(gpu, decide);
    const most = this.model.options.maxTokens;
    let together: Piece[] = [], tokens = 0, first = 0;
    const flush = () => {
      if (together.length > 0) this.#pass(gpu, together, first, decide);
      first += together.length;
      [together, tokens] = [[], 0];
    };
    prompts.forEach((ids, place) => {
      const base = place * context;
      // The last token is computed in any case: its logits are wanted.
      const kept = Math.min(commonPrefix(ids, held.get(place) ?? []), ids.length - 1);
      if (tokens + ids.length > most || kept > 0) flush();
      if (kept === 0 && ids.length <= most) {
        together.push({ ids, from: 0, base, last: true });
        tokens += ids.length;
        return;
      }
      for (let from = kept; from < ids.length; from += most) {
        const end = Math.min(from + most, ids.length);
        const piece = { ids: ids.slice(from, end), from, base, last: end === ids.length };
        this.#pass(gpu, [piece], first, decide);
      }
      first++;
    });
    flush();
  }

  /** Feeds the next token of every live sequence. */
  step(gpu: Gpu, decide: Decide): void {
    const { rows, model } = this;
    const { positions, starts, ends, keyRows: cacheRows } = model.decoded;
    advance(gpu, {
      positions,
      starts,
      ends,
      cacheRows: cacheRows!,
      bases: this.#bases,
      limits: this.#limits,
      rows,
      window: model.config.sliding_window,
    });
    this.#fed = this.#fed.map((tokens) => Math.min(tokens + 1, this.sizes.context));
    if (this.cache === undefined) {
      putTokens(gpu, { ids: this.ids, places: cacheRows!, history: this.#history!, rows });
      return this.#recompute(gpu, decide);
    }
    const { blocks } = this.cache, longest = Math.max(...this.#fed);
    decide(model.decode(gpu, rows, { blocks, longest }), 0, rows);
  }

  /** Tells the host's side which tokens were decided; `ids[i]` are the next ones of sequence i. */
  append(ids: readonly (readonly number[])[]): void {
    ids.forEach((next, i) => this.#sequences[i].push(...next));
  }

  /** Tokens of the live sequences whose keys and values the cache holds, by place. */
  #held(): Map<number, number[]> {
    return new Map(this.#sequences.map((ids, i) => {
      // The last token is not in the cache before it is fed, and a full sequence's last row is anyone's.
      return [this.#places[i], ids.slice(0, Math.min(ids.length, this.sizes.context) - 1)];
    }));
  }

  /**
   * Replaces the live sequences: each has all its tokens but the last in its `place` of the cache, and
   * the last is fed next.
   *
   * @param copies Places whose tokens from `from` on are copied first.
   */
  arrange(
    gpu: Gpu,
    live: readonly { place: number; ids: readonly number[] }[],
    copies: readonly { from: number; to: number; first: number; tokens: number }[] = [],
  ): void {
    const { context } = this.sizes;
    for (const { from, to, first, tokens: rows } of copies) {
      if (rows === 0) continue;
      const range = { from: from * context + first, to: to * context + first, rows };
      for (const { k, v } of this.cache?.blocks ?? []) {
        moveRows(gpu, { x: k, ...range });
        moveRows(gpu, { x: v, ...range });
      }
    }
    this.#live(gpu, live.map(({ place, ids }) => ({ place, ids: ids.slice(0, -1) })));
    this.#sequences.forEach((sequence, i) => sequence.push(live[i].ids.at(-1)!));
    gpu.write(this.ids, Uint32Array.from(live, ({ ids }) => ids.at(-1)!));
  }

  /** Sets what the GPU knows of each sequence: its last position, its place and, without a cache, its tokens. */
  #live(gpu: Gpu, live: readonly { place: number; ids: readonly number[] }[]): void {
    const { context } = this.sizes;
    this.#sequences = live.map(({ ids }) => [...ids]);
    this.#places = live.map(({ place }) => place);
    this.#fed = live.map(({ ids }) => ids.length);
    const { positions, targetRows } = this.model.decoded;
    gpu.write(positions, Uint32Array.from(live, ({ ids }) => ids.length - 1));
    gpu.write(targetRows, Uint32Array.from(live.keys()));
    gpu.write(this.#bases, Uint32Array.from(live, ({ place }) => place * context));
    gpu.write(this.#limits, new Uint32Array(live.length).fill(context));
    if (this.#history === undefined) return;
    const history = new Uint32Array(this.#history.size);
    for (const { place, ids } of live) history.set(ids, place * context);
    gpu.write(this.#history, history);
  }

  #pass(gpu: Gpu, pieces: readonly Piece[], first: number, decide: Decide): void {
    const window = this.model.config.sliding_window ?? Infinity, { cache } = this;
    const layout = { window, cached: cache !== undefined, history: this.#history };
    const batch = layPieces(pieces, layout);
    const logits = this.model.logits(gpu, batch, cache && { blocks: cache.blocks });
    if (batch.targetCount > 0) decide(logits, first, batch.targetCount);
  }

  /** All tokens of all sequences in one pass, for decoding without a cache. */
  #recompute(gpu: Gpu, decide: Decide): void {
    const pieces = this.#fed.map((tokens, i): Piece => {
      const first = this.#places[i] * this.sizes.context;
      const ids = Uint32Array.from({ length: tokens }, (_, position) => first + position);
      return { ids, from: 0, base: 0, last: true };
    });
    this.#pass(gpu, pieces, 0, decide);
  }
}
