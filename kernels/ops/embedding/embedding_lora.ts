/**
 * A LoRA adapter of the token embedding: y_t += s·loraHidden_t·Bᵀ with loraHidden_t = column ids[t] of A.
 *
 * Shapes: ids `[T]` u32, every one below V, A `[r, V]` and B `[H, r]` f32 as PEFT's lora_embedding_A and _B, y and
 * dy `[T, H]` f32, loraHidden and loraHiddenGrad `[T, r]` f32. r, V and H are multiples of 4, s is the module's
 * scale; nothing is dropped. Backward: loraHiddenGrad = s·dy·B, gradB += s·dyᵀ·loraHidden (both lora.ts), and
 * gradA[:, v] += Σ loraHiddenGrad_t over the t with ids[t] = v. The host groups these t as for embedding.ts, so the
 * bits are the same every time.
 *
 * @module
 */
import { elementGrid, elementMain } from "../../gpu/elementwise.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { type LoraGroup, loraUp, loraUpBackward } from "../lora/lora.ts";
import { programFamily, reads, readsScalars, writes, writesScalars } from "../../gpu/program.ts";
import { splitRows, type Tensor } from "../../gpu/tensor.ts";

/** Runs `launch` on every range of A's rows that can be bound, four rows a vector of loraHidden. */
function overRows(
  gpu: Gpu,
  a: Tensor,
  launch: (slice: Tensor, first: number, vectors: number) => void,
): void {
  const slices = splitRows(a.shape[0], a.rowSize * 4, gpu.maxBinding);
  for (const { start, count } of slices) {
    launch(slices.length === 1 ? a : a.rows(start, count), start / 4, count / 4);
  }
}

const gather = programFamily("embedding_lora", () => ({
  bindings: [
    ...readsScalars("f32", "a"),
    ...readsScalars("u32", "ids"),
    ...writes("f32", "loraHidden"),
  ],
  // This slice of A makes `own` of the `rank` vectors of a row of loraHidden, from `first` on; V is `width`.
  uniforms: { vectors: "u32", width: "u32", rank: "u32", first: "u32", own: "u32" },
  body: elementMain(`
  let t = i / u.own;
  let j = i % u.own;
  let at = j * 4u * u.width + ids[t];
  store_loraHidden(t * u.rank + u.first + j, vec4<f32>(
    a[at], a[at + u.width], a[at + 2u * u.width], a[at + 3u * u.width]
  ));`),
}));

/** A, B and their gradients: the only module of its group, from column 0 on. */
function moduleOf({ modules }: LoraGroup) {
  const [module] = modules;
  if (modules.length !== 1 || module.from !== 0) {
    throw new Error("an embedding has one adapter, from column 0 on");
  }
  return module;
}

/** Writes `rows` rows of loraHidden and adds the adapter's part to those of y. */
export function embeddingLora(
  gpu: Gpu,
  { ids, group, loraHidden, y, rows }: {
    ids: Tensor;
    group: LoraGroup;
    loraHidden: Tensor;
    y: Tensor;
    rows: number;
  },
): void {
  const { a } = moduleOf(group), rank = a.shape[0] / 4;
  overRows(gpu, a, (slice, first, own) => {
    const vectors = rows * own, uniforms = { vectors, width: a.shape[1], rank, first, own };
    const cost = { flops: 0, bytes: 32 * vectors };
    gpu.run(gather({}), [slice, ids, loraHidden], uniforms, elementGrid(vectors), cost);
  });
  loraUp(gpu, { loraHidden, group, y, rows });
}

const scatter = programFamily("embedding_lora_backward", () => ({
  bindings: [
    ...reads("f32", "loraHiddenGrad"),
    ...readsScalars("u32", "uniqueIds", "offsets", "positions"),
    ...writesScalars("f32", "gradA"),
  ],
  uniforms: { vectors: "u32", width: "u32", rank: "u32", first: "u32", own: "u32" },
  body: elementMain(`
  let token = i / u.own;
  let j = i % u.own;
  var sum = vec4<f32>();
  for (var k = offsets[token]; k < offsets[token + 1u]; k++) {
    sum += load_loraHiddenGrad(positions[k] * u.rank + u.first + j);
  }
  let at = j * 4u * u.width + uniqueIds[token];
  gradA[at] += sum.x;
  gradA[at + u.width] += sum.y;
  gradA[at + 2u * u.width] += sum.z;
  gradA[at + 3u * u.width] += sum.w;`),
}));

/**
 * Adds to gradA and gradB those of `rows` rows.
 *
 * @param operands `loraHidden`: what {@linkcode embeddingLora} wrote for the same ids. `loraHiddenGrad`: working
 * memory of loraHidden's shape. `uniqueIds`, `offsets`, `positions`, `unique`: the ids' groups, see `groupTokens` of embedding.ts.
 */
export function embeddingLoraBackward(
  gpu: Gpu,
  { dy, group, loraHidden, loraHiddenGrad, rows, uniqueIds, offsets, positions, unique }: {
    dy: Tensor;
    group: LoraGroup;
    loraHidden: Tensor;
    loraHiddenGrad: Tensor;
    rows: number;
    uniqueIds: Tensor;
    offsets: Tensor;
    positions: Tensor;
    unique: number;
  },
): void {
  const { a, gradA } = moduleOf(group), rank = a.shape[0] / 4;
  if (gradA === undefined) throw new Error(`${a.name} has no gradient`);
  loraUpBackward(gpu, { dy, loraHidden, loraHiddenGrad, group, rows });
  overRows(gpu, gradA, (slice, first, own) => {
    const vectors = unique * own;
    gpu.run(
      scatter({}),
      [loraHiddenGrad, uniqueIds, offsets, positions, slice],
      { vectors, width: a.shape[1], rank, first, own },
      elementGrid(vectors),
      { flops: 4 * rows * own, bytes: 16 * rows * own + 32 * vectors },
    );
  });
}
