import assert from "node:assert/strict";
import type { Use } from "../../../kernels/gpu/work.ts";
import { bytesInUse, lifetimes } from "../../../kernels/measure/liveness.ts";
import { Tensor } from "../../../kernels/gpu/tensor.ts";

/** Stands for a buffer: only its identity counts. */
const buffer = () => ({}) as GPUBuffer;

/** `size` bytes of a buffer from `offset` on. */
const tensor = (from: GPUBuffer, size: number, offset = 0) =>
  new Tensor("x", "f32", [size / 4], from, offset);

const use = (reads: Tensor[], writes: Tensor[]): Use => ({ name: "x", reads, writes });

/** Bytes in use after each of these. */
const inUse = (...uses: Use[]) => bytesInUse(lifetimes(uses), uses.length);

Deno.test("liveness: from the first write to the last use", () => {
  const a = tensor(buffer(), 16), b = tensor(buffer(), 64), c = tensor(buffer(), 256);
  // a → b, b → c, c alone, a again (which was needed all the time).
  assert.deepEqual(
    inUse(use([], [a]), use([a], [b]), use([b], [c]), use([c], []), use([a], [])),
    [16, 16 + 64, 16 + 64 + 256, 16 + 256, 16],
  );
});

Deno.test("liveness: what is read first was there before", () => {
  const a = tensor(buffer(), 16), b = tensor(buffer(), 64);
  assert.deepEqual(inUse(use([], [b]), use([a], []), use([b], [])), [16 + 64, 16 + 64, 64]);
});

Deno.test("liveness: what nobody reads is in use as long as it is written", () => {
  assert.deepEqual(inUse(use([], [tensor(buffer(), 16)]), use([], [])), [16, 0]);
});

Deno.test("liveness: tensors that share memory count once", () => {
  const shared = buffer(), whole = tensor(shared, 1024), part = tensor(shared, 256, 512);
  const other = tensor(shared, 256, 1024);
  // The part lives on when the rest is not needed any more; what lies beside it is apart.
  assert.deepEqual(
    inUse(use([], [whole]), use([whole], [other]), use([part], []), use([other], [])),
    [1024, 1280, 512, 256],
  );
});

Deno.test("liveness: chains hold two of their tensors, and all with a second walk back", () => {
  const all = Array.from({ length: 9 }, () => tensor(buffer(), 16));
  const forward = all.map((x, i) => use(i === 0 ? [] : [all[i - 1]], [x]));
  assert.deepEqual(inUse(...forward), [16, ...Array(8).fill(32)]);
  const back = all.toReversed().map((x) => use([x], []));
  const rising = all.map((_, i) => 16 * (i + 1));
  assert.deepEqual(inUse(...forward, ...back), [...rising, ...rising.toReversed()]);
});

Deno.test("liveness: what is only planned is refused", () => {
  const planned = new Tensor("x", "f32", [4], undefined);
  assert.throws(() => lifetimes([use([planned], [])]), /only planned/);
});
