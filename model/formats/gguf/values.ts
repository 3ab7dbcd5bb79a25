/**
 * Values of a GGUF file's metadata as they are written. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 *
 * @module
 */

/** A value: the number of its type, and its bytes. */
export interface GgufValue {
  readonly type: number;
  readonly bytes: Uint8Array;
}

/** Metadata by their keys, in the order in which they are written. */
export type GgufMetadata = Map<string, GgufValue>;

const U32 = 4, I32 = 5, F32 = 6, BOOL = 7, STRING = 8, ARRAY = 9;

const UTF8 = new TextEncoder();

/** Several pieces of bytes as one. */
export function concat(pieces: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  return all;
}

/** Little-endian. */
export function u32Bytes(value: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(4));
  view.setUint32(0, value, true);
  return new Uint8Array(view.buffer);
}

/** Little-endian. */
export function u64Bytes(value: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(8));
  view.setBigUint64(0, BigInt(value), true);
  return new Uint8Array(view.buffer);
}

/** A text in UTF-8 with its length before it. */
export function textBytes(text: string): Uint8Array {
  const bytes = UTF8.encode(text);
  return concat([u64Bytes(bytes.length), bytes]);
}

function list(type: number, count: number, bytes: readonly Uint8Array[]): GgufValue {
  return { type: ARRAY, bytes: concat([u32Bytes(type), u64Bytes(count), ...bytes]) };
}

/** The bytes of a list's numbers; every machine that runs this is little-endian. */
function numbers(type: number, values: Float32Array | Int32Array): GgufValue {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return list(type, values.length, [bytes]);
}

export function u32(value: number): GgufValue {
  return { type: U32, bytes: u32Bytes(value) };
}

export function f32(value: number): GgufValue {
  return { type: F32, bytes: new Uint8Array(Float32Array.of(value).buffer) };
}

export function flag(value: boolean): GgufValue {
  return { type: BOOL, bytes: Uint8Array.of(Number(value)) };
}

export function text(value: string): GgufValue {
  return { type: STRING, bytes: textBytes(value) };
}

export function flags(values: readonly boolean[]): GgufValue {
  return list(BOOL, values.length, values.map((value) => Uint8Array.of(Number(value))));
}

export function texts(values: readonly string[]): GgufValue {
  return list(STRING, values.length, values.map(textBytes));
}

export function floats(values: readonly number[]): GgufValue {
  return numbers(F32, Float32Array.from(values));
}

export function integers(values: readonly number[]): GgufValue {
  return numbers(I32, Int32Array.from(values));
}
