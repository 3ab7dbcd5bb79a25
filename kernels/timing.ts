/**
 * How long launches take: medians of batches, each long enough that its beginning and end don't count.
 *
 * @module
 */
import type { Gpu } from "./gpu.ts";
import { type Granularity, spanSeconds } from "./profile.ts";

/** The median of at least one number; of an even count the upper of the two in the middle. */
export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1];
}

/** How often and how long. */
export interface TimingOptions {
  /** Batches whose median counts. Default 7. */
  repeats?: number;
  /** Seconds that a batch takes at least. */
  batch?: number;
}

/** Does `work` with the profiler, where there is one, at this granularity. */
async function measuring<T>(
  gpu: Gpu,
  granularity: Granularity,
  work: () => Promise<T>,
): Promise<T> {
  const { profiler } = gpu;
  if (profiler === undefined) return await work();
  gpu.flush();
  const before = profiler.granularity;
  profiler.granularity = granularity;
  try {
    return await work();
  } finally {
    gpu.flush();
    profiler.granularity = before;
  }
}

/**
 * Seconds of work before the batches that count. While a program compiles the GPU idles, and its clock takes
 * a quarter of a second to rise again (to 5 times as fast on an H100).
 */
const WARM_UP = { gpu: 0.3, software: 0.03 };

/** Seconds of {@linkcode WARM_UP} that a device needs. */
const warmUpSeconds = ({ software }: Gpu) => software ? WARM_UP.software : WARM_UP.gpu;

/** Calls in a batch by the clock at most. */
const MOST_CALLS = 4096;

/**
 * Seconds of one call by the clock, for copies and for launches of more than some 10 µs: shorter ones
 * may wait for the next to be recorded.
 *
 * @param run Records one call.
 */
export async function clockSeconds(
  gpu: Gpu,
  run: () => void,
  { repeats = 7, batch = 0.1 }: TimingOptions = {},
): Promise<number> {
  const timed = async (calls: number) => {
    const start = performance.now();
    for (let i = 0; i < calls; i++) run();
    await gpu.finish();
    return (performance.now() - start) / 1000;
  };
  return await measuring(gpu, "nothing", async () => {
    await timed(1); // compiles
    // Waiting alone costs up to 10 ms: what a batch takes beyond an empty one is the work.
    const idle = await timed(0);
    const batchSeconds = async (calls: number) => Math.max(0, await timed(calls) - idle);
    let calls = 1, seconds = await batchSeconds(1);
    while (seconds < batch && calls < MOST_CALLS) {
      const wanted = Math.ceil(1.2 * calls * batch / Math.max(seconds, 1e-9));
      calls = Math.min(MOST_CALLS, 8 * calls, Math.max(2 * calls, wanted));
      seconds = await batchSeconds(calls);
    }
    for (let spent = 0; spent < warmUpSeconds(gpu);) spent += await timed(calls);
    const times: number[] = [];
    for (let i = 0; i < repeats; i++) times.push(await batchSeconds(calls) / calls);
    return median(times);
  });
}

/** Calls in a submission at most: four launches each fit without another one. */
const MOST_SUBMITTED = 96;
/**
 * Seconds of one call on the GPU, from timestamps at both ends of submissions of many calls: the time
 * between its launches counts, the host's doesn't. By the clock where the device was opened without a
 * profiler.
 *
 * @param run Records the launches of one call, four at most.
 */
export async function gpuSeconds(
  gpu: Gpu,
  run: () => void,
  { repeats = 7, batch = 0.005 }: TimingOptions = {},
): Promise<number> {
  const { profiler } = gpu;
  if (profiler === undefined) return await clockSeconds(gpu, run, { repeats });
  return await measuring(gpu, "passes", async () => {
    const batches = async (count: number, calls: number) => {
      await profiler.take();
      for (let i = 0; i < count; i++) {
        for (let j = 0; j < calls; j++) run();
        gpu.flush();
      }
      await gpu.finish();
      const { submissions } = await profiler.take();
      if (submissions.length !== count) throw new Error("a call has more than four launches");
      return submissions.map((span) => Math.max(1e-9, spanSeconds(span) / calls));
    };
    const callsFor = (seconds: number) =>
      Math.max(1, Math.min(MOST_SUBMITTED, Math.ceil(batch / seconds)));
    let [, seconds] = await batches(2, 1); // the first one compiles
    const enough = warmUpSeconds(gpu);
    for (let spent = 0; spent < enough;) {
      const calls = callsFor(seconds), count = Math.min(8, Math.ceil(enough / (calls * seconds)));
      const times = await batches(count, calls);
      spent += calls * times.reduce((sum, time) => sum + time);
      seconds = times.at(-1)!;
    }
    return median((await batches(repeats + 1, callsFor(seconds))).slice(1));
  });
}

/** Rounds in which alternatives are timed, and batches of each in a round. */
const ROUNDS = 3, BATCHES = 2;
/** Seconds of work at the beginning of a round that don't count: the GPU idled while the one before was read. */
const ROUND_WARM_UP = 0.05;
/** Batches that are submitted without waiting for any. */
const MOST_AHEAD = 200;

/**
 * Seconds of one call of each alternative, in turns, so that all find the GPU equally warm: medians of six
 * batches, from timestamps as {@linkcode gpuSeconds} takes them, or by the clock.
 *
 * @param runs Each records the launches of one call, four at most.
 */
export async function compareSeconds(
  gpu: Gpu,
  runs: readonly (() => void)[],
  { batch = 0.002 }: Pick<TimingOptions, "batch"> = {},
): Promise<number[]> {
  const { profiler } = gpu;
  if (profiler === undefined) {
    const times: number[] = [];
    for (const run of runs) times.push(await clockSeconds(gpu, run, { repeats: 3, batch }));
    return times;
  }
  return await measuring(gpu, "passes", async () => {
    const submit = (run: () => void, calls: number) => {
      for (let i = 0; i < calls; i++) run();
      gpu.flush();
    };
    const taken = async () => {
      await gpu.finish();
      return (await profiler.take()).submissions.map((span) => Math.max(1e-9, spanSeconds(span)));
    };
    const callsFor = (seconds: number) =>
      Math.max(1, Math.min(MOST_SUBMITTED, Math.ceil(batch / seconds)));
    await profiler.take();
    const programs = gpu.pipelines.count;
    for (const run of runs) submit(run, 1); // compiles
    await taken();
    /** Works so long without a pause. */
    const work = async (seconds: number) => {
      for (let spent = 0; spent < seconds;) {
        const batches = Math.min(MOST_AHEAD, Math.ceil((seconds - spent) / (calls * call)));
        for (let i = 0; i < batches; i++) submit(runs[0], calls);
        const spans = await taken();
        spent += spans.reduce((sum, span) => sum + span);
        call = spans.at(-1)! / calls;
        calls = callsFor(call);
      }
    };
    submit(runs[0], 1);
    let [call] = await taken(), calls = callsFor(call);
    // While programs compile the clock falls.
    if (gpu.pipelines.count > programs) await work(warmUpSeconds(gpu));
    for (const run of runs) submit(run, 1);
    const each = (await taken()).map(callsFor), times = runs.map((): number[] => []);
    for (let round = 0; round < ROUNDS; round++) {
      const ahead = Math.ceil(Math.min(warmUpSeconds(gpu), ROUND_WARM_UP) / (calls * call));
      for (let i = 0; i < ahead; i++) submit(runs[0], calls);
      runs.forEach((run, i) => {
        for (let j = 0; j < BATCHES; j++) submit(run, each[i]);
      });
      (await taken()).slice(ahead).forEach((span, at) => {
        const i = Math.floor(at / BATCHES);
        times[i].push(span / each[i]);
      });
    }
    return times.map(median);
  });
}
