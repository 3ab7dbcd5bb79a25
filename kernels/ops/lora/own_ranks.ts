/**
 * Several adapters in one pass, a row with its own: adapters whose ranks lie side by side in A and B are one adapter, of
 * which each row keeps the ranks that are its own.
 *
 * loraHidden[t, m·r + j] stays where owners[j] = adapters[t], and is 0 elsewhere: what follows adds nothing of the other
 * adapters. Shapes: loraHidden `[at least rows, modules·r]` f32, owners `[r]` u32, adapters `[at least rows]` u32; r is a multiple
 * of 4.
 *
 * @module
 */
import { elementGrid, elementMain } from "../../gpu/elementwise.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { programFamily, reads, readsScalars, writes } from "../../gpu/program.ts";
import type { Tensor } from "../../gpu/tensor.ts";

/** Which adapter each row has, and each rank is of. */
export interface RowAdapters {
  readonly adapters: Tensor;
  readonly owners: Tensor;
}

const program = programFamily("own_ranks", () => ({
  bindings: [
    ...readsScalars("u32", "adapters"),
    ...reads("u32", "owners"),
    ...writes("f32", "loraHidden"),
  ],
  uniforms: { vectors: "u32", width: "u32", rank: "u32" },
  body: elementMain(`
  let isOwn = owners[i % u.width % u.rank] == vec4<u32>(adapters[i / u.width]);
  store_loraHidden(i, select(vec4<f32>(), load_loraHidden(i), isOwn));`),
}));

/** Takes the ranks of other adapters out of `rows` rows. */
export function keepOwnRanks(
  gpu: Gpu,
  { loraHidden, rows, width, adapters, owners }: RowAdapters & {
    loraHidden: Tensor;
    rows: number;
    /** Elements of a row: modules·r. */
    width: number;
  },
): void {
  const vectors = rows * width / 4;
  gpu.run(
    program({}),
    [adapters, owners, loraHidden],
    { vectors, width: width / 4, rank: owners.size / 4 },
    elementGrid(vectors),
    { flops: 0, bytes: 32 * vectors },
  );
}
