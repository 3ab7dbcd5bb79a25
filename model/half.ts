/**
 * Sixteen-bit floats of weight files, widened to float32 exactly: f16 (IEEE 754 binary16) and bf16
 * (the upper half of a float32). Infinities, NaN payloads and subnormals survive.
 *
 * @module
 */

import { bytesPerElement, type FileDtype } from "./weights.ts";

/** The bits of the float32 that equals the f16 with these bits. */
function f16Bits(half: number): number {
  const sign = (half & 0x8000) << 16, exponent = (half >> 10) & 0x1f, fraction = half & 0x3ff;
  if (exponent === 0x1f) return sign | 0x7f800000 | (fraction << 13);
  if (exponent > 0) return sign | ((exponent + 112) << 23) | (fraction << 13);
  if (fraction === 0) return sign;
  // A subnormal is fraction * 2^-24: float32 holds it as a normal number with its leading one hidden.
  const shift = Math.clz32(fraction) - 21;
  return sign | ((113 - shift) << 23) | (((fraction << shift) & 0x3ff) << 13);
}

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
  const source = new Uint16Array(aligned);
  // Written as bits, since passing a signalling NaN through a JavaScript number may change it.
  const bits = new Int32Array(source.length);
  if (dtype === "F16") { for (let i = 0; i < bits.length; i++) bits[i] = f16Bits(source[i]); }
  else for (let i = 0; i < bits.length; i++) bits[i] = source[i] << 16;
  return new Float32Array(bits.buffer);
}
