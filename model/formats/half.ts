/**
 * Sixteen-bit floats of weight files: f16 (IEEE 754 binary16, JavaScript's own) and bf16 (the upper half of a float32).
 * Widened to float32 they keep their exact value, with infinities and subnormals; narrowed from float32 they are
 * rounded to nearest, ties to even. A NaN stays one, with any payload: files are refused for a NaN before it is written.
 *
 * @module
 */

import { bytesPerElement, type FileDtype } from "./weights.ts";

/**
 * Numbers of a weight file as float32, in memory of their own.
 *
 * @param bytes Little-endian numbers of `dtype`, a whole number of them; any byte offset will do.
 */
export function toFloat32(bytes: Uint8Array, dtype: FileDtype): Float32Array<ArrayBuffer> {
  const size = bytesPerElement(dtype);
  if (bytes.length % size !== 0) {
    throw new RangeError(`${bytes.length} bytes are no whole number of ${dtype} elements`);
  }
  const aligned = bytes.slice().buffer;
  if (dtype === "F32") return new Float32Array(aligned);
  if (dtype === "F16") return new Float32Array(new Float16Array(aligned));
  const source = new Uint16Array(aligned), bits = new Int32Array(source.length);
  for (let i = 0; i < bits.length; i++) bits[i] = source[i] << 16;
  return new Float32Array(bits.buffer);
}

const F32_INFINITY = 0x7f800000;

/** The bf16 nearest to the float32 with these bits. A NaN stays one, and becomes a quiet one. */
function bf16Nearest(bits: number): number {
  if ((bits & 0x7fffffff) > F32_INFINITY) return (bits >>> 16) | 0x40;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

/**
 * Writes float32 numbers as little-endian numbers of `dtype`, rounded to nearest, ties to even.
 *
 * @param target Starts on a multiple of the dtype's size in its buffer, and is as long as they need.
 * @returns How many finite numbers were beyond what `dtype` holds and became infinite.
 */
export function fromFloat32(values: Float32Array, dtype: FileDtype, target: Uint8Array): number {
  const count = values.length;
  if (target.length !== count * bytesPerElement(dtype)) {
    throw new RangeError(`${target.length} bytes are not the size of ${count} ${dtype} elements`);
  }
  if (dtype === "F32") {
    target.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    return 0;
  }
  const source = new Int32Array(values.buffer, values.byteOffset, count);
  const halves = new Uint16Array(target.buffer, target.byteOffset, count);
  if (dtype === "F16") new Float16Array(target.buffer, target.byteOffset, count).set(values);
  else for (let i = 0; i < count; i++) halves[i] = bf16Nearest(source[i]);
  const infinity = dtype === "F16" ? 0x7c00 : 0x7f80;
  let overflows = 0;
  for (let i = 0; i < count; i++) {
    if ((halves[i] & 0x7fff) !== infinity) continue;
    if ((source[i] & 0x7fffffff) !== F32_INFINITY) overflows++;
  }
  return overflows;
}
