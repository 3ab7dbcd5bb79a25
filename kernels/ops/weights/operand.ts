/**
 * A weight matrix as products take it: tensors of one kind, seen as rows.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import { bytesOf, type Dtype, type RowRange, splitRows, type Tensor } from "../../gpu/tensor.ts";
import {
  type EncodedPiece,
  type Encoder,
  isTable,
  type Plane,
  planeSize,
  type WeightKind,
} from "./kind.ts";
import { denseKind } from "./kinds.ts";

/** A weight: a matrix `[rows, columns]`, or of the dense kinds any tensor. */
export class WeightOperand {
  /** Bytes of all rows, and how many values they hold. */
  readonly bytes: number;
  readonly values: number;
  readonly #planes: readonly Plane[];
  readonly #views = new Map<string, WeightOperand>();

  constructor(
    readonly kind: WeightKind,
    readonly shape: readonly number[],
    /** One for each of the kind's planes. */
    readonly tensors: readonly Tensor[],
  ) {
    this.bytes = tensors.reduce((sum, { size, dtype }) => sum + size * bytesOf(dtype), 0);
    this.values = sizeOf(shape);
    this.#planes = kind.planes(this.columns);
  }

  get name(): string {
    return this.tensors[0].name;
  }

  /**
   * The only tensor of a dense weight.
   *
   * @throws {Error} where its kind is another.
   */
  get tensor(): Tensor {
    if (this.kind.element === undefined) {
      throw new Error(`${this.name} is held as ${this.kind.name}, which can't be read as a tensor`);
    }
    return this.tensors[0];
  }

  /** Values of a row. */
  get columns(): number {
    return sizeOf(this.shape.slice(1));
  }

  /** Bytes of the largest of its tensors: what one binding has to cover. */
  get boundBytes(): number {
    return Math.max(...this.tensors.map(({ bytes }) => bytes));
  }

  /**
   * Rows `start` to `start + count`; the same object each time.
   *
   * @throws {Error} where a tensor can't be cut there.
   */
  rows(start: number, count: number): WeightOperand {
    const key = `${start}:${count}`;
    let view = this.#views.get(key);
    if (view === undefined) {
      const tensors = this.tensors.map((tensor, i) => this.#rowsOf(tensor, i, start, count));
      view = new WeightOperand(this.kind, [count, ...this.shape.slice(1)], tensors);
      this.#views.set(key, view);
    }
    return view;
  }

  #rowsOf(tensor: Tensor, plane: number, start: number, count: number): Tensor {
    if (this.kind.element !== undefined) return tensor.rows(start, count);
    const description = this.#planes[plane], first = start * this.columns;
    if (isTable(description)) return tensor;
    const { values } = description;
    if (first % values !== 0) {
      throw new Error(
        `${this.name}: row ${start} does not start at a multiple of ${values} values`,
      );
    }
    const size = planeSize(description, count * this.columns);
    return tensor.view([size], planeSize(description, first));
  }

  /** Ranges of rows that fit a binding of `limit` bytes each; one where all of them do. */
  ranges(limit: number): RowRange[] {
    const planes = this.#planes.filter((plane) => !isTable(plane));
    return splitRows(
      this.shape[0],
      planes.map(({ values, elements, dtype }) => ({
        bytes: this.columns * elements / values * bytesOf(dtype),
        // Rows end between the groups of values that an element, or several, stand for.
        whole: values,
        size: this.columns,
      })),
      limit,
    );
  }
}

/** Product of the sizes. */
function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** The tensors of a weight `[rows, columns]` of this kind: suffixes of their names, dtypes and shapes. */
export function planeTensors(
  kind: WeightKind,
  shape: readonly number[],
): { suffix: string; dtype: Dtype; shape: number[] }[] {
  return kind.planes(sizeOf(shape.slice(1))).map((plane) => ({
    suffix: plane.suffix,
    dtype: plane.dtype,
    shape: kind.element === undefined ? [planeSize(plane, sizeOf(shape))] : [...shape],
  }));
}

/** A weight of this kind, whose tensors `make` makes. */
export function makeOperand(
  kind: WeightKind,
  shape: readonly number[],
  make: (tensor: { suffix: string; dtype: Dtype; shape: number[] }) => Tensor,
): WeightOperand {
  return new WeightOperand(kind, shape, planeTensors(kind, shape).map(make));
}

/**
 * How values become weights of this one's kind.
 *
 * @throws {Error} where they are only taken as a file holds them.
 */
export function encoderOf({ name, kind: { name: kind, encoder } }: WeightOperand): Encoder {
  if (encoder === undefined) throw new Error(`${name} is ${kind}, which values can't become`);
  return encoder;
}

/** Elements of the working memory in which each of these weights can be encoded. */
export function encodingElements(weights: readonly WeightOperand[]): number {
  return weights.reduce(
    (most, { kind, values }) => Math.max(most, kind.encoder?.workElements(values) ?? 0),
    0,
  );
}

/** Writes values of a file: its bytes where their dtype is the weight's, otherwise by way of `piece.words`. */
export function writeFileValues(
  gpu: Gpu,
  weight: WeightOperand,
  bytes: Uint8Array<ArrayBuffer>,
  piece: EncodedPiece,
): void {
  const { kind, tensors } = weight;
  if (kind.element?.toUpperCase() === piece.from) {
    gpu.write(tensors[0].view([piece.count], piece.first), bytes);
    return;
  }
  gpu.write(piece.words, bytes);
  encoderOf(weight).encode(gpu, tensors, piece);
}

/** Working memory in which each of these weights can be encoded, to be freed then; undefined where none takes any. */
export function encodingWork(gpu: Gpu, weights: readonly WeightOperand[]): Tensor | undefined {
  const elements = encodingElements(weights);
  return elements === 0 ? undefined : gpu.memory.tensor("workspace", "encoding", "f32", [elements]);
}

/** Writes the values of x `[rows, columns]` f32 into a weight of that shape. */
export function encodeWeight(gpu: Gpu, weight: WeightOperand, x: Tensor): void {
  const { kind, tensors, shape, values } = weight, [rows] = shape, columns = x.rowSize;
  const work = encodingWork(gpu, [weight]);
  kind.writeTables?.(gpu, tensors);
  const ranges = splitRows(rows, columns * 4, gpu.maxBinding);
  for (const { start, count } of ranges) {
    const words = (ranges.length === 1 ? x : x.rows(start, count)).as("u32");
    encoderOf(weight).encode(gpu, tensors, {
      words,
      from: "F32",
      first: start * columns,
      count: count * columns,
      values,
      work,
    });
  }
  if (work !== undefined) gpu.free(work);
}

/** Operands of tensors that products were given. */
const dense = new WeakMap<Tensor, WeightOperand>();

/** A tensor as a dense operand; the same object each time. */
export function operandOf(weight: Tensor | WeightOperand): WeightOperand {
  if (weight instanceof WeightOperand) return weight;
  let operand = dense.get(weight);
  if (operand === undefined) {
    operand = new WeightOperand(denseKind(weight.dtype), weight.shape, [weight]);
    dense.set(weight, operand);
  }
  return operand;
}

/** Adjacent matrices as one matrix; undefined where they are not adjacent in memory. */
export function packTensors(matrices: readonly Tensor[]): Tensor | undefined {
  const [first] = matrices;
  if (matrices.length === 1) return first;
  const adjacent = matrices.slice(1).every((matrix, i) => {
    const before = matrices[i];
    return matrix.buffer === before.buffer &&
      matrix.offset === before.offset + before.size * bytesOf(before.dtype);
  });
  const height = matrices.reduce((sum, { shape }) => sum + shape[0], 0);
  return adjacent ? first.view([height, ...first.shape.slice(1)]) : undefined;
}

/**
 * Weights one below the other as one weight, where they are of one kind and all their tensors are adjacent in memory.
 */
export function packOperands(weights: readonly WeightOperand[]): WeightOperand | undefined {
  const [{ kind, shape, tensors }] = weights;
  if (weights.length === 1) return weights[0];
  if (weights.some((weight) => weight.kind !== kind)) return undefined;
  const descriptions = kind.planes(weights[0].columns);
  // Within the packed weight no element stands for values of two matrices.
  const whole = weights.slice(0, -1).every(({ values }) =>
    descriptions.every((plane) => isTable(plane) || values % plane.values === 0)
  );
  if (!whole) return undefined;
  const planes = tensors.map((table, plane) =>
    isTable(descriptions[plane]) ? table : packTensors(weights.map((w) => w.tensors[plane]))
  ).filter((tensor) => tensor !== undefined);
  if (planes.length < tensors.length) return undefined;
  const height = weights.reduce((sum, { shape }) => sum + shape[0], 0);
  return new WeightOperand(kind, [height, ...shape.slice(1)], planes);
}
