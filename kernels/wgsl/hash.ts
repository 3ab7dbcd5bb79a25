/**
 * Four random words from four words: counter-based randomness, so that any element's numbers can
 * be made again anywhere, in any order.
 *
 * Source: pcg4d of Jarzynski and Olano, "Hash Functions for GPU Rendering", 2020.
 *
 * @module
 */

/** WGSL `pcg4d(v: vec4<u32>) -> vec4<u32>`. */
export const PCG4D = `
fn pcg4d(input: vec4<u32>) -> vec4<u32> {
  var v = input * 1664525u + 1013904223u;
  v.x += v.y * v.w;
  v.y += v.z * v.x;
  v.z += v.x * v.y;
  v.w += v.y * v.z;
  v ^= v >> vec4<u32>(16u);
  v.x += v.y * v.w;
  v.y += v.z * v.x;
  v.z += v.x * v.y;
  v.w += v.y * v.z;
  return v;
}`;

/** The same on the host: words in, words out. */
export function pcg4d(x: number, y: number, z: number, w: number): Uint32Array {
  const v = Uint32Array.of(x, y, z, w).map((word) => Math.imul(word, 1664525) + 1013904223);
  const mix = () => {
    v[0] += Math.imul(v[1], v[3]);
    v[1] += Math.imul(v[2], v[0]);
    v[2] += Math.imul(v[0], v[1]);
    v[3] += Math.imul(v[1], v[2]);
  };
  mix();
  for (let i = 0; i < 4; i++) v[i] ^= v[i] >>> 16;
  mix();
  return v;
}
