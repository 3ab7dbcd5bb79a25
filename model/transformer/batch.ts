/**
 * A micro-batch: several documents laid end to end in one row of tokens, never padded. Attention
 * stays inside each document (and inside the model's sliding window, where it has one) and positions
 * restart at 0 in each. Documents that begin alike may share the rows of their beginning: a causal model computes the
 * same for it in each, and the documents' gradients add up there.
 *
 * @module
 */
import { present } from "../../kernels/present.ts";
import { groupTokens } from "../../kernels/ops/embedding/embedding.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import type { Memory } from "../../kernels/gpu/memory.ts";
import type { Dtype, Tensor } from "../../kernels/gpu/tensor.ts";
import { lastTokenRows } from "../../kernels/ops/rope/table_rows.ts";
import { takeTokens } from "../../kernels/ops/sampling/token_history.ts";
import { clipStarts } from "../../kernels/ops/rows/clip_starts.ts";
import { promptLengthOf, type Span } from "../text/targets.ts";
import { commonPrefix } from "./common_prefix.ts";

/** One document with the weight that each of its targets has in the loss. */
export interface Document {
  ids: Uint32Array;
  /** Which ids are targets; the first never is. */
  targets: readonly Span[];
  /** Weight of each target's negative log-likelihood. */
  weight: number;
  /** Which of the model's `losses` its targets add up in. Default 0. */
  slot?: number;
  /**
   * Its first ids that it shares with the nearest document before it that shares none: the rows of that document
   * serve both. The next token of such a row is no target of this document. Default 0.
   */
  shared?: number;
}

/** Targets, next to each other, whose weighted sum is one loss. */
export interface LossGroup {
  slot: number;
  firstRow: number;
  rows: number;
}

/** What the kernels read of a micro-batch, on the host. T tokens, S targets. */
export interface Batch {
  tokens: number;
  targetCount: number;
  /** Each token `[T]`; with `history` its place there. */
  ids: Uint32Array;
  /** Tokens on the GPU that the host may not know yet `[places]` u32. */
  history?: Tensor;
  /** Position of each token in its document `[T]`. */
  positions: Uint32Array;
  /** Tokens of its document, which longer ones than a row of RoPE's tables is for are told by `[T]`. */
  lengths: Uint32Array;
  /** First and one-past-last key that each token attends to `[T]`. */
  starts: Uint32Array;
  ends: Uint32Array;
  /** One past the last query that attends to each token `[T]`. */
  queryEnds: Uint32Array;
  /** Where documents share rows, the keys in between that each token does not attend to `[T, 2]`. */
  excludedKeys?: Uint32Array;
  /** Rows whose next token is a target, by slot `[S]`; in any order, and more than once where continuations share them. */
  targetRows: Uint32Array;
  targets: Uint32Array;
  weights: Float32Array;
  lossGroups: LossGroup[];
  /** Row of the KV cache that each token's key and value go to `[T]`; absent without a cache. */
  cacheRows?: Uint32Array;
  /** Adapter of each token, counted from 1, 0 for none `[T]`; absent where all have the same. */
  adapters?: Uint32Array;
}

/**
 * Lays documents end to end.
 *
 * @param slidingWindow The widest of the model's layers: query i attends to the keys j of its document with
 *   i − slidingWindow < j ≤ i, itself included, as a Mistral in `transformers` does. Documents longer than that share none.
 * @throws {Error} where a document can't share what it is said to.
 */
export function makeBatch(
  documents: readonly Document[],
  slidingWindow: number | null = null,
): Batch {
  const width = slidingWindow ?? Infinity;
  const tokens = documents.reduce((sum, { ids, shared = 0 }) => sum + ids.length - shared, 0);
  const batch: Batch = {
    tokens,
    targetCount: 0,
    ids: new Uint32Array(tokens),
    positions: new Uint32Array(tokens),
    lengths: new Uint32Array(tokens),
    starts: new Uint32Array(tokens),
    ends: new Uint32Array(tokens),
    queryEnds: new Uint32Array(tokens),
    targetRows: new Uint32Array(0),
    targets: new Uint32Array(0),
    weights: new Float32Array(0),
    lossGroups: [],
  };
  const shares = documents.some(({ shared = 0 }) => shared > 0);
  const excludedKeys = shares ? new Uint32Array(2 * tokens) : undefined;
  if (excludedKeys !== undefined) batch.excludedKeys = excludedKeys;
  const placed: { document: Document; first: number }[] = [];
  let start = 0, head: { start: number; ids: Uint32Array } = { start, ids: new Uint32Array() };
  for (const document of documents) {
    const { ids, shared = 0 } = document, end = start + ids.length - shared;
    if (shared === 0) head = { start, ids };
    else checkShared(document, head.ids, width);
    batch.ids.set(ids.subarray(shared), start);
    for (let i = start; i < end; i++) {
      batch.positions[i] = i - start + shared;
      batch.lengths[i] = ids.length;
      batch.starts[i] = shared > 0 ? head.start : Math.max(start, i - width + 1);
      batch.queryEnds[i] = Math.min(end, i + width);
      batch.ends[i] = i + 1;
      if (shared > 0) excludedKeys?.set([head.start + shared, start], 2 * i);
    }
    batch.queryEnds.fill(end, head.start, head.start + shared);
    // Where its first token would lie if all of it lay here.
    placed.push({ document, first: start - shared });
    start = end;
  }
  placed.sort((a, b) => (a.document.slot ?? 0) - (b.document.slot ?? 0));
  const rows: number[] = [], targets: number[] = [], weights: number[] = [];
  for (const { document, first } of placed) {
    const { ids, weight, slot = 0 } = document, firstRow = rows.length;
    for (const [begin, end] of document.targets) {
      for (let i = begin; i < end; i++) {
        rows.push(first + i - 1);
        targets.push(ids[i]);
        weights.push(weight);
      }
    }
    const group = batch.lossGroups.at(-1);
    if (group?.slot === slot) group.rows += rows.length - firstRow;
    else batch.lossGroups.push({ slot, firstRow, rows: rows.length - firstRow });
  }
  batch.targetCount = rows.length;
  batch.targetRows = Uint32Array.from(rows);
  batch.targets = Uint32Array.from(targets);
  batch.weights = Float32Array.from(weights);
  return batch;
}

/** That a document's first rows can be those of `head`. */
function checkShared(document: Document, head: Uint32Array, width: number) {
  const { ids, shared = 0 } = document, promptLength = promptLengthOf(document);
  if (commonPrefix(ids, head) < shared) {
    throw new Error(`batch: a document does not begin with the ${shared} ids that it shares`);
  }
  if (shared >= promptLength) {
    throw new Error(`batch: ${shared} shared ids of a prompt of ${promptLength} reach its targets`);
  }
  if (ids.length > width) {
    throw new Error("batch: a sliding window cuts a document that shares ids");
  }
}

/** Pairs of a query and a key that it attends to. */
export function attendedPairs({ starts, ends, excludedKeys }: Batch): number {
  return ends.reduce((sum, end, i) => {
    const excluded = excludedKeys === undefined ? 0 : excludedKeys[2 * i + 1] - excludedKeys[2 * i];
    return sum + end - starts[i] - excluded;
  }, 0);
}

/** The keys of each token in layers of one sliding window. */
export interface KeyRanges {
  /** Keys that a query attends to; null where it is all of the document. */
  readonly slidingWindow: number | null;
  readonly starts: Tensor;
  readonly queryEnds: Tensor;
  /** Pairs of a query and a key that it attends to; undefined where the host did not write the ranges. */
  pairs?: number;
}

/** A micro-batch on the GPU: buffers for the largest one, reused by all. */
export class BatchTensors {
  readonly ids: Tensor;
  readonly positions: Tensor;
  /** Row of RoPE's tables for each token; its position where the tables are alike for texts of all lengths. */
  readonly tableRows: Tensor;
  readonly ends: Tensor;
  /** By sliding window of the model's layers, the widest first: batches are laid out for that one. */
  readonly keyRanges: readonly KeyRanges[];
  readonly #excludedKeys?: Tensor;
  readonly #shortTexts: number | null;
  readonly targetRows: Tensor;
  readonly targets: Tensor;
  readonly weights: Tensor;
  /** Row of the KV cache, or of working memory, that each token's key and value go to `[T]`. */
  readonly keyRows?: Tensor;
  /** Adapter of each token `[T]` and of each target row `[S]`, where they have several. */
  readonly adapters?: { tokens: Tensor; targets: Tensor };
  /** Tokens grouped by id, for the embedding's gradient. */
  readonly groups?: { uniqueIds: Tensor; offsets: Tensor; positions: Tensor };
  tokens = 0;
  /** As of a {@linkcode Batch}, where this one excludes keys. */
  excludedKeys?: Tensor;
  targetCount = 0;
  /** Whether every token is a target, in order: rows need not be looked up. */
  allTargets = false;
  lossGroups: readonly LossGroup[] = [];
  uniqueCount = 0;

  /**
   * @param maxTokens Most tokens of a micro-batch.
   * @param options `grouped`: the embedding is trained. `withKeyRows`: keys and values go to a cache or to
   *   working memory. `excludes`:
   *   documents may share rows. `slidingWindows`: those of the model's layers, the widest first. `shortTexts`: as of
   *   {@linkcode RopeTables}. `adapted`: tokens have adapters of their own.
   */
  constructor(
    memory: Memory,
    maxTokens: number,
    {
      grouped = false,
      withKeyRows = false,
      excludes = false,
      slidingWindows = [null],
      shortTexts = null,
      adapted = false,
    }: {
      grouped?: boolean;
      withKeyRows?: boolean;
      excludes?: boolean;
      slidingWindows?: readonly (number | null)[];
      shortTexts?: number | null;
      adapted?: boolean;
    },
  ) {
    const make = (name: string, dtype: Dtype = "u32", size = maxTokens) =>
      memory.tensor("workspace", name, dtype, [size]);
    this.ids = make("ids");
    this.positions = make("positions");
    this.#shortTexts = shortTexts;
    this.tableRows = shortTexts === null ? this.positions : make("table_rows");
    this.keyRanges = slidingWindows.map((slidingWindow) => ({
      slidingWindow,
      starts: make("starts"),
      queryEnds: make("query_ends"),
    }));
    this.ends = make("ends");
    this.targetRows = make("target_rows");
    this.targets = make("targets");
    this.weights = make("weights", "f32");
    if (excludes) this.#excludedKeys = make("excluded_keys", "u32", 2 * maxTokens);
    if (withKeyRows) this.keyRows = make("key_rows");
    if (adapted) this.adapters = { tokens: make("adapters"), targets: make("target_adapters") };
    if (grouped) {
      this.groups = {
        uniqueIds: make("unique_ids"),
        offsets: make("unique_offsets", "u32", maxTokens + 1),
        positions: make("unique_positions"),
      };
    }
  }

  /** Uploads a micro-batch. */
  write(gpu: Gpu, batch: Batch): void {
    this.tokens = batch.tokens;
    this.keyRanges.forEach((ranges, i) => {
      const { starts, queryEnds } = i === 0 ? batch : clipped(batch, ranges.slidingWindow);
      ranges.pairs = attendedPairs({ ...batch, starts });
      gpu.write(ranges.starts, starts);
      gpu.write(ranges.queryEnds, queryEnds);
    });
    this.excludedKeys = undefined;
    if (batch.excludedKeys) {
      this.excludedKeys = present(this.#excludedKeys, "room for excluded keys");
      gpu.write(this.excludedKeys, batch.excludedKeys);
    }
    this.targetCount = batch.targetCount;
    this.allTargets = batch.targetCount === batch.tokens &&
      batch.targetRows.every((row, i) => row === i);
    this.lossGroups = batch.lossGroups;
    for (
      const name of [
        "ids",
        "positions",
        "ends",
        "targetRows",
        "targets",
      ] as const
    ) {
      gpu.write(this[name], batch[name]);
    }
    const short = this.#shortTexts;
    if (short !== null) {
      const { positions, lengths } = batch;
      gpu.write(this.tableRows, positions.map((p, i) => lengths[i] > short ? short + p : p));
    }
    if (batch.history) {
      takeTokens(gpu, { ids: this.ids, history: batch.history, rows: batch.tokens });
    }
    gpu.write(this.weights, batch.weights);
    if (this.keyRows !== undefined) {
      gpu.write(this.keyRows, batch.cacheRows ?? Uint32Array.from(batch.ids.keys()));
    }
    if (this.adapters !== undefined) {
      const { adapters = new Uint32Array(batch.tokens), targetRows } = batch;
      gpu.write(this.adapters.tokens, adapters);
      gpu.write(this.adapters.targets, targetRows.map((row) => adapters[row]));
    }
    if (this.groups !== undefined) {
      const groups = groupTokens(batch.ids);
      this.uniqueCount = groups.uniqueIds.length;
      gpu.write(this.groups.uniqueIds, groups.uniqueIds);
      gpu.write(this.groups.offsets, groups.offsets);
      gpu.write(this.groups.positions, groups.positions);
    }
  }

  /**
   * What follows from positions and the widest sliding window's key ranges, for `rows` tokens that each are the next of a
   * sequence: the key ranges of narrower windows, and rows of RoPE's tables.
   */
  completeRows(gpu: Gpu, rows: number): void {
    const { positions, tableRows } = this, shortTexts = this.#shortTexts;
    if (shortTexts !== null) lastTokenRows(gpu, { positions, tableRows, rows, shortTexts });
    const { ends, keyRanges: [{ starts }, ...narrower] } = this;
    for (const { slidingWindow, starts: clipped } of narrower) {
      if (slidingWindow !== null) clipStarts(gpu, { starts, ends, clipped, rows, slidingWindow });
    }
  }
}

/**
 * The key ranges of a narrower sliding window. Documents that share rows keep theirs: none is longer than the window, and
 * their rows lie further apart than their tokens.
 *
 * @throws {Error} where the window would cut a document that shares rows.
 */
function clipped(
  { tokens, positions, starts, ends, queryEnds, excludedKeys }: Batch,
  slidingWindow: number | null,
): Pick<Batch, "starts" | "queryEnds"> {
  const width = slidingWindow ?? Infinity, isShared = new Uint8Array(tokens);
  for (let i = 0; excludedKeys !== undefined && i < tokens; i++) {
    const [from, to] = excludedKeys.subarray(2 * i, 2 * i + 2);
    if (from === to) continue;
    if (positions[i] >= width) {
      throw new Error("batch: a sliding window in some layers cuts documents that share ids");
    }
    isShared[i] = 1;
    isShared.fill(1, starts[i], from);
  }
  return {
    starts: starts.map((start, i) => isShared[i] ? start : Math.max(start, ends[i] - width)),
    queryEnds: queryEnds.map((end, i) => isShared[i] ? end : Math.min(end, i + width)),
  };
}
