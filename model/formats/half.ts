/**
 * Sixteen-bit floats of weight files: f16 (IEEE 754 binary16) and bf16 (the upper half of a float32).
 * Widened to float32 they keep their exact value, with infinities, NaN payloads and subnormals;
 * narrowed from float32 they are rounded to nearest, ties to even.
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

const F32_INFINITY = 0x7f800000;

/** The f16 nearest to the float32 with these bits. A NaN stays one, and becomes a quiet one. */
function f16Nearest(bits: number): number {
  const sign = (bits >>> 16) & 0x8000, magnitude = bits & 0x7fffffff;
  if (magnitude > F32_INFINITY) return sign | 0x7e00 | ((magnitude >> 13) & 0x3ff);
  // From the middle between 65504, the largest, and 65536 on.
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  // From 2^-14, the smallest normal number, on. A carry out of the fraction belongs in the exponent.
  if (magnitude >= 0x38800000) {
    return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13);
  }
  // Up to half of 2^-24, the smallest of all; the half itself is a tie with an even 0.
  if (magnitude <= 0x33000000) return sign;
  const shift = 126 - (magnitude >> 23), fraction = (magnitude & 0x7fffff) | 0x800000;
  return sign | ((fraction + (1 << (shift - 1)) - 1 + ((fraction >> shift) & 1)) >> shift);
}

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
  // A loop each, since calling one function or the other through a variable takes twice the time.
  if (dtype === "F16") { for (let i = 0; i < count; i++) halves[i] = f16Nearest(source[i]); }
  else for (let i = 0; i < count; i++) halves[i] = bf16Nearest(source[i]);
  const infinity = dtype === "F16" ? 0x7c00 : 0x7f80;
  let overflows = 0;
  for (let i = 0; i < count; i++) {
    if ((halves[i] & 0x7fff) !== infinity) continue;
    if ((source[i] & 0x7fffffff) !== F32_INFINITY) overflows++;
  }
  return overflows;
}
