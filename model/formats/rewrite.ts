/**
 * A model's weights on their way into new files, a piece at a time: copied byte for byte, converted to
 * another dtype, or changed by whoever knows how.
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import { type ModelConfig, weightShapes } from "../families/config.ts";
import { DAMAGED_FILE, refuseNotFinite } from "./finite.ts";
import { fromFloat32, toFloat32 } from "./half.ts";
import { tensorBytes, type TensorToWrite } from "./write_safetensors.ts";
import { bytesPerElement, type FileDtype, type WeightSource } from "./weights.ts";

/** Elements handled at a time, unless sixteen rows have more. */
const PIECE_ELEMENTS = 1 << 22;

/** Some rows of a tensor (elements of a vector), as they are in the file. */
export interface WeightPiece {
  name: string;
  dtype: FileDtype;
  /** The whole tensor's. */
  shape: readonly number[];
  /** A multiple of 16. */
  firstRow: number;
  rows: number;
  /** Their little-endian bytes; valid until the next piece is asked for. */
  bytes: Uint8Array;
}

/** New values for some tensors of a model, and tensors that it did not have. */
export interface WeightChange {
  /** The model that comes of it. */
  readonly config: ModelConfig;
  /** The model's tensor that one of the new model's comes from; undefined where it comes from none, and is zero. */
  origin(name: string): string | undefined;
  /** Whether the tensor gets new values; those of others are never asked for. */
  changes(name: string): boolean;
  /** Whether new values depend on all of the tensor, so that it is gone through once before. */
  surveys(name: string): boolean;
  /** Sees a piece of such a tensor; the first one begins at row 0. */
  survey(piece: WeightPiece): Promise<void>;
  /** The piece's new values. */
  apply(piece: WeightPiece): Promise<Float32Array>;
}

/** Rows of a tensor that are handled at a time: a multiple of 16, at most `PIECE_ELEMENTS` if it can be. */
function pieceRows(shape: readonly number[]): number {
  const width = shape.slice(1).reduce((a, b) => a * b, 1);
  return Math.max(1, Math.floor(PIECE_ELEMENTS / width / 16)) * 16;
}

/** The most elements of a piece of one of these tensors. */
export function mostElements(shapes: Iterable<readonly number[]>): number {
  let most = 0;
  for (const shape of shapes) {
    const width = shape.slice(1).reduce((a, b) => a * b, 1);
    most = Math.max(most, Math.min(pieceRows(shape), shape[0]) * width);
  }
  return most;
}

/** Reads tensors piece by piece; while one is used the next is already being read. */
class PieceReader {
  /** Used by turns, by one tensor after the other: new memory for every piece would pile up. */
  readonly #buffers = [new Uint8Array(0), new Uint8Array(0)];

  constructor(readonly source: WeightSource) {}

  /** @param origin What the tensor is called in the source. */
  async *pieces(name: string, origin: string): AsyncGenerator<WeightPiece> {
    const { dtype, shape } = this.source.info(origin);
    const most = pieceRows(shape);
    const rowBytes = tensorBytes({ dtype, shape: [1, ...shape.slice(1)] });
    const read = (firstRow: number, turn: number): Promise<WeightPiece> => {
      const rows = Math.min(most, shape[0] - firstRow);
      const bytes = this.#buffer(turn, rows * rowBytes);
      const reading = this.source.read(origin, firstRow * rowBytes, bytes)
        .then(() => ({ name, dtype, shape, firstRow, rows, bytes }));
      reading.catch(() => {}); // It may fail when nobody waits for it any more.
      return reading;
    };
    let next = read(0, 0);
    for (let firstRow = 0, turn = 1; firstRow < shape[0]; firstRow += most, turn = 1 - turn) {
      const piece = await next;
      if (firstRow + most < shape[0]) next = read(firstRow + most, turn);
      yield piece;
    }
  }

  #buffer(turn: number, bytes: number): Uint8Array {
    if (this.#buffers[turn].length < bytes) this.#buffers[turn] = new Uint8Array(bytes);
    return this.#buffers[turn].subarray(0, bytes);
  }
}

/** What a piece holds, as float32. */
export function pieceValues({ dtype, bytes }: WeightPiece): Float32Array {
  if (dtype !== "F32") return toFloat32(bytes, dtype);
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
}

/**
 * Every weight of a model for `writeHuggingFace`, one tensor to be pulled at a time. Tensors whose
 * dtype and values stay are copied byte for byte; values are rounded to nearest, ties to even. Others are refused where
 * they are no finite numbers, or become infinite in their new dtype.
 *
 * @param options `dtype`: of every tensor, or of one of a shape; without it each keeps its own; `change`: new values
 *   for some of them; `progress` hears of the bytes made so far and of all.
 */
export function rewrittenTensors(
  source: WeightSource,
  { dtype: wanted, change, progress }: {
    dtype?: FileDtype | ((shape: readonly number[]) => FileDtype | undefined);
    change?: WeightChange;
    progress?: (done: number, total: number) => void;
  } = {},
): TensorToWrite[] {
  const reader = new PieceReader(source);
  let narrowed = new Uint8Array(0), done = 0, total = 0;
  async function* data(
    name: string,
    origin: string | undefined,
    { dtype, shape }: { dtype: FileDtype; shape: number[] },
  ): AsyncGenerator<Uint8Array> {
    const changed = change?.changes(name) ? change : undefined;
    const pieces = () =>
      origin === undefined ? [zeroPiece(name, dtype, shape)] : reader.pieces(name, origin);
    if (changed?.surveys(name)) {
      for await (const piece of pieces()) await changed.survey(piece);
    }
    for await (const piece of pieces()) {
      let bytes = piece.bytes;
      if (changed !== undefined || dtype !== piece.dtype) {
        const values = changed === undefined ? pieceValues(piece) : await changed.apply(piece);
        const why = changed === undefined
          ? DAMAGED_FILE
          : `${DAMAGED_FILE}, or the adapter is too large for the model`;
        refuseNotFinite(values, `tensor "${name}"`, why);
        const size = values.length * bytesPerElement(dtype);
        if (narrowed.length < size) narrowed = new Uint8Array(size);
        bytes = narrowed.subarray(0, size);
        const overflows = fromFloat32(values, dtype, bytes);
        if (overflows > 0) throw tooLarge(name, dtype, overflows);
      }
      yield bytes;
      done += bytes.length;
      progress?.(done, total);
    }
  }
  return Array.from(weightShapes(change?.config ?? source.config), ([name, shape]) => {
    const origin = change === undefined ? name : change.origin(name);
    // A bias that the model did not have is stored as its layer's weight is.
    const { dtype: own } = source.info(origin ?? name.replace(/bias$/, "weight"));
    const given = typeof wanted === "function" ? wanted(shape) : wanted;
    const tensor = { dtype: given ?? own, shape };
    total += tensorBytes(tensor);
    return { name, ...tensor, data: data(name, origin, tensor) };
  });
}

/** A whole tensor of zeros. */
function zeroPiece(name: string, dtype: FileDtype, shape: readonly number[]): WeightPiece {
  const bytes = new Uint8Array(tensorBytes({ dtype, shape }));
  return { name, dtype, shape, firstRow: 0, rows: shape[0], bytes };
}

function tooLarge(name: string, dtype: FileDtype, overflows: number): UserError {
  const has = overflows === 1 ? "a value" : `${overflows} values`;
  const wider = dtype === "F16" ? "bf16 or f32" : "f32";
  return new UserError(
    `tensor "${name}" has ${has} beyond what ${dtype.toLowerCase()} holds; expected --dtype ${wider}`,
  );
}
