/**
 * Dynamic loss scaling, gradient clipping and the skipping of steps that overflowed, all decided on
 * the GPU so that training never waits for a readback.
 *
 * The grad-scaler tensor `[16]` f32 holds the fields of {@linkcode GRAD_SCALER}. The loss is multiplied by
 * `scale`, so gradients are too; sumOfSquares divides by it again *before* squaring, since squares of
 * scaled gradients could overflow f32. Hence norm = √Σ partials is that of the true gradients, and
 * {@linkcode updateGradScaler} leaves what optimizers multiply gradients by:
 * multiplier = 1/scale · min(1, maxGradNorm / (norm + 1e-6)).
 * Sources: Micikevicius et al., "Mixed Precision Training", 2018; torch.amp.GradScaler;
 * torch.nn.utils.clip_grad_norm_.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import { programFamily } from "../../gpu/program.ts";
import { sumOfThreads } from "../../wgsl/reduce.ts";
import type { Tensor } from "../../gpu/tensor.ts";

/** Indices of the grad-scaler tensor's fields. */
export const GRAD_SCALER = {
  /** What the loss is multiplied by. */
  scale: 0,
  /** Good steps since the scale last changed. */
  growth: 1,
  /** Steps skipped in all. */
  skipped: 2,
  /** Steps taken in all. */
  steps: 3,
  /** What optimizers multiply this step's gradients by. */
  multiplier: 4,
  /** 1 where this step is to be skipped. */
  skip: 5,
  /** Norm of this step's true gradients, before clipping. */
  gradNorm: 6,
} as const;

const FIELDS = 16;
const LARGEST_SCALE = 2 ** 24;
const THREADS = 256;

/** The grad-scaler tensor's content at the start of a run. */
export function initialGradScaler(scale: number): Float32Array {
  const gradScaler = new Float32Array(FIELDS);
  gradScaler[GRAD_SCALER.scale] = scale;
  gradScaler[GRAD_SCALER.multiplier] = 1 / scale;
  return gradScaler;
}

const field = (name: keyof typeof GRAD_SCALER) => `gradScaler[${GRAD_SCALER[name]}]`;

const update = programFamily("update_grad_scaler", () => ({
  bindings: [
    { name: "partials", dtype: "f32", access: "read", scalar: true },
    { name: "gradScaler", dtype: "f32", access: "write", scalar: true },
  ],
  uniforms: { count: "u32", dynamic: "u32", maxGradNorm: "f32", growthInterval: "f32" },
  body: `${sumOfThreads(THREADS)}

// By its bits: compilers may assume that infinity and NaN never happen.
fn finite(x: f32) -> bool { return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u; }

@compute @workgroup_size(${THREADS})
fn main(@builtin(local_invocation_index) thread: u32) {
  var partial = 0.0;
  for (var i = thread; i < u.count; i += ${THREADS}u) { partial += partials[i]; }
  let sum = sumOfThreads(thread, partial);
  if (thread != 0u) { return; }

  let scale = ${field("scale")};
  let norm = sqrt(sum);
  ${field("gradNorm")} = norm;
  // The sum's bits decide: a square root of infinity or NaN may come out as anything.
  if (!finite(sum)) {
    ${field("gradNorm")} = sum;
    ${field("skip")} = 1.0;
    ${field("skipped")} += 1.0;
    ${field("growth")} = 0.0;
    if (u.dynamic != 0u) { ${field("scale")} = max(1.0, scale / 2.0); }
    return;
  }
  ${field("skip")} = 0.0;
  ${field("steps")} += 1.0;
  ${field("growth")} += 1.0;
  var multiplier = 1.0 / scale;
  if (u.maxGradNorm > 0.0) { multiplier *= min(1.0, u.maxGradNorm / (norm + 1e-6)); }
  ${field("multiplier")} = multiplier;
  if (u.dynamic != 0u && ${field("growth")} >= u.growthInterval) {
    ${field("scale")} = min(${LARGEST_SCALE}.0, scale * 2.0);
    ${field("growth")} = 0.0;
  }
}`,
}));

/**
 * Decides one optimizer step from the first `count` partial sums of sumOfSquares.
 *
 * Not finite: the step is skipped and, where `dynamic`, the scale halves (not below 1). Else the step
 * counts, gradients are clipped to `maxGradNorm` (0: not at all), and after `growthInterval` good steps
 * a dynamic scale doubles (not above 2²⁴), for the next step's gradients.
 */
export function updateGradScaler(
  gpu: Gpu,
  { partials, count, gradScaler, dynamic, maxGradNorm, growthInterval }: {
    partials: Tensor;
    count: number;
    gradScaler: Tensor;
    dynamic: boolean;
    maxGradNorm: number;
    growthInterval: number;
  },
): void {
  const uniforms = { count, dynamic: dynamic ? 1 : 0, maxGradNorm, growthInterval };
  gpu.run(update({}), [partials, gradScaler], uniforms, [1], { flops: count, bytes: 4 * count });
}
