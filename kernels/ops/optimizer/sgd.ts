/**
 * Stochastic gradient descent without momentum, as torch.optim.SGD: w ← w − η (g + λ w), with
 * g = grad · multiplier.
 *
 * Shapes: master, grad equally shaped f32 of any size, value the same shaped f16 copy of master that
 * the model computes with. The multiplier (loss scale and clipping) and whether the step is skipped come
 * from the grad-scaler tensor (loss_scale.ts).
 *
 * @module
 */
import { elementMain, runElements } from "../../gpu/elementwise.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { GRAD_SCALER } from "./loss_scale.ts";
import { programFamily } from "../../gpu/program.ts";
import { bytesOf, type Dtype, type Tensor } from "../../gpu/tensor.ts";

const update = programFamily("sgd", ({ value }: { value: Dtype | "none" }) => ({
  bindings: [
    { name: "master", dtype: "f32", access: "write" },
    { name: "grad", dtype: "f32", access: "read" },
    ...value === "none" ? [] : [{ name: "value", dtype: value, access: "write" } as const],
    { name: "gradScaler", dtype: "f32", access: "read", scalar: true },
  ],
  uniforms: { vectors: "u32", learningRate: "f32", weightDecay: "f32" },
  body: elementMain(`
  if (gradScaler[${GRAD_SCALER.skip}] != 0.0) { return; }
  let before = load_master(i);
  let g = load_grad(i) * gradScaler[${GRAD_SCALER.multiplier}] + u.weightDecay * before;
  let w = before - u.learningRate * g;
  store_master(i, w);
  ${value === "none" ? "" : "store_value(i, w);"}`),
}));

/** Updates master and, where given, value. */
export function sgd(
  gpu: Gpu,
  { master, grad, value, gradScaler, learningRate, weightDecay }: {
    master: Tensor;
    grad: Tensor;
    value?: Tensor;
    gradScaler: Tensor;
    learningRate: number;
    weightDecay: number;
  },
): void {
  const tensors = [master, grad, ...value === undefined ? [] : [value]];
  runElements(gpu, update({ value: value?.dtype ?? "none" }), tensors, {
    size: master.size,
    shared: [gradScaler],
    uniforms: { learningRate, weightDecay },
    cost: { flops: 5, bytes: 12 + (value === undefined ? 0 : bytesOf(value.dtype)) },
  });
}
