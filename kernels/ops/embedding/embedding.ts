/**
 * Token embedding: y[t] = table[ids[t]].
 *
 * Shapes: table `[V, H]` a weight of any kind, ids `[T]` u32, every one below V, y `[T, H]` f32. H is a
 * multiple of 4. Backward: dtable[v] = Σ dy[t] over the t with ids[t] = v. Positions are grouped by
 * token on the host first, so each row is summed by one thread per column, in order: no atomics, and
 * the same bits every time.
 *
 * @module
 */
import { elementGrid, elementMain } from "../../gpu/elementwise.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { programFamily, readsScalars, writes } from "../../gpu/program.ts";
import { splitRows, type Tensor } from "../../gpu/tensor.ts";
import { loadFunction } from "../weights/kind.ts";
import { weightKind } from "../weights/kinds.ts";
import { operandOf, type WeightOperand } from "../weights/operand.ts";

const forward = programFamily("embedding", ({ table }: { table: string }) => ({
  bindings: [
    ...weightKind(table).bindings("table", 4),
    ...readsScalars("u32", "ids"),
    ...writes("f32", "y"),
  ],
  // `width` is a row's vectors; this slice of the table has rows first to first + count.
  uniforms: { vectors: "u32", width: "u32", first: "u32", count: "u32" },
  body: loadFunction(weightKind(table), "table") + elementMain(`
  let t = i / u.width;
  // Ids before this slice wrap around to large numbers.
  let row = ids[t] - u.first;
  if (row >= u.count) { return; }
  store_y(i, load_table(row * u.width + i % u.width));`),
}));

/** Writes `rows` rows of y, one launch for each part of the table; a tensor is a dense one. */
export function embedding(
  gpu: Gpu,
  { ids, y, rows, ...operands }: {
    table: Tensor | WeightOperand;
    ids: Tensor;
    y: Tensor;
    rows: number;
  },
): void {
  const table = operandOf(operands.table), [vocabulary, hidden] = table.shape;
  const width = hidden / 4, vectors = rows * width, rowBytes = table.bytes / vocabulary;
  const slices = table.ranges(gpu.maxBinding);
  for (const { start, count } of slices) {
    const slice = slices.length === 1 ? table : table.rows(start, count);
    gpu.run(
      forward({ table: table.kind.name }),
      [...slice.tensors, ids, y],
      { vectors, width, first: start, count },
      elementGrid(vectors),
      { flops: 0, bytes: rows * (rowBytes + 4 * hidden) / slices.length },
    );
  }
}

/** Where each token of a row of tokens occurs. */
export interface TokenGroups {
  /** The different tokens, ascending `[U]`. */
  uniqueIds: Uint32Array;
  /** Token u's positions are `positions[offsets[u]]` up to `positions[offsets[u + 1]]` `[U + 1]`. */
  offsets: Uint32Array;
  /** Every position, by token and then ascending `[T]`. */
  positions: Uint32Array;
}

/** Groups positions by token, for {@linkcode embeddingBackward}. */
export function groupTokens(ids: Uint32Array): TokenGroups {
  const positions = Uint32Array.from(ids.keys()).sort((a, b) => ids[a] - ids[b] || a - b);
  const uniqueIds: number[] = [], offsets: number[] = [];
  positions.forEach((position, i) => {
    if (i > 0 && ids[position] === ids[positions[i - 1]]) return;
    uniqueIds.push(ids[position]);
    offsets.push(i);
  });
  offsets.push(ids.length);
  return { uniqueIds: Uint32Array.from(uniqueIds), offsets: Uint32Array.from(offsets), positions };
}

const backward = programFamily("embedding_backward", () => ({
  bindings: [
    { name: "dy", dtype: "f32", access: "read" },
    { name: "uniqueIds", dtype: "u32", access: "read", scalar: true },
    { name: "offsets", dtype: "u32", access: "read", scalar: true },
    { name: "positions", dtype: "u32", access: "read", scalar: true },
    { name: "dtable", dtype: "f32", access: "write" },
  ],
  uniforms: { vectors: "u32", width: "u32", first: "u32", count: "u32" },
  body: elementMain(`
  let token = i / u.width;
  let column = i % u.width;
  let row = uniqueIds[token] - u.first;
  if (row >= u.count) { return; }
  var sum = vec4<f32>();
  for (var k = offsets[token]; k < offsets[token + 1u]; k++) {
    sum += load_dy(positions[k] * u.width + column);
  }
  let at = row * u.width + column;
  store_dtable(at, load_dtable(at) + sum);`),
}));

/** Adds to dtable's rows the gradient of the `unique` tokens of a {@linkcode TokenGroups}. */
export function embeddingBackward(
  gpu: Gpu,
  { dy, uniqueIds, offsets, positions, dtable, unique }: {
    dy: Tensor;
    uniqueIds: Tensor;
    offsets: Tensor;
    positions: Tensor;
    dtable: Tensor;
    unique: number;
  },
): void {
  const hidden = dtable.rowSize, width = hidden / 4, vectors = unique * width;
  const slices = splitRows(dtable.shape[0], hidden * 4, gpu.maxBinding);
  for (const { start, count } of slices) {
    const slice = slices.length === 1 ? dtable : dtable.rows(start, count);
    gpu.run(
      backward({}),
      [dy, uniqueIds, offsets, positions, slice],
      { vectors, width, first: start, count },
      elementGrid(vectors),
      {
        flops: positions.size * hidden / slices.length,
        bytes: (positions.size + 2 * unique) * hidden * 4 / slices.length,
      },
    );
  }
}
