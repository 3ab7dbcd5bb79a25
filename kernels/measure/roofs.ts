/**
 * The roofs of a device, measured: copy bandwidth and the best matrix product.
 *
 * @module
 */
import type { Gpu } from "../gpu/gpu.ts";
import { copy } from "../ops/elements/bytes.ts";
import { matmul } from "../ops/matmul/matmul.ts";
import { Memory } from "../gpu/memory.ts";
import { fillNormal } from "../ops/elements/random.ts";
import type { Roofs } from "../gpu/roofline.ts";
import { allocated, type Dtype, type Tensor } from "../gpu/tensor.ts";
import { clockSeconds, type TimingOptions } from "./timing.ts";

/** Bytes copied, and the side of the square matrices: more than caches hold, and enough to fill the device. */
const SIZES = {
  gpu: { bytes: 1 << 28, side: 4096 },
  software: { bytes: 1 << 24, side: 256 },
};

/** What {@linkcode measureRoofs} takes to be quick: some 0.2 s each on a GPU, 0.1 s where a call is that long anyway. */
const QUICK: Record<keyof typeof SIZES, TimingOptions> = {
  gpu: { repeats: 3, batch: 0.03 },
  software: { repeats: 3, batch: 0.005 },
};

/** Side of the square product whose speed is a roof. */
export function squareSide({ software }: Gpu): number {
  return SIZES[software ? "software" : "gpu"].side;
}

/** Tensors that are freed after `use`; no category counts them. */
async function borrow<T>(
  gpu: Gpu,
  specs: readonly (readonly [Dtype, number[]])[],
  use: (tensors: Tensor[]) => Promise<T>,
): Promise<T> {
  const memory = new Memory(gpu.device, gpu.memory.limits);
  const tensors = specs.map(([dtype, shape]) => memory.tensor("workspace", "roof", dtype, shape));
  try {
    return await use(tensors);
  } finally {
    await gpu.finish();
    for (const { buffer } of tensors) memory.free(allocated(buffer, "roof"));
  }
}

/** Seconds and bytes, read plus written, of one large copy. */
export async function copySeconds(
  gpu: Gpu,
  timing?: TimingOptions,
): Promise<{ seconds: number; bytes: number }> {
  const { bytes } = SIZES[gpu.software ? "software" : "gpu"], shape = [bytes / 4];
  return await borrow(gpu, [["f32", shape], ["f32", shape]], async ([x, y]) => {
    return { seconds: await clockSeconds(gpu, () => copy(gpu, x, y), timing), bytes: 2 * bytes };
  });
}

/** What was measured, by device: its roofs stay where they are. */
const measured = new WeakMap<GPUDevice, Map<Dtype, Roofs>>();

/**
 * Bandwidth, and the speed of a square matrix product whose operands have this dtype. Both are measured once for each
 * device.
 */
export async function measureRoofs(gpu: Gpu, dtype: Dtype): Promise<Roofs> {
  const known = measured.get(gpu.device) ?? new Map<Dtype, Roofs>();
  measured.set(gpu.device, known);
  const roofs = known.get(dtype) ?? await measure(gpu, dtype);
  known.set(dtype, roofs);
  return roofs;
}

async function measure(gpu: Gpu, dtype: Dtype): Promise<Roofs> {
  const quick = QUICK[gpu.software ? "software" : "gpu"];
  const copy = await copySeconds(gpu, quick), side = squareSide(gpu), shape = [side, side];
  const specs = [[dtype, shape], [dtype, shape], ["f32", shape]] as const;
  const operands = dtype === "f16" ? "f16" : "f32";
  const seconds = await borrow(gpu, specs, async ([a, b, c]) => {
    [a, b].forEach((y, subsequence) =>
      fillNormal(gpu, { y, mean: 0, std: 1, seed: 1, subsequence })
    );
    return await clockSeconds(
      gpu,
      () => matmul(gpu, { orientation: "nt", a, b, c, rows: side, operands }),
      quick,
    );
  });
  return { bandwidth: copy.bytes / copy.seconds, matmul: 2 * side ** 3 / seconds };
}
