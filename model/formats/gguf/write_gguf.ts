/**
 * GGUF files of version 3, written tensor by tensor. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 *
 * @module
 */

import { dirname } from "node:path";
import { UserError } from "../../../kernels/errors.ts";
import { exists, fileError } from "../../files/whole_file.ts";
import { exactly, type Pieces, writeFile } from "../../files/write_file.ts";
import type { FileDtype } from "../weights.ts";
import type { WrittenBlocks } from "./quantize.ts";
import { storedBytes, typeNumber } from "./tensor_types.ts";
import { concat, type GgufMetadata, textBytes, u32Bytes, u64Bytes } from "./values.ts";

/** The types that are written. */
export type WrittenType = FileDtype | WrittenBlocks;

/** A tensor to be written; `data` is asked for only when its turn comes. */
export interface GgufTensor {
  name: string;
  type: WrittenType;
  /** Row-major: `[out, in]` of a matrix. */
  shape: readonly number[];
  /** Exactly the tensor's bytes, in pieces of any size. */
  data: Pieces;
}

const MAGIC = new TextEncoder().encode("GGUF"), VERSION = 3, ALIGNMENT = 32;

/** Zeros up to the next multiple of the alignment. */
function padding(length: number): Uint8Array {
  return new Uint8Array((ALIGNMENT - length % ALIGNMENT) % ALIGNMENT);
}

/** Bytes of a tensor. */
export function ggufBytes({ type, shape }: Pick<GgufTensor, "type" | "shape">): number {
  return storedBytes(type, shape);
}

/** Everything before the tensors' bytes. */
function header(metadata: GgufMetadata, tensors: readonly GgufTensor[]): Uint8Array {
  const entries = Array.from(
    metadata,
    ([key, { type, bytes }]) => concat([textBytes(key), u32Bytes(type), bytes]),
  );
  let at = 0;
  const described = tensors.map((tensor) => {
    const { name, type, shape } = tensor, bytes = ggufBytes(tensor);
    const description = concat([
      textBytes(name),
      u32Bytes(shape.length),
      ...shape.toReversed().map(u64Bytes),
      u32Bytes(typeNumber(type)),
      u64Bytes(at),
    ]);
    at += bytes + padding(bytes).length;
    return description;
  });
  const head = concat([
    MAGIC,
    u32Bytes(VERSION),
    u64Bytes(tensors.length),
    u64Bytes(metadata.size),
    ...entries,
    ...described,
  ]);
  return concat([head, padding(head.length)]);
}

function refuseExisting(path: string): void {
  if (exists(path)) throw new UserError(`${path} exists already and is not overwritten`);
}

async function* pieces(
  path: string,
  head: Uint8Array,
  tensors: readonly GgufTensor[],
): AsyncGenerator<Uint8Array> {
  yield head;
  for (const tensor of tensors) {
    const bytes = ggufBytes(tensor);
    yield* exactly(bytes, tensor);
    yield padding(bytes);
  }
  refuseExisting(path); // Writing can take minutes; a file made meanwhile would be replaced.
}

/** Bytes of the whole file. */
export function ggufFileBytes(metadata: GgufMetadata, tensors: readonly GgufTensor[]): number {
  const sizes = tensors.map(ggufBytes).map((bytes) => bytes + padding(bytes).length);
  return sizes.reduce((a, b) => a + b, header(metadata, tensors).length);
}

/**
 * Writes a file, which appears under its name only when it is complete. Missing parents are made.
 *
 * @throws UserError where `path` exists or can't be written; RangeError where a tensor's data does not have the size of
 *   its shape.
 */
export async function writeGguf(
  path: string,
  metadata: GgufMetadata,
  tensors: readonly GgufTensor[],
): Promise<void> {
  refuseExisting(path);
  try {
    await Deno.mkdir(dirname(path), { recursive: true });
  } catch (error) {
    throw fileError(path, "write", error);
  }
  await writeFile(path, pieces(path, header(metadata, tensors), tensors));
}
