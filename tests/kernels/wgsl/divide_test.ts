import assert from "node:assert/strict";
import { elementGrid } from "../../../kernels/gpu/elementwise.ts";
import { programFamily, readsScalars, writesScalars } from "../../../kernels/gpu/program.ts";
import { DIVIDED } from "../../../kernels/wgsl/divide.ts";
import { download, gpuTest, poisoned, random, upload } from "../harness.ts";

const quotients = programFamily("quotients", () => ({
  bindings: [...readsScalars("f32", "a", "b"), ...writesScalars("f32", "y")],
  uniforms: { vectors: "u32" },
  body: `${DIVIDED}
@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x < u.vectors) { y[id.x] = divided(a[id.x], b[id.x]); }
}`,
}));

/** Neighbours of a float. */
function beside(value: number): number[] {
  const [bits] = new Uint32Array(Float32Array.of(value).buffer);
  return [...new Float32Array(Uint32Array.of(bits - 1, bits, bits + 1).buffer)];
}

gpuTest("quotients are rounded to the nearest f32", async (gpu) => {
  const next = random(9), count = 1 << 14;
  const any = () => Math.fround((1.5 + next() / 2) * 2 ** Math.round(40 * next()));
  const pairs: [number, number][] = Array.from({ length: count }, () => [any(), any()]);
  // Of one and of 127, exact ones, and those that are rounded up to a power of two.
  for (let i = 0; i < count; i++) pairs.push([1, any()], [any(), 127], [3 * i + 3, i + 1]);
  for (const a of [1, 2, 0.5, 3, 127].flatMap(beside)) {
    for (const b of [1, 2, 3, 127, 0.1].flatMap(beside)) pairs.push([a, b]);
  }
  const [a, b] = [0, 1].map((of) =>
    upload(gpu, pairs.map((pair) => pair[of]), "f32", [pairs.length])
  );
  const y = poisoned(gpu, "f32", [pairs.length]);
  gpu.run(quotients({}), [a, b, y], { vectors: pairs.length }, elementGrid(pairs.length));
  const actual = await download(gpu, y);
  // Two roundings, to f64 and to f32, are one: f64 has more than twice the bits.
  const wrong = pairs.findIndex(([a, b], i) =>
    actual[i] !== Math.fround(Math.fround(a) / Math.fround(b))
  );
  assert.equal(wrong, -1, `${pairs[wrong]}: ${actual[wrong]}`);
});
