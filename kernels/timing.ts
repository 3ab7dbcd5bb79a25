/**
 * How long launches take: medians of batches, each long enough that its beginning and end don't count.
 *
 * @module
 */
import type { Gpu } from "./gpu.ts";
import type { Granularity } from "./profile.ts";

/** The median of at least one number; of an even count the upper of the two in the middle. */
export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1];
}

/** Calls in a batch at most. */
const MOST_CALLS = 4096;

/** How often and how long. */
export interface TimingOptions {
  /** Batches whose median counts. Default 7. */
  repeats?: number;
  /** Seconds that a batch takes at least. */
  batch?: number;
}

/** Batches of growing length until one is long enough, then the median of `repeats` of those. */
async function medianOf(
  batchSeconds: (calls: number) => Promise<number>,
  { repeats = 7, batch }: { repeats?: number; batch: number },
): Promise<number> {
  await batchSeconds(1); // compiles
  let calls = 1, seconds = await batchSeconds(1);
  while (seconds < batch && calls < MOST_CALLS) {
    const wanted = Math.ceil(1.2 * calls * batch / Math.max(seconds, 1e-9));
    calls = Math.min(MOST_CALLS, 8 * calls, Math.max(2 * calls, wanted));
    seconds = await batchSeconds(calls);
  }
  const times: number[] = [];
  for (let i = 0; i < repeats; i++) times.push(await batchSeconds(calls) / calls);
  return median(times);
}

/**
 * Seconds of one call by the clock, for copies and for launches of more than some 10 µs: shorter ones
 * may wait for the next to be recorded.
 *
 * @param run Records one call.
 */
export async function clockSeconds(
  gpu: Gpu,
  run: () => void,
  { repeats, batch = 0.1 }: TimingOptions = {},
): Promise<number> {
  const timed = async (calls: number) => {
    const start = performance.now();
    for (let i = 0; i < calls; i++) run();
    await gpu.finish();
    return (performance.now() - start) / 1000;
  };
  return await measuring(gpu, "nothing", async () => {
    // Waiting alone costs up to 10 ms: what a batch takes beyond an empty one is the work.
    await gpu.finish();
    const idle = await timed(0);
    const batchSeconds = async (calls: number) => Math.max(0, await timed(calls) - idle);
    return await medianOf(batchSeconds, { repeats, batch });
  });
}

/** Does `work` with the profiler, where there is one, at this granularity. */
async function measuring<T>(
  gpu: Gpu,
  granularity: Granularity,
  work: () => Promise<T>,
): Promise<T> {
  const { profiler } = gpu;
  if (profiler === undefined) return await work();
  const before = profiler.granularity;
  gpu.flush();
  profiler.granularity = granularity;
  try {
    return await work();
  } finally {
    gpu.flush();
    profiler.granularity = before;
  }
}

/**
 * Seconds of one call on the GPU, from timestamps around passes of many calls: the time between its
 * launches counts, the host's doesn't. By the clock where the device was opened without a profiler.
 *
 * @param run Records the launches of one call.
 */
export async function gpuSeconds(
  gpu: Gpu,
  run: () => void,
  { repeats, batch = 0.02 }: TimingOptions = {},
): Promise<number> {
  const { profiler } = gpu;
  if (profiler === undefined) return await clockSeconds(gpu, run, { repeats });
  return await measuring(gpu, "passes", () =>
    medianOf(async (calls) => {
      for (let i = 0; i < calls; i++) run();
      await gpu.finish();
      const { rows, gaps } = await profiler.take();
      return rows.reduce((sum, { seconds }) => sum + seconds, gaps.inside);
    }, { repeats, batch }));
}
