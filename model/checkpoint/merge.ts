/**
 * Adapters merged into the weights they adapt, on the GPU in f32: W' = W + s·B·A, with DoRA each row of W' (of the
 * embedding each column) scaled to the length that the adapter has for it. Weights that the adapter has copies of are
 * replaced by these.
 *
 * A model whose embeddings are tied gets an output projection of its own where the adapter changes only one of
 * the two; and projections that the adapter gives biases get them, the others beside them biases of zero.
 *
 * Shapes: W `[out, in]`, A `[r, in]`, B `[out, r]`. Source: Hu et al., "LoRA: Low-Rank Adaptation of
 * Large Language Models", 2021.
 *
 * @module
 */
import { castBytes } from "../../kernels/ops/elements/cast.ts";
import { UserError } from "../../kernels/errors.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import { matmul } from "../../kernels/ops/matmul/matmul.ts";
import type { Tensor } from "../../kernels/gpu/tensor.ts";
import { adaptedConfig, type AdapterPlan, EMBEDDING, OUTPUT } from "../adapter/plan.ts";
import { copiedWeight, loraNames, tokenRowsName } from "../adapter/tensors.ts";
import { type ModelConfig, weightShapes, withBias } from "../families/config.ts";
import { type Adapter, type AdapterTensor, checkAdapter } from "../adapter/adapter_folder.ts";
import { isLinearModule } from "../families/linear_modules.ts";
import {
  mostElements,
  pieceValues,
  type WeightChange,
  type WeightPiece,
} from "../formats/rewrite.ts";
import { padRows } from "./load.ts";
import { storedShape } from "../transformer/parameters.ts";

/** What LoRA adds to one weight. */
interface Update {
  /** `[r, in]` and `[out, r]`. */
  a: AdapterTensor;
  b: AdapterTensor;
  scale: number;
  /** DoRA's lengths `[out]` of the rows, of the embedding `[hidden]` of the columns. */
  magnitude?: { lengths: Float32Array; of: "rows" | "columns" };
}

/** The steps of merging one weight, in order. */
interface Change {
  /** The adapter's copy instead of the model's own values. */
  copy?: AdapterTensor;
  update?: Update;
  /** Rows that are replaced, by number. */
  rows?: ReadonlyMap<number, Float32Array>;
  /** Added, times a factor. */
  bias?: { tensor: AdapterTensor; scale: number };
}

/** `[r, n]` as `[n, r]`. */
function transposed({ shape: [rows, columns], data }: AdapterTensor): AdapterTensor {
  const transposed = new Float32Array(data.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      transposed[column * rows + row] = data[row * columns + column];
    }
  }
  return { shape: [columns, rows], data: transposed };
}

/** The adapter's update, by the name of the weight. */
function changesOf({ tensors }: Adapter, plan: AdapterPlan, tied: boolean): Map<string, Change> {
  const changes = new Map<string, Change>();
  const change = (name: string): Change => {
    const known = changes.get(name) ?? {};
    changes.set(name, known);
    return known;
  };
  const tensor = (name: string): AdapterTensor => {
    const found = tensors.get(name);
    if (found === undefined) throw new Error(`the adapter has no ${name}`);
    return found;
  };
  for (const [module, { scale }] of plan.modules) {
    const names = loraNames(module), [a, b] = [tensor(names.a), tensor(names.b)];
    const lengths = tensors.get(names.magnitude)?.data;
    change(`${module}.weight`).update = {
      ...module === EMBEDDING ? { a: transposed(b), b: transposed(a) } : { a, b },
      scale,
      magnitude: lengths && { lengths, of: module === EMBEDDING ? "columns" : "rows" },
    };
    const bias = tensors.get(names.bias);
    if (bias !== undefined) change(`${module}.bias`).bias = { tensor: bias, scale };
  }
  for (const { module, tokens } of plan.tokens) {
    const { shape: [, width], data } = tensor(tokenRowsName(module));
    change(`${module}.weight`).rows = new Map(
      tokens.map((token, i) => [token, data.subarray(i * width, (i + 1) * width)]),
    );
  }
  for (const [name, copy] of tensors) {
    const weight = copiedWeight(name);
    if (weight === undefined) continue;
    change(weight).copy = copy;
    // The base of one is the base of both, unless the adapter has a copy of its own for each.
    const ends = [EMBEDDING, OUTPUT];
    if (!tied || plan.unties || !ends.some((end) => weight.startsWith(`${end}.`))) continue;
    for (const end of ends) change(`${end}.weight`).copy = copy;
  }
  return changes;
}

/** The model that comes of it. */
function mergedConfig(model: ModelConfig, plan: AdapterPlan, names: Iterable<string>): ModelConfig {
  let config = { ...adaptedConfig(model, plan) };
  if ([EMBEDDING, OUTPUT].some((module) => plan.modules.has(module))) {
    config.tie_word_embeddings = false;
  }
  for (const name of names) {
    if (!name.endsWith(".bias") || weightShapes(config).has(name)) continue;
    const module = name.slice(0, -".bias".length), layer = module.split(".").at(-1);
    const biased = isLinearModule(layer) ? withBias(config, layer) : undefined;
    if (biased === undefined) {
      throw new UserError(
        `the adapter gives ${module} a bias, which a ${model.model_type} model has no place for; ` +
          "expected an adapter without lora_bias, or to be used unmerged",
      );
    }
    config = biased;
  }
  return config;
}

/** Merges an adapter, a piece of one weight at a time. */
export class AdapterMerge implements WeightChange {
  readonly config: ModelConfig;
  /** By the name of the weight. */
  readonly #changes: Map<string, Change>;
  readonly #model: ModelConfig;
  /** A piece as it is in the file, and as f32. */
  readonly #words: Tensor;
  readonly #values: Tensor;
  /** The layer in work, with its matrices on the GPU. */
  #current?: { name: string; a: Tensor; b: Tensor };
  /** Sums of squares of the columns of the tensor that was surveyed last. */
  #squares = new Float64Array();

  /**
   * @param what What the adapter is called in messages.
   * @throws {UserError} where the adapter doesn't fit the model, or has what no merged model could have.
   */
  constructor(readonly gpu: Gpu, adapter: Adapter, model: ModelConfig, what = "the adapter") {
    const plan = checkAdapter(adapter, model, what);
    this.#model = model;
    const changes = changesOf(adapter, plan, model.tie_word_embeddings);
    this.config = mergedConfig(model, plan, changes.keys());
    const shapes = weightShapes(this.config);
    // A tied output projection is its embedding.
    this.#changes = new Map([...changes].filter(([name]) => shapes.has(name)));
    const updated = [...this.#changes].filter(([, { update }]) => update !== undefined);
    const most = Math.max(1, mostElements(updated.map(([name]) => shapes.get(name) ?? [])));
    this.#words = gpu.memory.tensor("workspace", "file bytes", "u32", [most]);
    this.#values = gpu.memory.tensor("workspace", "merged", "f32", [most]);
  }

  /** Number of weights that the adapter changes. */
  get count(): number {
    return this.#changes.size;
  }

  changes(name: string): boolean {
    return this.#changes.has(name);
  }

  origin(name: string): string | undefined {
    const shapes = weightShapes(this.#model);
    if (shapes.has(name)) return name;
    return name === `${OUTPUT}.weight` ? `${EMBEDDING}.weight` : undefined;
  }

  surveys(name: string): boolean {
    return this.#changes.get(name)?.update?.magnitude?.of === "columns";
  }

  async survey(piece: WeightPiece): Promise<void> {
    const [, width = 1] = piece.shape;
    if (piece.firstRow === 0) this.#squares = new Float64Array(width);
    const squares = this.#squares;
    (await this.#adapted(piece)).forEach((value, i) => squares[i % width] += value * value);
  }

  /** A piece with the adapter's copy and update. */
  async #adapted(piece: WeightPiece): Promise<Float32Array> {
    const { name, firstRow, rows, shape: [, width = 1] } = piece;
    const { copy, update } = this.#changes.get(name) ?? {};
    const begin = firstRow * width, end = begin + rows * width;
    const values = copy === undefined ? pieceValues(piece) : copy.data.slice(begin, end);
    return update === undefined ? values : await this.#updated(piece, update, copy && values);
  }

  async apply(piece: WeightPiece): Promise<Float32Array> {
    const { name, firstRow, rows, shape } = piece, width = shape[1] ?? 1;
    const { update, rows: replaced, bias } = this.#changes.get(name) ?? {};
    let values = await this.#adapted(piece);
    if (update?.magnitude !== undefined) {
      const { lengths, of } = update.magnitude;
      if (of === "rows") scaleRows(values, width, lengths, firstRow);
      else scaleColumns(values, lengths, this.#squares);
    }
    if (replaced !== undefined) {
      values = values.slice();
      for (const [row, numbers] of replaced) {
        if (row >= firstRow && row < firstRow + rows) values.set(numbers, (row - firstRow) * width);
      }
    }
    if (bias === undefined) return values;
    const { tensor: { data }, scale } = bias;
    return values.map((value, i) => value + scale * data[firstRow + i]);
  }

  /** W + s·B·A of a piece. @param base W's values, where they are not the file's. */
  async #updated(
    { name, dtype, shape, firstRow, rows, bytes }: WeightPiece,
    update: Update,
    base: Float32Array | undefined,
  ): Promise<Float32Array> {
    const { gpu } = this;
    const { a, b } = this.#matricesOf(name, update);
    const w = this.#values.view([rows, shape[1]]);
    if (base !== undefined) gpu.write(w, base);
    else {
      gpu.write(this.#words, bytes);
      castBytes(gpu, { words: this.#words, from: dtype, y: w, count: w.size });
    }
    matmul(gpu, {
      orientation: "nn",
      a: b.rows(firstRow, rows),
      b: a,
      c: w,
      rows,
      alpha: update.scale,
      accumulate: true,
    });
    return await gpu.readF32(w);
  }

  /** A layer's matrices on the GPU; those of the layer before make room for them. */
  #matricesOf(name: string, { a, b }: Update): { a: Tensor; b: Tensor } {
    if (this.#current?.name !== name) {
      if (this.#current !== undefined) {
        this.gpu.free(this.#current.a);
        this.gpu.free(this.#current.b);
      }
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

/** Brings every row to a length, in place; a row of zeros stays one. */
function scaleRows(
  values: Float32Array,
  width: number,
  lengths: Float32Array,
  firstRow: number,
): void {
  for (let row = 0; row * width < values.length; row++) {
    const numbers = values.subarray(row * width, (row + 1) * width);
    let sum = 0;
    for (const value of numbers) sum += value * value;
    const factor = sum > 0 ? lengths[firstRow + row] / Math.sqrt(sum) : 0;
    for (let i = 0; i < width; i++) numbers[i] *= factor;
  }
}

/** Brings every column to a length, in place, given their sums of squares; a column of zeros stays one. */
function scaleColumns(values: Float32Array, lengths: Float32Array, squares: Float64Array): void {
  const factors = squares.map((sum, i) => sum > 0 ? lengths[i] / Math.sqrt(sum) : 0);
  for (let i = 0; i < values.length; i++) values[i] *= factors[i % factors.length];
}
