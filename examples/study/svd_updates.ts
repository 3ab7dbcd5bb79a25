/**
 * The rank of real weight updates ΔW: those of a LoRA run and of a run that trains all weights, both of
 * the built-in model on forty samples of its instruction set.
 *
 *     ./lorikeet deno run --allow-read --allow-env --allow-sys examples/study/svd_updates.ts
 *
 * @module
 */
import { Matrix } from "ml-matrix";
import { present } from "../../kernels/present.ts";
import { type Gpu, openGpu } from "../../kernels/gpu/gpu.ts";
import { type BuiltinRun, openBuiltin, readTrained, train } from "./builtin_run.ts";
import { moreThan, sum, table } from "./numbers.ts";
import { decompose, droppedError, relativeError, truncated } from "./svd.ts";

/** Rank of the adapters, and how many blocks' q projections are looked at. */
export const RANK = 16;

/** What the singular values of one ΔW say. */
export interface UpdateRank {
  /** ‖ΔW − its best approximation of rank k‖ / ‖ΔW‖, and what the dropped singular values say. */
  error: number;
  dropped: number;
  /** σ_{k+1} / σ₁. */
  next: number;
  /** Share of Σσ² that the largest k hold. */
  energy: number;
}

/** Results by rank k, of every block's q projection; the lowest energy is what counts. */
export type UpdateRanks = Map<number, UpdateRank[]>;

/** Ranks that are tried. */
const RANKS = [1, 4, RANK, 64];
const SHARED = { precision: "fp32", packing: true, samples: 40 } as const;

const toMatrix = ({ shape, data }: { shape: readonly number[]; data: Float32Array }): Matrix =>
  Matrix.from1DArray(shape[0], shape[1], data);

function ranksOf(updates: readonly Matrix[]): UpdateRanks {
  const decomposed = updates.map((w) => ({ w, svd: decompose(w) }));
  return new Map(RANKS.map((k) => [
    k,
    decomposed.map(({ w, svd }) => {
      const { s } = svd;
      const held = sum(k, (i) => s[i] ** 2) / sum(s.length, (i) => s[i] ** 2);
      return {
        error: relativeError(w, truncated(svd, k)),
        dropped: droppedError(s, k),
        next: s[k] / s[0],
        energy: held,
      };
    }),
  ]));
}

const QUERY = /q_proj/;

/** ΔW = (α/r)·B·A of each block after a LoRA run. */
async function loraUpdates(gpu: Gpu): Promise<Matrix[]> {
  const run = await openBuiltin(gpu, { ...SHARED, lora: { rank: RANK }, learning_rate: 2e-3 });
  await train(run);
  const { lora } = run.trainer.config, scale = lora ? lora.alpha / lora.rank : 0;
  const trained = await readTrained(run, "master");
  return Array.from(trained).filter(([name]) => QUERY.test(name) && /lora_A/.test(name)).map((
    [name, a],
  ) =>
    toMatrix(present(trained.get(name.replace("lora_A", "lora_B")), "B of an adapter")).mmul(
      toMatrix(a),
    ).mul(scale)
  );
}

/** ΔW = after − before of each block in a run that trains all weights. */
async function fullUpdates(gpu: Gpu): Promise<Matrix[]> {
  const run: BuiltinRun = await openBuiltin(gpu, {
    ...SHARED,
    lora: false,
    learning_rate: 5e-4,
  });
  const before = await readTrained(run, "master");
  await train(run);
  const after = await readTrained(run, "master");
  return Array.from(after).filter(([name]) => QUERY.test(name)).map(([name, tensor]) =>
    Matrix.sub(toMatrix(tensor), toMatrix(present(before.get(name), name)))
  );
}

/** Both runs' updates of q in every block `[128, 128]`. */
export async function updateRanks(gpu: Gpu): Promise<{ lora: UpdateRanks; full: UpdateRanks }> {
  return { lora: ranksOf(await loraUpdates(gpu)), full: ranksOf(await fullUpdates(gpu)) };
}

/** What the study guide quotes. */
export function lines({ lora, full }: { lora: UpdateRanks; full: UpdateRanks }): string[] {
  const held = (ranks: UpdateRanks, k: number) => {
    const least = Math.min(...present(ranks.get(k), `rank ${k}`).map(({ energy }) => energy));
    return 1 - least < 1e-9 ? "all" : moreThan(least);
  };
  return table([
    ["rank k of 128", "LoRA of rank 16", "all weights trained"],
    ...RANKS.map((k) => [String(k), held(lora, k), held(full, k)]),
  ]);
}

if (import.meta.main) {
  const gpu = await openGpu();
  const ranks = await updateRanks(gpu);
  console.log(lines(ranks).join("\n"));
  console.log(ranks);
  gpu.close();
}
