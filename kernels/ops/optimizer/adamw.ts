/**
 * AdamW with decoupled weight decay, as torch.optim.AdamW. At step t, with
 * g = grad · multiplier: w ← w · (1 − η λ), m ← β₁ m + (1 − β₁) g, v ← β₂ v + (1 − β₂) g²,
 * w ← w − η / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε).
 *
 * Shapes: master, grad, m, v equally shaped f32 of any size, value the same shaped f16 copy of master
 * that the model computes with. The multiplier (loss scale and clipping), t and whether the step is
 * skipped come from the grad-scaler tensor (loss_scale.ts).
 * Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019.
 *
 * @module
 */
import { elementMain, runElements } from "../../gpu/elementwise.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { GRAD_SCALER } from "./loss_scale.ts";
import { programFamily } from "../../gpu/program.ts";
import { bytesOf, type Dtype, type Tensor } from "../../gpu/tensor.ts";

/** Stands for ln 0 where a beta is 0: e⁻¹⁰⁰ is 0 next to 1. */
const LOWEST_LOG = -100;

/** (1 − eˣ) / −x = 1 + x/2 (1 + x/3 (1 + …)) up to x⁸/9!. */
const SERIES = [9, 8, 7, 6, 5, 4, 3, 2]
  .reduce((inner, n) => `(1.0 + x * ${1 / n} * ${inner})`, "1.0");

const update = programFamily("adamw", ({ value }: { value: Dtype | "none" }) => ({
  bindings: [
    { name: "master", dtype: "f32", access: "write" },
    { name: "grad", dtype: "f32", access: "read" },
    { name: "mean", dtype: "f32", access: "write" },
    { name: "square", dtype: "f32", access: "write" },
    ...value === "none" ? [] : [{ name: "value", dtype: value, access: "write" } as const],
    { name: "gradScaler", dtype: "f32", access: "read", scalar: true },
  ],
  uniforms: {
    vectors: "u32",
    learningRate: "f32",
    decay: "f32",
    logBeta1: "f32",
    logBeta2: "f32",
    beta1: "f32",
    beta2: "f32",
    // 1 − β from the host: f32 subtraction would cost 1 − 0.999 four digits.
    rest1: "f32",
    rest2: "f32",
    eps: "f32",
  },
  body: `
// 1 − eˣ for x ≤ 0. Near 0 the difference would cancel; there the series to x⁹ is exact to f32.
fn oneMinusExp(x: f32) -> f32 {
  if (x < -0.5) { return 1.0 - exp(x); }
  return -x * ${SERIES};
}
` + elementMain(`
  if (gradScaler[${GRAD_SCALER.skip}] != 0.0) { return; }
  let t = gradScaler[${GRAD_SCALER.steps}];
  let stepSize = u.learningRate / oneMinusExp(t * u.logBeta1);
  let rootCorrection = sqrt(oneMinusExp(t * u.logBeta2));
  let g = load_grad(i) * gradScaler[${GRAD_SCALER.multiplier}];
  let m1 = u.beta1 * load_mean(i) + u.rest1 * g;
  let v1 = u.beta2 * load_square(i) + u.rest2 * g * g;
  let w = load_master(i) * u.decay - stepSize * m1 / (sqrt(v1) / rootCorrection + u.eps);
  store_mean(i, m1);
  store_square(i, v1);
  store_master(i, w);
  ${value === "none" ? "" : "store_value(i, w);"}`),
}));

/** Updates master, m, v and, where given, value. `gradScaler` must already count this step. */
export function adamw(
  gpu: Gpu,
  { master, grad, m, v, value, gradScaler, learningRate, beta1, beta2, eps, weightDecay }: {
    master: Tensor;
    grad: Tensor;
    m: Tensor;
    v: Tensor;
    value?: Tensor;
    gradScaler: Tensor;
    learningRate: number;
    beta1: number;
    beta2: number;
    eps: number;
    weightDecay: number;
  },
): void {
  const tensors = [master, grad, m, v, ...value === undefined ? [] : [value]];
  runElements(gpu, update({ value: value?.dtype ?? "none" }), tensors, {
    size: master.size,
    shared: [gradScaler],
    uniforms: {
      learningRate,
      decay: 1 - learningRate * weightDecay,
      logBeta1: Math.max(LOWEST_LOG, Math.log(beta1)),
      logBeta2: Math.max(LOWEST_LOG, Math.log(beta2)),
      beta1,
      beta2,
      rest1: 1 - beta1,
      rest2: 1 - beta2,
      eps,
    },
    cost: { flops: 14, bytes: 28 + (value === undefined ? 0 : bytesOf(value.dtype)) },
  });
}
