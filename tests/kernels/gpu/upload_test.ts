/** What is filled by others on its way to the GPU. */
import assert from "node:assert/strict";
import { gpuTest } from "../harness.ts";

gpuTest(
  "upload memories: what is written of them is there, padded, and they are ready again",
  async (gpu) => {
    const tensor = gpu.memory.tensor("workspace", "x", "u32", [8]);
    const memories = gpu.uploadMemories(32);
    assert.ok(memories.length > 1);
    try {
      for (let round = 1; round <= 3; round++) {
        for (const [i, memory] of memories.entries()) {
          const all = await memory.ready();
          assert.equal(all.length, 32);
          all.fill(100 + round);
          // From any word on, and of any length: what comes after it is not sent.
          const first = i % 4, length = 1 + (i * round) % (4 * (8 - first));
          const bytes = all.subarray(0, length).fill(i + round);
          gpu.write(tensor, bytes, first);
          const whole = 4 * Math.ceil(length / 4), read = new Uint8Array(await gpu.read(tensor));
          const expected = Array.from({ length: whole }, (_, at) => at < length ? i + round : 0);
          assert.deepEqual([...read.subarray(4 * first, 4 * first + whole)], expected);
        }
      }
      // Several on their way at once, in the order in which they were sent.
      for (const [i, memory] of memories.entries()) {
        gpu.write(
          tensor,
          (await memory.ready()).fill(i),
        );
      }
      const last = memories.length - 1;
      assert.deepEqual([...new Uint8Array(await gpu.read(tensor))], Array(32).fill(last));
    } finally {
      for (const memory of memories) memory[Symbol.dispose]();
      gpu.free(tensor);
    }
  },
);
