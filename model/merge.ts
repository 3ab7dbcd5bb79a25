/**
 * Adapters merged into the weights they adapt: W' = W + (α/r)·B·A, on the GPU in f32.
 *
 * Shapes: W `[out, in]`, A `[r, in]`, B `[out, r]`. Source: Hu et al., "LoRA: Low-Rank Adaptation of
 * Large Language Models", 2021.
 *
 * @module
 */
import { castBytes } from "../kernels/cast.ts";
import type { Gpu } from "../kernels/gpu.ts";
import { matmul } from "../kernels/matmul.ts";
import type { Tensor } from "../kernels/tensor.ts";
import type { Adapter, AdapterTensor } from "./files/adapter.ts";
import { mostElements, type Piece, type WeightChange } from "./files/rewrite.ts";
import { padRows } from "./load.ts";
import { storedShape } from "./parameters.ts";

/** The two matrices of one linear layer. */
interface Matrices {
  a: AdapterTensor;
  b: AdapterTensor;
}

/** Merges an adapter that fits the model (see `checkAdapter`), a piece of one weight at a time. */
export class AdapterMerge implements WeightChange {
  /** By the name of the weight. */
  readonly #matrices = new Map<string, Matrices>();
  readonly #scale: number;
  /** A piece as it is in the file, and as f32. */
  readonly #words: Tensor;
  readonly #values: Tensor;
  /** The layer in work, with its matrices on the GPU. */
  #current?: { name: string; a: Tensor; b: Tensor };

  constructor(readonly gpu: Gpu, { config, tensors }: Adapter) {
    this.#scale = config.lora_alpha / config.r;
    for (const [name, a] of tensors) {
      const layer = /^base_model\.model\.(.+)\.lora_A\.weight$/.exec(name)?.[1];
      if (layer === undefined) continue;
      const b = tensors.get(name.replace("lora_A", "lora_B"))!;
      this.#matrices.set(`${layer}.weight`, { a, b });
    }
    const most = mostElements(
      Array.from(this.#matrices.values(), ({ a, b }) => [b.shape[0], a.shape[1]]),
    );
    this.#words = gpu.memory.tensor("workspace", "file bytes", "u32", [most]);
    this.#values = gpu.memory.tensor("workspace", "merged", "f32", [most]);
  }

  /** Number of weights that the adapter changes. */
  get count(): number {
    return this.#matrices.size;
  }

  changes(name: string): boolean {
    return this.#matrices.has(name);
  }

  async apply({ name, dtype, shape, firstRow, rows, bytes }: Piece): Promise<Float32Array> {
    const { gpu } = this;
    const { a, b } = this.#matricesOf(name);
    const w = this.#values.view([rows, shape[1]]);
    gpu.write(this.#words, bytes);
    castBytes(gpu, { words: this.#words, from: dtype, y: w, count: w.size });
    matmul(gpu, {
      ...{ orientation: "nn", a: b.rows(firstRow, rows), b: a, c: w, rows },
      ...{ alpha: this.#scale, accumulate: true },
    });
    return await gpu.readF32(w);
  }

  /** A layer's matrices on the GPU; those of the layer before make room for them. */
  #matricesOf(name: string): { a: Tensor; b: Tensor } {
    if (this.#current?.name !== name) {
      if (this.#current !== undefined) {
        this.gpu.free(this.#current.a);
        this.gpu.free(this.#current.b);
      }
      const { a, b } = this.#matrices.get(name)!;
      this.#current = { name, a: this.#upload("lora_A", a), b: this.#upload("lora_B", b) };
    }
    return this.#current;
  }

  #upload(name: string, { shape, data }: AdapterTensor): Tensor {
    const stored = storedShape(shape);
    const tensor = this.gpu.memory.tensor("parameter", name, "f32", stored);
    this.gpu.write(tensor, padRows(data, shape, stored));
    return tensor;
  }
}
