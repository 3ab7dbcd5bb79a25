/** Times of launches by timestamps and by the clock, and the roofs measured with them. */
import assert from "node:assert/strict";
import { fillConstant } from "../../../kernels/ops/elements/random.ts";
import { type Gpu, openGpu } from "../../../kernels/gpu/gpu.ts";
import { measureRoofs } from "../../../kernels/measure/roofs.ts";
import { clockSeconds, compareSeconds, gpuSeconds } from "../../../kernels/measure/timing.ts";
import { gpuTest } from "../harness.ts";

const quick = { repeats: 3, batch: 0.005 };

/** Some values. */
const few = 1 << 14;

/** As many as a binding may have everywhere: 128 MiB, 45 µs of a fast GPU. A driver in software is slow with less. */
const many = ({ software }: Gpu) => software ? 1 << 23 : 1 << 25;

/** Work that fills `size` values `launches` times. */
function fills(gpu: Gpu, size: number, launches: number): () => void {
  const y = gpu.memory.tensor("workspace", "y", "f32", [size]);
  return () => {
    for (let i = 0; i < launches; i++) fillConstant(gpu, { y, value: 1 });
  };
}

gpuTest("timing: more work takes longer, by timestamps as by the clock", async () => {
  const gpu = await openGpu({ profile: true });
  try {
    const [little, much] = [fills(gpu, few, 1), fills(gpu, many(gpu), 4)];
    for (const seconds of [gpuSeconds, clockSeconds]) {
      const [short, long] = [await seconds(gpu, little, quick), await seconds(gpu, much, quick)];
      assert.ok(short > 0 && long > 2 * short && long < 10, `${seconds.name}: ${short}, ${long} s`);
    }
  } finally {
    gpu.close();
  }
});

gpuTest(
  "timing: alternatives are compared in their order, by timestamps as by the clock",
  async () => {
    for (const profile of [true, false]) {
      const gpu = await openGpu({ profile });
      try {
        const runs = [fills(gpu, many(gpu), 2), fills(gpu, few, 1), fills(gpu, many(gpu), 6)];
        const [middle, short, long] = await compareSeconds(gpu, runs);
        const measures = profile && gpu.device.features.has("timestamp-query");
        // The clock's time of an empty submission is subtracted, which on a busy machine may leave nothing.
        const shortest = measures ? short > 0 : short >= 0;
        assert.ok(
          shortest && middle > 2 * short && middle > 0 && long > 1.5 * middle,
          `${short}, ${middle}, ${long} s`,
        );
        assert.equal(gpu.profiler?.granularity, measures ? "launches" : undefined);
      } finally {
        gpu.close();
      }
    }
  },
);

gpuTest("timing: what it measures is not left over for the profile", async () => {
  const gpu = await openGpu({ profile: true });
  try {
    const { profiler } = gpu;
    if (profiler === undefined) return;
    const y = gpu.memory.tensor("workspace", "y", "f32", [64]);
    const fill = () => fillConstant(gpu, { y, value: 1 });
    await gpuSeconds(gpu, fill, quick);
    assert.equal(profiler.granularity, "launches");
    for (let i = 0; i < 3; i++) fill();
    await gpu.finish();
    const { rows, submissions, wallSeconds } = await profiler.take();
    assert.deepEqual([rows.length, rows[0].launches, submissions.length], [1, 3, 1]);
    assert.ok(wallSeconds > 0 && wallSeconds < 60);
    assert.deepEqual((await profiler.take()).rows, []);
  } finally {
    gpu.close();
  }
});

gpuTest(
  "roofs: bandwidth and arithmetic of the device, and no memory is left in use",
  async (gpu) => {
    const before = gpu.memory.live;
    const { bandwidth, matmul } = await measureRoofs(gpu, "f16");
    assert.ok(bandwidth > 1e8 && bandwidth < 1e14, `${bandwidth} bytes/s`);
    assert.ok(matmul > 1e8 && matmul < 1e16, `${matmul} operations/s`);
    assert.deepEqual({ ...gpu.memory.live, workspace: 0 }, { ...before, workspace: 0 });
  },
);
