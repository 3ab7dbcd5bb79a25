/**
 * Files in the safetensors format (model/formats/safetensors.ts), written tensor by tensor.
 *
 * @module
 */

import { bytesPerElement, type FileDtype } from "./weights.ts";
import { exactly, type Pieces, writeFile } from "../files/write_file.ts";

/** A tensor to be written; `data` is asked for only when its turn comes. */
export interface TensorToWrite {
  name: string;
  dtype: FileDtype;
  shape: readonly number[];
  /** Exactly the tensor's little-endian bytes, in pieces of any size. */
  data: Pieces;
}

/** Bytes of a tensor of this dtype and shape. */
export function tensorBytes(tensor: { dtype: FileDtype; shape: readonly number[] }): number {
  return tensor.shape.reduce((a, b) => a * b, bytesPerElement(tensor.dtype));
}

/**
 * Length prefix and header of a file with these tensors in this order, padded with spaces so that the data begins on 8
 * bytes. @throws RangeError where a name or shape is invalid.
 */
export function encodeHeader(
  tensors: readonly Omit<TensorToWrite, "data">[],
  metadata: Record<string, string>,
): Uint8Array<ArrayBuffer> {
  const names = new Set(["__metadata__"]);
  const fields = [`"__metadata__":${JSON.stringify(metadata)}`];
  let begin = 0;
  for (const tensor of tensors) {
    const { name, dtype, shape } = tensor;
    if (names.has(name)) throw new RangeError(`tensor name "${name}" is given twice or reserved`);
    names.add(name);
    const end = begin + tensorBytes(tensor);
    if (!shape.every((n) => Number.isSafeInteger(n) && n >= 0) || !Number.isSafeInteger(end)) {
      throw new RangeError(`tensor "${name}" has an invalid shape [${shape.join(", ")}]`);
    }
    const entry = JSON.stringify({ dtype, shape, data_offsets: [begin, end] });
    fields.push(`${JSON.stringify(name)}:${entry}`);
    begin = end;
  }
  const json = new TextEncoder().encode(`{${fields.join(",")}}`);
  const length = Math.ceil(json.length / 8) * 8;
  const bytes = new Uint8Array(8 + length).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
  bytes.set(json, 8);
  return bytes;
}

/**
 * Writes a safetensors file, tensor by tensor, under a temporary name that becomes `path` at the
 * end; if anything fails nothing is left behind and a file at `path` stays as it was.
 *
 * Wider dtypes come first, so that every tensor is aligned to its element; otherwise the order given
 * is kept.
 *
 * @param metadata Strings for `__metadata__`; `transformers` wants `{format: "pt"}`.
 * @throws UserError where the file can't be written, RangeError where a tensor's name or shape is
 *   invalid or its data does not have the size of its shape.
 */
export async function writeSafetensors(
  path: string,
  tensors: Iterable<TensorToWrite>,
  metadata: Record<string, string> = { format: "pt" },
): Promise<void> {
  const ordered = [...tensors].sort((a, b) => bytesPerElement(b.dtype) - bytesPerElement(a.dtype));
  const header = encodeHeader(ordered, metadata);
  await writeFile(path, pieces(header, ordered));
}

async function* pieces(
  header: Uint8Array,
  tensors: readonly TensorToWrite[],
): AsyncGenerator<Uint8Array> {
  yield header;
  for (const tensor of tensors) yield* exactly(tensorBytes(tensor), tensor);
}
