/**
 * A model's weights in pieces of bounded size, in the order in which they are read and sent to the GPU.
 *
 * @module
 */
import { bytesOf, type Tensor } from "../../kernels/gpu/tensor.ts";
import type { UploadMemory } from "../../kernels/gpu/upload.ts";
import { encoderOf, operandOf, type WeightOperand } from "../../kernels/ops/weights/operand.ts";
import { bytesPerElement, type FileDtype, type WeightSource } from "../formats/weights.ts";
import type { Parameter } from "../transformer/parameters.ts";

/** Bytes of a parameter. */
export interface FilePiece {
  readonly parameter: Parameter;
  readonly bytes: number;
  /** Values of a file's type, from value `first` on; or bytes of a tensor as they are, from 4-byte word `first` on. */
  readonly of: { readonly values: FileDtype } | { readonly tensor: Tensor };
  readonly first: number;
  /** Nothing of the parameter comes after it. */
  readonly last: boolean;
  read(target: Uint8Array): Promise<void>;
}

/** Where a parameter's values go first: to its masters where it is trained. */
export function destination({ operand, trained }: Parameter): WeightOperand {
  return trained === undefined ? operand : operandOf(trained.master);
}

/** Ranges of `bytes` bytes, of `step` bytes each but the last. */
function* ranges(bytes: number, step: number): Generator<{ begin: number; end: number }> {
  for (let begin = 0; begin < bytes; begin += step) {
    yield { begin, end: Math.min(begin + step, bytes) };
  }
}

/** The planes of a weight that is held as its file has it; undefined where it is read as values. */
function planesOf(weights: WeightSource, parameter: Parameter) {
  const stored = weights.quantized(parameter.name), { kind, tensors } = destination(parameter);
  if (stored?.kind !== kind.name) return undefined;
  return stored.planes.map((plane, i) => {
    const tensor = tensors[i], bytes = tensor.size * bytesOf(tensor.dtype);
    if (plane.bytes !== bytes) {
      throw new Error(`${tensor.name} has ${bytes} bytes, ${plane.bytes} in its file`);
    }
    return { bytes, tensor, read: (begin: number, to: Uint8Array) => plane.read(begin, to) };
  });
}

/** Bytes that are read of a parameter. */
export function fileBytes(weights: WeightSource, parameter: Parameter): number {
  const planes = planesOf(weights, parameter);
  if (planes === undefined) return weights.info(parameter.name).bytes;
  return planes.reduce((sum, { bytes }) => sum + bytes, 0);
}

/** The pieces of all parameters, of at most `most` bytes, a multiple of 512. */
export function* piecesOf(
  parameters: readonly Parameter[],
  weights: WeightSource,
  most: number,
): Generator<FilePiece> {
  for (const parameter of parameters) {
    const { name } = parameter, planes = planesOf(weights, parameter);
    for (const [i, { bytes, tensor, read }] of (planes ?? []).entries()) {
      for (const { begin, end } of ranges(bytes, most)) {
        yield {
          parameter,
          bytes: end - begin,
          of: { tensor },
          first: begin / 4,
          last: planes !== undefined && i === planes.length - 1 && end === bytes,
          read: (target) => read(begin, target),
        };
      }
    }
    if (planes !== undefined) continue;
    const { dtype, bytes } = weights.info(name), operand = destination(parameter);
    const size = bytesPerElement(dtype), unit = encoderOf(operand).unit(operand.columns) * size;
    const step = Math.floor(most / unit) * unit;
    if (step === 0) throw new Error(`${name} can't be encoded ${most} bytes at a time`);
    for (const { begin, end } of ranges(bytes, step)) {
      yield {
        parameter,
        bytes: end - begin,
        of: { values: dtype },
        first: begin / size,
        last: end === bytes,
        read: (target) => weights.read(name, begin, target),
      };
    }
  }
}

/** Reads a piece into memory, once that is ready. */
async function readInto(memory: UploadMemory, piece: FilePiece): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = (await memory.ready()).subarray(0, piece.bytes);
  await piece.read(bytes);
  return bytes;
}

/**
 * The bytes of the pieces in order, while the next ones are being read: as many as there are memories. They are valid
 * until the next piece is asked for, which reuses the memory.
 */
export async function* readAhead(
  pieces: Iterable<FilePiece>,
  memories: readonly UploadMemory[],
): AsyncGenerator<{ piece: FilePiece; bytes: Uint8Array<ArrayBuffer> }> {
  const ahead: {
    piece: FilePiece;
    memory: UploadMemory;
    read: Promise<Uint8Array<ArrayBuffer>>;
  }[] = [];
  const waiting = Iterator.from(pieces);
  const start = (memory: UploadMemory) => {
    const { value: piece, done } = waiting.next();
    if (done) return;
    const read = readInto(memory, piece);
    read.catch(() => {}); // awaited later, maybe after another one's failure
    ahead.push({ piece, memory, read });
  };
  try {
    memories.forEach(start);
    for (let next = ahead.shift(); next !== undefined; next = ahead.shift()) {
      const { piece, memory, read } = next;
      yield { piece, bytes: await read };
      start(memory);
    }
  } finally {
    await Promise.allSettled(ahead.map(({ read }) => read));
  }
}
