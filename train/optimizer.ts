/**
 * One optimizer step over everything that is trained: gradient norm, clipping, loss scale, update.
 * Whether the step is skipped is decided on the GPU, so nothing is read back in between.
 *
 * @module
 */
import { adamw } from "../kernels/adamw.ts";
import type { Gpu } from "../kernels/gpu.ts";
import { sumOfSquares, sumOfSquaresSlots } from "../kernels/grad_norm.ts";
import { updateControl } from "../kernels/loss_scale.ts";
import type { Memory } from "../kernels/memory.ts";
import { sgd } from "../kernels/sgd.ts";
import type { Tensor } from "../kernels/tensor.ts";
import type { Parameter } from "../model/parameters.ts";
import type { TrainConfig } from "./config.ts";

/** Good steps after which the loss scale doubles, as in PyTorch's GradScaler. */
const GROWTH_INTERVAL = 2000;

/** The keys of the configuration that an optimizer reads. */
export type OptimizerSettings = Pick<
  TrainConfig,
  "optimizer" | "betas" | "eps" | "weight_decay" | "max_grad_norm" | "precision"
>;

/** A trained parameter with its first and second moments, where the optimizer keeps them. */
export interface OptimizedParameter {
  parameter: Parameter;
  moments?: { m: Tensor; v: Tensor };
}

/** AdamW or SGD. */
export class Optimizer {
  readonly parameters: readonly OptimizedParameter[];
  readonly #partials: Tensor;

  /** @param maxBinding Bytes one binding covers; larger gradients need more partial sums. */
  constructor(
    memory: Memory,
    trained: readonly Parameter[],
    readonly settings: OptimizerSettings,
    maxBinding: number,
  ) {
    const specs = trained.map(({ name, trained }) => ({
      name,
      dtype: "f32" as const,
      shape: trained!.master.shape,
    }));
    const adam = settings.optimizer === "adamw";
    const m = adam ? memory.arena("optimizer", "first moments", specs) : [];
    const v = adam ? memory.arena("optimizer", "second moments", specs) : [];
    this.parameters = trained.map((parameter, i) => ({
      parameter,
      moments: adam ? { m: m[i], v: v[i] } : undefined,
    }));
    const slots = trained.reduce(
      (sum, { trained }) => sum + sumOfSquaresSlots(trained!.grad.size, maxBinding),
      0,
    );
    this.#partials = memory.tensor("workspace", "norm partials", "f32", [slots]);
  }

  /** Sets every gradient to zero. */
  clearGradients(gpu: Gpu): void {
    for (const { parameter } of this.parameters) gpu.clear(parameter.trained!.grad);
  }

  /** Updates every parameter, or none where a gradient is not finite. */
  step(gpu: Gpu, control: Tensor, learningRate: number): void {
    const { precision, max_grad_norm: maxGradNorm, betas, eps, weight_decay } = this.settings;
    const partials = this.#partials;
    let count = 0;
    for (const { parameter } of this.parameters) {
      const x = parameter.trained!.grad;
      count += sumOfSquares(gpu, { x, partials, slot: count, control });
    }
    const growthInterval = GROWTH_INTERVAL;
    const dynamic = precision === "mixed";
    updateControl(gpu, { partials, count, control, dynamic, maxGradNorm, growthInterval });
    for (const { parameter, moments } of this.parameters) {
      const { master, grad } = parameter.trained!;
      const value = parameter.value === master ? undefined : parameter.value;
      // Norm weights are not decayed: they scale, they don't mix.
      const weightDecay = parameter.shape.length > 1 ? weight_decay : 0;
      const common = { master, grad, value, control, learningRate, weightDecay };
      if (moments === undefined) sgd(gpu, common);
      else adamw(gpu, { ...common, ...moments, beta1: betas[0], beta2: betas[1], eps });
    }
  }
}
