/**
 * The input end: token embedding, an adapter on it, and rows of the embeddings that are trained on their own.
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import { cast } from "../../kernels/ops/elements/cast.ts";
import { scale } from "../../kernels/ops/elements/scale.ts";
import { magnitudeGradient, scaleColumns } from "../../kernels/ops/dora/dora.ts";
import { embeddingDoraFactors } from "../../kernels/ops/dora/dora_embedding.ts";
import { embedding, embeddingBackward } from "../../kernels/ops/embedding/embedding.ts";
import {
  embeddingLora,
  embeddingLoraBackward,
} from "../../kernels/ops/embedding/embedding_lora.ts";
import type { Gpu } from "../../kernels/gpu/gpu.ts";
import type { LoraGroup } from "../../kernels/ops/lora/lora.ts";
import type { Memory } from "../../kernels/gpu/memory.ts";
import type { Tensor } from "../../kernels/gpu/tensor.ts";
import {
  putTokenRows,
  tokenRowsBackward,
  tokenSlots,
} from "../../kernels/ops/embedding/token_rows.ts";
import { EMBEDDING, OUTPUT } from "../adapter/plan.ts";
import { loraNames, tokenRowsName } from "../adapter/tensors.ts";
import type { Parts } from "./assemble.ts";
import type { BatchTensors } from "./batch.ts";
import type { Dora } from "./packed_linear.ts";
import { type Parameter, parameterOf } from "./parameters.ts";

/** Rows of one table that are trained on their own; see kernels/ops/embedding/token_rows.ts. */
interface TrainedRows {
  tokens: readonly number[];
  /** `[tokens, hidden]`. */
  delta: Parameter;
  table: Parameter;
  /** The tokens `[tokens]` u32. */
  indices: Tensor;
  /** The row of delta of every token, where the input end's backward needs it `[vocabulary]` u32. */
  slots?: Tensor;
}

/** The embedding's adapter. */
interface EmbeddingAdapter {
  group: LoraGroup;
  loraHidden: Tensor;
  /** Working memory of backward; absent where it is not trained. */
  loraHiddenGrad?: Tensor;
  dora?: EmbeddingDora;
}

/** What DoRA adds to the embedding's adapter; see kernels/ops/dora/dora_embedding.ts. */
interface EmbeddingDora extends Dora {
  /** What the factors multiply, and then y's gradient times them `[T, hidden]`; absent where it is not trained. */
  z?: Tensor;
}

/** Trained rows as the output end needs them: their gradient there is a product of a few columns of the logits'. */
export interface TrainedOutputRows {
  count: number;
  indices: Tensor;
  grad: Tensor;
}

/**
 * Refuses a table whose rows can't be written one by one.
 *
 * @throws {UserError} where it is of a kind that is not dense.
 */
function refuseEncoded({ name, operand: { kind } }: Parameter): void {
  if (kind.element !== undefined) return;
  throw new UserError(
    `trainable_token_indices of the adapter replaces rows of ${name}, which is held as ${kind.name}; ` +
      "expected it as f32 or f16",
  );
}

/** The token embedding, its adapter and its trained rows. */
export class InputEnd {
  /** `[vocabulary, hidden]`. */
  readonly table: Parameter;
  readonly #multiplier: number;
  readonly #adapter?: EmbeddingAdapter;
  readonly #rows: readonly TrainedRows[];
  /** Rows of the table that logits are made with. */
  readonly #outputRows?: TrainedRows;

  /**
   * @param tokens Most tokens of a pass.
   * @throws {UserError} where rows are trained of a table that is not dense.
   */
  constructor(memory: Memory, { weights, adapters, plan, spec, dora }: Parts, tokens: number) {
    this.table = parameterOf(weights, `${EMBEDDING}.weight`);
    const output = weights.get(`${OUTPUT}.weight`);
    const vocabulary = spec.vocab_size;
    this.#multiplier = spec.embedding_multiplier;
    this.#rows = (plan?.tokens ?? []).map(({ module, tokens }) => {
      const delta = parameterOf(adapters, tokenRowsName(module));
      const isInput = module === EMBEDDING, length = delta.value.shape[0];
      const table = isInput ? this.table : output ?? this.table;
      refuseEncoded(table);
      return {
        tokens,
        delta,
        table,
        indices: memory.tensor("workspace", "token_indices", "u32", [length]),
        slots: isInput && delta.trained !== undefined
          ? memory.tensor("workspace", "token_slots", "u32", [vocabulary])
          : undefined,
      };
    });
    const outputTable = output ?? this.table;
    this.#outputRows = this.#rows.find(({ table }) => table === outputTable);
    const module = plan?.modules.get(EMBEDDING);
    if (module === undefined) return;
    const names = loraNames(EMBEDDING);
    const [a, b] = [parameterOf(adapters, names.a), parameterOf(adapters, names.b)];
    const hidden = (name: string) =>
      memory.tensor("activation", name, "f32", [tokens, a.value.shape[0]]);
    const own = dora.get(EMBEDDING), isTrained = a.trained !== undefined;
    const z = isTrained && own !== undefined
      ? memory.tensor("workspace", "embedding_dora_z", "f32", [tokens, spec.hidden_size])
      : undefined;
    this.#adapter = {
      group: {
        modules: [{
          a: a.value,
          b: b.value,
          from: 0,
          scale: module.scale,
          subsequence: 0,
          gradA: a.trained?.grad,
          gradB: b.trained?.grad,
        }],
        mask: { p: 0, seed: 0, step: 0 },
      },
      loraHidden: hidden("embedding_lora_hidden"),
      loraHiddenGrad: isTrained ? hidden("embedding_lora_hidden_grad") : undefined,
      dora: own && { ...own, z },
    };
  }

  /** Whether anything is trained that the gradient of the first block's input is needed for. */
  get isTrained(): boolean {
    return this.table.trained !== undefined || this.#adapter?.loraHiddenGrad !== undefined ||
      this.#rows.some(({ slots }) => slots !== undefined);
  }

  /** The rows whose gradient the output end has to add to. */
  get outputRows(): TrainedOutputRows | undefined {
    const rows = this.#outputRows, grad = rows?.delta.trained?.grad;
    if (rows === undefined || grad === undefined) return undefined;
    return { count: rows.tokens.length, indices: rows.indices, grad };
  }

  /** Writes the tables of tokens. Call once before any pass. */
  initialize(gpu: Gpu): void {
    for (const { tokens, indices, slots } of this.#rows) {
      gpu.write(indices, Uint32Array.from(tokens));
      if (slots !== undefined) gpu.write(slots, tokenSlots(slots.size, tokens));
    }
  }

  /** Writes the trained rows into their tables, and DoRA's factors. */
  refresh(gpu: Gpu): void {
    for (const { tokens, delta, table, indices } of this.#rows) {
      putTokenRows(gpu, {
        delta: delta.value,
        indices,
        table: table.value,
        count: tokens.length,
      });
    }
    if (this.#adapter?.dora === undefined) return;
    const { group: { modules: [{ a, b, scale }] }, dora } = this.#adapter,
      weight = this.table.operand;
    embeddingDoraFactors(gpu, { ...dora, weight, a, b, scale, magnitude: dora.magnitude.value });
  }

  /** DoRA's magnitudes become what leaves the embedding as it is. */
  initializeMagnitudes(gpu: Gpu): void {
    const dora = this.#adapter?.dora;
    if (dora === undefined) return;
    this.refresh(gpu);
    cast(gpu, { x: dora.norm, y: dora.magnitude.value });
  }

  /** Writes the tokens' embeddings `[T, hidden]` f32. */
  forward(gpu: Gpu, batch: BatchTensors, y: Tensor): void {
    this.#adapted(gpu, batch, y);
    const factor = this.#adapter?.dora?.factor;
    const rows = batch.tokens;
    if (factor !== undefined) scaleColumns(gpu, { x: y, factor, y, from: 0, rows });
    this.#multiply(gpu, y, rows);
  }

  /** Multiplies rows as the specification has it. */
  #multiply(gpu: Gpu, y: Tensor, rows: number): void {
    if (this.#multiplier !== 1) scale(gpu, { x: y, y, factor: this.#multiplier, rows });
  }

  /** y without the factors. */
  #adapted(gpu: Gpu, { ids, tokens: rows }: BatchTensors, y: Tensor): void {
    embedding(gpu, { table: this.table.operand, ids, y, rows });
    if (this.#adapter === undefined) return;
    const { group, loraHidden } = this.#adapter;
    embeddingLora(gpu, { ids, group, loraHidden, y, rows });
  }

  /** Adds to the gradients of what is trained those of the tokens' embeddings, dy `[T, hidden]`, which is overwritten. */
  backward(gpu: Gpu, batch: BatchTensors, dy: Tensor): void {
    const { groups, uniqueCount: unique, tokens: rows } = batch;
    if (groups === undefined) return;
    this.#multiply(gpu, dy, rows);
    const dtable = this.table.trained?.grad;
    if (dtable !== undefined) embeddingBackward(gpu, { ...groups, dy, dtable, unique });
    for (const { delta, slots } of this.#rows) {
      const grad = delta.trained?.grad;
      if (slots === undefined || grad === undefined) continue;
      tokenRowsBackward(gpu, { ...groups, dy, slots, grad, unique });
    }
    if (this.#adapter?.loraHiddenGrad === undefined) return;
    const { group, loraHidden, loraHiddenGrad, dora } = this.#adapter;
    const scaled = dora === undefined ? dy : this.#magnitudeBackward(gpu, batch, dy, dora);
    embeddingLoraBackward(gpu, {
      ...groups,
      dy: scaled,
      group,
      loraHidden,
      loraHiddenGrad,
      rows,
      unique,
    });
  }

  /** Adds to the magnitudes' gradient. @returns factor ∘ dy. */
  #magnitudeBackward(
    gpu: Gpu,
    batch: BatchTensors,
    dy: Tensor,
    { magnitude, norm, factor, z }: EmbeddingDora,
  ): Tensor {
    if (z === undefined) throw new Error("an embedding with DoRA needs its working memory");
    const grad = magnitude.trained?.grad, place = { from: 0, rows: batch.tokens };
    if (grad !== undefined) {
      this.#adapted(gpu, batch, z);
      magnitudeGradient(gpu, { dy, z, norm, grad, ...place });
    }
    scaleColumns(gpu, { x: dy, factor, y: z, ...place });
    return z;
  }
}
