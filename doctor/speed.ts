/**
 * Whether the GPU computes right, and as fast as one of its name should.
 *
 * @module
 */
import { type Check, ok, problem, warning } from "./check.ts";
import type { Probe, Speed } from "./probe.ts";

/** What a GPU's data sheet says. */
interface Peak {
  /** Memory, 10^9 bytes a second. */
  readonly bandwidth: number;
  /** f32 without tensor cores, 10^12 operations a second. */
  readonly f32: number;
  /** f16 with sums in f32 on tensor cores without sparsity, 10^12 operations a second. */
  readonly tensor: number;
}

/** Data sheets of NVIDIA's GPUs. The first whose words are all part of a GPU's name counts. */
const PEAKS: readonly (readonly [name: RegExp, peak: Peak])[] = [
  [/h200/, { bandwidth: 4800, f32: 67, tensor: 989 }],
  [/h100.*pcie/, { bandwidth: 2000, f32: 51, tensor: 756 }],
  [/h100.*80gb hbm3/, { bandwidth: 3350, f32: 67, tensor: 989 }],
  [/a100.*sxm4.*80gb/, { bandwidth: 2039, f32: 19.5, tensor: 312 }],
  [/a100.*80gb pcie/, { bandwidth: 1935, f32: 19.5, tensor: 312 }],
  [/a100.*40gb/, { bandwidth: 1555, f32: 19.5, tensor: 312 }],
  [/\bl40s\b/, { bandwidth: 864, f32: 91.6, tensor: 362 }],
  [/\bl4\b/, { bandwidth: 300, f32: 30.3, tensor: 121 }],
  [/\ba10\b/, { bandwidth: 600, f32: 31.2, tensor: 125 }],
  [/\bt4\b/, { bandwidth: 320, f32: 8.1, tensor: 65 }],
  [/v100.*sxm2/, { bandwidth: 900, f32: 15.7, tensor: 125 }],
  [/rtx 4090\b/, { bandwidth: 1008, f32: 82.6, tensor: 165 }],
  [/rtx 3090\b(?! ti)/, { bandwidth: 936, f32: 35.6, tensor: 71 }],
];

/** The data sheet of a GPU; undefined where it is not known. Dawn's names have `-` for spaces. */
export function peakOf(gpu: string): Peak | undefined {
  const name = gpu.toLowerCase().replace(/[-\s]+/g, " ");
  return PEAKS.find(([pattern]) => pattern.test(name))?.[1];
}

/** A copy that reaches less of the memory's rate says that something else is at work. */
const LEAST_COPY = 0.5;
/** The same for products, whose programs are not as near to the roof. */
const LEAST_PRODUCT = 0.15;

/** A rate with at least three digits. */
function rate(value: number, unit: string): string {
  return `${value >= 100 ? Math.round(value) : value.toPrecision(3)} ${unit}`;
}

/** Operations a second. */
function operations(tera: number): string {
  return tera < 0.1 ? rate(1000 * tera, "GFLOP/s") : rate(tera, "TFLOP/s");
}

/** The rates that were reached, as parts of a data sheet's. */
function shares({ copy, f32, f16 }: Speed, peak: Peak, tensorCores: boolean) {
  return {
    copy: copy / peak.bandwidth,
    f32: f32 / peak.f32,
    f16: f16 / (tensorCores ? peak.tensor : peak.f32),
  };
}

/** A product and a copy: whether they are right, and how fast. */
export function checkSpeed({ gpu, tensorCores }: Probe, speed: Speed): Check {
  const { copy, f32, f16, wrong } = speed, peak = peakOf(gpu);
  const part = peak && shares(speed, peak, tensorCores);
  const of = (share: number | undefined) =>
    share === undefined ? "" : ` (${Math.round(100 * share)} % of the data sheet's)`;
  const found = [
    `copy ${rate(copy, "GB/s")}${of(part?.copy)}`,
    `product f16 ${operations(f16)}${of(part?.f16)}`,
    `f32 ${operations(f32)}${of(part?.f32)}`,
  ].join(", ");
  const details = {
    copy_gb_per_second: copy,
    product_f16_tflop_per_second: f16,
    product_f32_tflop_per_second: f32,
    share_of_data_sheet: part,
    right: wrong === undefined,
  };
  if (wrong !== undefined) {
    const remedy =
      "Update the driver or take another WebGPU (--gpu deno or dawn): what this one computes can't be trusted.";
    return problem("speed", `${wrong} came out wrong`, remedy, details);
  }
  if (part === undefined) return ok("speed", found, details);
  if (part.copy >= LEAST_COPY && Math.min(part.f16, part.f32) >= LEAST_PRODUCT) {
    return ok("speed", found, details);
  }
  const remedy =
    "See with `nvidia-smi` whether other programs use the GPU, or heat or a power limit slows it.";
  return warning("speed", found, remedy, details);
}
