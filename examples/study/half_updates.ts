/**
 * Why mixed precision needs f32 masters: what f16 can hold, and a thousand small updates with a master
 * and without one, made by the project's SGD kernel.
 *
 *     ./lorikeet deno run --allow-read --allow-env --allow-sys examples/study/half_updates.ts
 *
 * Source: Micikevicius et al., "Mixed Precision Training", 2018, section 3.1.
 *
 * @module
 */
import { cast } from "../../kernels/ops/elements/cast.ts";
import { type Gpu, openGpu } from "../../kernels/gpu/gpu.ts";
import { initialGradScaler } from "../../kernels/ops/optimizer/loss_scale.ts";
import { sgd } from "../../kernels/ops/optimizer/sgd.ts";
import { toFloat32 } from "../../model/formats/half.ts";
import { grouped, table } from "./numbers.ts";

/** A number, first rounded to f32, as the nearest f16 has it. */
export function half(value: number): number {
  return Math.f16round(Math.fround(value));
}

/** What decides whether an update survives in f16. */
export interface HalfLimits {
  /** The smallest f16 above zero, and the largest number that rounds to zero. */
  smallest: number;
  largestLost: number;
  /** Over all weights from 1 to 2: at what size relative to the update the update first vanishes. */
  ratios: { least: number; most: number };
}

/** The smallest whole ratio weight / update at which weight + update is the weight again. */
function vanishingRatio(weight: number): number {
  let low = 1, high = 2 ** 14;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (half(weight + weight / middle) === weight) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Finds the limits by trying every weight that f16 has from 1 to 2. */
export function halfLimits(): HalfLimits {
  let smallest = 1;
  while (half(smallest / 2) > 0) smallest /= 2;
  const ratios = Array.from({ length: 1024 }, (_, i) => vanishingRatio(1 + i / 1024));
  return {
    smallest,
    largestLost: smallest / 2,
    ratios: { least: Math.min(...ratios), most: Math.max(...ratios) },
  };
}

/** Updates of {@linkcode trainWeight}. */
const STEPS = 1000, LEARNING_RATE = 1e-4;

/**
 * A weight of 1 with a gradient of 1 after a thousand steps of 1e-4: as f32 master, as the f16 copy that
 * the model computes with, and as f16 alone, rounded after every step.
 */
export async function trainWeight(
  gpu: Gpu,
): Promise<{ master: number; value: number; alone: number }> {
  const make = (name: string, dtype: "f32" | "f16", size = 4) =>
    gpu.memory.tensor("workspace", name, dtype, [size]);
  const grad = make("grad", "f32"), gradScaler = make("gradScaler", "f32", 16);
  const master = make("master", "f32"), value = make("value", "f16");
  const rounded = make("rounded", "f32"), alone = make("alone", "f16");
  const ones = new Float32Array(4).fill(1);
  for (const tensor of [grad, master, rounded]) gpu.write(tensor, ones);
  gpu.write(gradScaler, initialGradScaler(1));
  const common = { grad, gradScaler, learningRate: LEARNING_RATE, weightDecay: 0 };
  for (let step = 0; step < STEPS; step++) {
    sgd(gpu, { ...common, master, value });
    // Without a master there is only the f16 weight to start the next step from.
    sgd(gpu, { ...common, master: rounded, value: alone });
    cast(gpu, { x: alone, y: rounded });
  }
  const first = async (tensor: typeof grad) => {
    const bytes = new Uint8Array(await gpu.read(tensor));
    const f16 = tensor.dtype === "f16";
    return toFloat32(bytes.subarray(0, f16 ? 2 : 4), f16 ? "F16" : "F32")[0];
  };
  const result = {
    master: await first(master),
    value: await first(value),
    alone: await first(alone),
  };
  for (const tensor of [grad, gradScaler, master, value, rounded, alone]) gpu.free(tensor);
  return result;
}

/** What the study guide quotes of the limits. */
export function limitLines({ smallest, largestLost, ratios }: HalfLimits): string[] {
  return [
    `smallest f16 above zero: 2^${Math.log2(smallest)} = ${smallest.toExponential(2)}`,
    `rounds to zero up to:    2^${Math.log2(largestLost)} = ${largestLost.toExponential(2)}`,
    "an update vanishes where the weight is larger by a factor from " +
    `${grouped(ratios.least)} to ${grouped(ratios.most)} on, depending on the weight`,
  ];
}

/** What the study guide quotes of the updates. */
export function updateLines(
  { master, value, alone }: Awaited<ReturnType<typeof trainWeight>>,
): string[] {
  return table([
    [`after ${grouped(STEPS)} updates of −${LEARNING_RATE}`, "weight"],
    ["exact", (1 - STEPS * LEARNING_RATE).toFixed(4)],
    ["f32 master", master.toFixed(4)],
    ["its f16 copy", value.toFixed(4)],
    ["f16 alone", alone.toFixed(4)],
  ]);
}

if (import.meta.main) {
  const gpu = await openGpu();
  console.log([...limitLines(halfLimits()), "", ...updateLines(await trainWeight(gpu))].join("\n"));
  gpu.close();
}
