/** Writes GGUF files by hand, right ones and wrong ones, for tests of what reads them. */
import { ascii, concat, little } from "../pth_writer.ts";

/** Numbers of the types that are read. */
export const TYPE_NUMBERS: Readonly<Record<string, number>> = {
  F32: 0,
  F16: 1,
  Q4_0: 2,
  Q4_1: 3,
  Q5_0: 6,
  Q5_1: 7,
  Q8_0: 8,
  Q4_K: 12,
  Q5_K: 13,
  Q6_K: 14,
  IQ4_NL: 20,
  BF16: 30,
};

/** A metadata value: its type's number and its bytes. */
export interface ValueToWrite {
  type: number;
  bytes: Uint8Array;
}

/** A text with its length before it. */
export function textBytes(text: string): Uint8Array {
  const bytes = ascii(text);
  return concat(little(bytes.length, 8), bytes);
}

function float(value: number, width: 4 | 8): Uint8Array {
  const view = new DataView(new ArrayBuffer(width));
  if (width === 4) view.setFloat32(0, value, true);
  else view.setFloat64(0, value, true);
  return new Uint8Array(view.buffer);
}

/** Values by the names of their types. */
export const value = {
  u8: (n: number): ValueToWrite => ({ type: 0, bytes: little(n, 1) }),
  i8: (n: number): ValueToWrite => ({ type: 1, bytes: little(n & 0xff, 1) }),
  u16: (n: number): ValueToWrite => ({ type: 2, bytes: little(n, 2) }),
  i16: (n: number): ValueToWrite => ({ type: 3, bytes: little(n & 0xffff, 2) }),
  u32: (n: number): ValueToWrite => ({ type: 4, bytes: little(n, 4) }),
  i32: (n: number): ValueToWrite => ({ type: 5, bytes: little(n >>> 0, 4) }),
  f32: (n: number): ValueToWrite => ({ type: 6, bytes: float(n, 4) }),
  bool: (b: boolean): ValueToWrite => ({ type: 7, bytes: little(Number(b), 1) }),
  text: (text: string): ValueToWrite => ({ type: 8, bytes: textBytes(text) }),
  list: (values: readonly ValueToWrite[], type = values[0]?.type ?? 0): ValueToWrite => ({
    type: 9,
    bytes: concat(little(type, 4), little(values.length, 8), ...values.map(({ bytes }) => bytes)),
  }),
  u64: (n: number | bigint): ValueToWrite => {
    const view = new DataView(new ArrayBuffer(8));
    view.setBigUint64(0, BigInt.asUintN(64, BigInt(n)), true);
    return { type: 10, bytes: new Uint8Array(view.buffer) };
  },
  i64: (n: number | bigint): ValueToWrite => ({ ...value.u64(n), type: 11 }),
  f64: (n: number): ValueToWrite => ({ type: 12, bytes: float(n, 8) }),
};

/** A tensor; what isn't given is right. */
export interface TensorToWrite {
  name: string;
  /** A name of {@linkcode TYPE_NUMBERS}, or a number. */
  type: string | number;
  /** Row-major. */
  shape: readonly number[];
  data: Uint8Array;
  offset?: number;
}

/** A file; what isn't given is right. */
export interface GgufToWrite {
  metadata: readonly (readonly [key: string, value: ValueToWrite])[];
  tensors: readonly TensorToWrite[];
  magic?: string;
  version?: number;
  alignment?: number;
  tensorCount?: number;
  metadataCount?: number;
}

function padding(length: number, alignment: number): Uint8Array {
  return new Uint8Array((alignment - length % alignment) % alignment);
}

/** The file's bytes. */
export function ggufBytes(
  {
    metadata,
    tensors,
    magic = "GGUF",
    version = 3,
    alignment = 32,
    tensorCount = tensors.length,
    metadataCount = metadata.length,
  }: GgufToWrite,
): Uint8Array<ArrayBuffer> {
  const descriptions: Uint8Array[] = [], data: Uint8Array[] = [];
  let at = 0;
  for (const { name, type, shape, data: bytes, offset = at } of tensors) {
    const number = typeof type === "number" ? type : TYPE_NUMBERS[type];
    descriptions.push(
      textBytes(name),
      little(shape.length, 4),
      ...shape.toReversed().map((size) => little(size, 8)),
      little(number, 4),
      little(offset, 8),
    );
    const gap = padding(bytes.length, alignment);
    data.push(bytes, gap);
    at += bytes.length + gap.length;
  }
  const head = concat(
    ascii(magic),
    little(version, 4),
    little(tensorCount, 8),
    little(metadataCount, 8),
    ...metadata.flatMap(([key, { type, bytes }]) => [textBytes(key), little(type, 4), bytes]),
    ...descriptions,
  );
  return concat(head, padding(head.length, alignment), ...data);
}
