/**
 * A model's weights on their way into a GGUF file: in its names, its order of rows and its types.
 *
 * @module
 */

import { UserError } from "../../../kernels/errors.ts";
import type { ModelConfig } from "../../families/config.ts";
import type { FileDtype } from "../weights.ts";
import type { Pieces } from "../../files/write_file.ts";
import type { TensorToWrite } from "../write_safetensors.ts";
import { ggufPlaces } from "./names.ts";
import { blockType, type GgufFormat, isBlocks } from "./quantization_mix.ts";
import type { WrittenBlocks } from "./quantize.ts";
import type { Quantizers } from "./quantizers.ts";
import { scalingTensors } from "./rope_keys.ts";
import { storedBytes } from "./tensor_types.ts";
import type { GgufTensor } from "./write_gguf.ts";

/** Numbers in the smallest blocks. */
const SMALLEST_BLOCK = 32;

/**
 * The dtype in which a tensor is taken from its model, to be written in `format`. As llama.cpp's own conversion has it,
 * vectors are F32, and a matrix that no block fits becomes F16.
 *
 * @param format Undefined where each matrix keeps its own.
 */
export function takenDtype(
  shape: readonly number[],
  format: GgufFormat | undefined,
): FileDtype | undefined {
  if (shape.length === 1) return "F32";
  if (!isBlocks(format)) return format;
  return shape[1] % SMALLEST_BLOCK === 0 ? "F32" : "F16";
}

/** Pieces of F32 numbers, whole rows, as blocks. */
async function* quantized(
  name: string,
  type: WrittenBlocks,
  data: Pieces,
  quantizers: Quantizers,
): AsyncGenerator<Uint8Array> {
  let memory = new Uint8Array(0);
  for await (const piece of data) {
    const values = new Float32Array(piece.buffer, piece.byteOffset, piece.length / 4);
    const bytes = storedBytes(type, [values.length]);
    if (memory.length < bytes) memory = new Uint8Array(bytes);
    const blocks = memory.subarray(0, bytes);
    if (await quantizers.quantize(type, values, blocks) > 0) {
      throw new UserError(
        `tensor "${name}" has values beyond what ${type}'s scales hold; expected --dtype bf16 or f32`,
      );
    }
    yield blocks;
  }
}

/** GGUF's place of a row of a head: features 2i and 2i + 1 are a pair there, i and i + half here. */
export function placeInHead(row: number, headDim: number): number {
  const half = headDim / 2;
  return row < half ? 2 * row : 2 * (row - half) + 1;
}

/** The rows of each head permuted, a head at a time, whatever the pieces. */
async function* permutedHeads(
  data: Pieces,
  headDim: number,
  rowBytes: number,
): AsyncGenerator<Uint8Array> {
  const head = new Uint8Array(headDim * rowBytes), permuted = new Uint8Array(head.length);
  let filled = 0;
  for await (const piece of data) {
    for (let at = 0; at < piece.length;) {
      const bytes = Math.min(piece.length - at, head.length - filled);
      head.set(piece.subarray(at, at + bytes), filled);
      at += bytes;
      filled += bytes;
      if (filled < head.length) continue;
      for (let row = 0; row < headDim; row++) {
        const to = placeInHead(row, headDim) * rowBytes;
        permuted.set(head.subarray(row * rowBytes, (row + 1) * rowBytes), to);
      }
      filled = 0;
      yield permuted;
    }
  }
}

/** Norms in F32 with what is added to them. */
async function* shifted(data: Pieces, offset: number): AsyncGenerator<Uint8Array> {
  for await (const piece of data) {
    const values = new Float32Array(piece.buffer, piece.byteOffset, piece.length / 4);
    yield new Uint8Array(values.map((value) => value + offset).buffer);
  }
}

/**
 * The tensors of a file.
 *
 * @param tensors Every weight of the model, each taken in its {@linkcode takenDtype}.
 * @param format What matrices are written in; undefined where each keeps its own.
 * @param quantizers In use until the tensors' data are read.
 */
export function ggufTensors(
  tensors: readonly TensorToWrite[],
  config: ModelConfig,
  format: GgufFormat | undefined,
  quantizers: Quantizers,
): GgufTensor[] {
  const placeOf = ggufPlaces(config);
  const weights = tensors.map((tensor): GgufTensor => {
    const { shape } = tensor, { gguf: name, permuted, offset } = placeOf(tensor.name);
    const blocks = blockType({ name, shape }, format, config);
    const written = blocks ?? tensor.dtype;
    const own = offset === 0 ? tensor.data : shifted(tensor.data, offset);
    const data = blocks === undefined ? own : quantized(tensor.name, blocks, own, quantizers);
    const rowBytes = storedBytes(written, [shape[1] ?? 1]);
    return {
      name,
      type: written,
      shape,
      data: permuted ? permutedHeads(data, config.head_dim, rowBytes) : data,
    };
  });
  return [...scalingTensors(config), ...weights];
}
