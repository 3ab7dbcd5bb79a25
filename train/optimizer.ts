/**
 * One optimizer step over everything that is trained: gradient norm, clipping, loss scale, update.
 * Whether the step is skipped is decided on the GPU, so nothing is read back in between.
 *
 * @module
 */
import { adamw } from "../kernels/ops/optimizer/adamw.ts";
import { clear } from "../kernels/ops/elements/bytes.ts";
import type { Gpu } from "../kernels/gpu/gpu.ts";
import { sumOfSquares, sumOfSquaresSlots } from "../kernels/ops/optimizer/grad_norm.ts";
import { updateGradScaler } from "../kernels/ops/optimizer/loss_scale.ts";
import type { Memory } from "../kernels/gpu/memory.ts";
import { sgd } from "../kernels/ops/optimizer/sgd.ts";
import type { Tensor } from "../kernels/gpu/tensor.ts";
import type { Parameter, TrainedParameter } from "../model/transformer/parameters.ts";
import type { TrainConfig } from "./config/config.ts";

/** Good steps after which the loss scale doubles, as in PyTorch's GradScaler. */
const GROWTH_INTERVAL = 2000;

/** The keys of the configuration that an optimizer reads. */
export type OptimizerSettings = Pick<
  TrainConfig,
  "optimizer" | "betas" | "eps" | "weight_decay" | "max_grad_norm" | "precision"
>;

/** A trained parameter with its first and second moments, where the optimizer keeps them. */
export interface OptimizedParameter {
  parameter: TrainedParameter;
  moments?: { m: Tensor; v: Tensor };
}

/** What one launch updates: a parameter, or several that lie side by side in memory. */
interface Update {
  master: Tensor;
  grad: Tensor;
  /** Copy in the compute dtype, where that is not f32. */
  value?: Tensor;
  m?: Tensor;
  v?: Tensor;
  decayed: boolean;
  /** What the learning rate is multiplied by. */
  rate: number;
}

const updateOf = ({ parameter, moments }: OptimizedParameter, rate: number): Update => {
  const { master, grad } = parameter.trained;
  return {
    master,
    grad,
    ...moments,
    value: parameter.value === master ? undefined : parameter.value,
    // Norm weights are not decayed: they scale, they don't mix.
    decayed: parameter.shape.length > 1,
    rate,
  };
};

/** Whether b follows a in memory with nothing in between. */
const follows = (a: Tensor | undefined, b: Tensor | undefined) =>
  a === undefined || b === undefined
    ? a === b
    : a.buffer === b.buffer && b.offset === a.offset + a.bytes;

const TENSORS = ["master", "grad", "value", "m", "v"] as const;

/** Updates with neighbours joined: adapters are many and small, and a launch costs more than they do. */
function joinNeighbours(updates: readonly Update[], maxBinding: number): Update[] {
  const joined: Update[] = [];
  for (const next of updates) {
    const last = joined.at(-1);
    const adjacent = last !== undefined && last.decayed === next.decayed &&
      last.rate === next.rate &&
      TENSORS.every((name) => follows(last[name], next[name])) &&
      last.grad.bytes + next.grad.bytes <= maxBinding;
    if (!adjacent) joined.push(next);
    else {
      const size = last.grad.size + next.grad.size;
      const views = TENSORS.map((name) => [name, last[name]?.view([size])]);
      joined[joined.length - 1] = { ...last, ...Object.fromEntries(views) };
    }
  }
  return joined;
}

/** AdamW or SGD. */
export class Optimizer {
  readonly parameters: readonly OptimizedParameter[];
  readonly #updates: readonly Update[];
  /** Gradients that are cleared and measured together: they need not be updated alike. */
  readonly #grads: readonly Tensor[];
  readonly #partials: Tensor;

  /**
   * @param maxBinding Bytes one binding covers; larger gradients need more partial sums.
   * @param rateOf What a parameter's learning rate is multiplied by. Default: 1.
   */
  constructor(
    memory: Memory,
    trained: readonly TrainedParameter[],
    readonly settings: OptimizerSettings,
    maxBinding: number,
    rateOf: (parameter: Parameter) => number = () => 1,
  ) {
    const specs = trained.map(({ name, trained }) => ({
      name,
      dtype: "f32" as const,
      shape: trained.master.shape,
    }));
    const adam = settings.optimizer === "adamw";
    const m = adam ? memory.arena("optimizer", "first moments", specs) : [];
    const v = adam ? memory.arena("optimizer", "second moments", specs) : [];
    this.parameters = trained.map((parameter, i) => ({
      parameter,
      moments: adam ? { m: m[i], v: v[i] } : undefined,
    }));
    const updates = this.parameters.map((own) => updateOf(own, rateOf(own.parameter)));
    this.#updates = joinNeighbours(updates, maxBinding);
    const alike = updates.map((update) => ({ ...update, rate: 1 }));
    this.#grads = joinNeighbours(alike, maxBinding).map(({ grad }) => grad);
    const slots = this.#grads.reduce(
      (sum, { size }) => sum + sumOfSquaresSlots(size, maxBinding),
      0,
    );
    this.#partials = memory.tensor("workspace", "norm partials", "f32", [slots]);
  }

  /** Sets every gradient to zero. */
  clearGradients(gpu: Gpu): void {
    for (const grad of this.#grads) clear(gpu, grad);
  }

  /** Updates every parameter, or none where a gradient is not finite. */
  step(gpu: Gpu, gradScaler: Tensor, learningRate: number): void {
    const { precision, max_grad_norm: maxGradNorm, betas, eps, weight_decay } = this.settings;
    const partials = this.#partials;
    let count = 0;
    for (const x of this.#grads) {
      count += sumOfSquares(gpu, { x, partials, slot: count, gradScaler });
    }
    const growthInterval = GROWTH_INTERVAL;
    const dynamic = precision === "mixed";
    updateGradScaler(gpu, { partials, count, gradScaler, dynamic, maxGradNorm, growthInterval });
    for (const { master, grad, value, m, v, decayed, rate } of this.#updates) {
      const weightDecay = decayed ? weight_decay : 0;
      const own = { learningRate: rate * learningRate, weightDecay };
      const common = { master, grad, value, gradScaler, ...own };
      if (m === undefined || v === undefined) sgd(gpu, common);
      else adamw(gpu, { ...common, m, v, beta1: betas[0], beta2: betas[1], eps });
    }
  }
}
