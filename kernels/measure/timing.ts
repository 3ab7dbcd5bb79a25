/**
 * How long launches take: medians of batches, each long enough that its beginning and end make no difference.
 *
 * @module
 */
import type { Gpu } from "../gpu/gpu.ts";
import { type Granularity, type Profiler, spanSeconds } from "../gpu/profiler.ts";

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
    // A wait takes time of its own, so that of an empty batch is subtracted.
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

/** Calls in a submission that takes so long at least. */
function callsFor(seconds: number, batch: number): number {
  return Math.max(1, Math.min(MOST_SUBMITTED, Math.ceil(batch / seconds)));
}

/**
 * Seconds of one call, for each of several submissions that follow each other without a wait.
 *
 * @throws where a call has more than four launches.
 */
async function submissionSeconds(
  gpu: Gpu,
  profiler: Profiler,
  submissions: readonly (readonly [run: () => void, calls: number])[],
): Promise<number[]> {
  await profiler.take();
  for (const [run, calls] of submissions) {
    for (let i = 0; i < calls; i++) run();
    gpu.flush();
  }
  await gpu.finish();
  const spans = (await profiler.take()).submissions;
  if (spans.length !== submissions.length) throw new Error("a call has more than four launches");
  return spans.map((span, i) => Math.max(1e-9, spanSeconds(span) / submissions[i][1]));
}

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
    const batches = (count: number, calls: number) =>
      submissionSeconds(gpu, profiler, Array.from({ length: count }, () => [run, calls]));
    let [, seconds] = await batches(2, 1); // the first one compiles
    const enough = warmUpSeconds(gpu);
    for (let spent = 0; spent < enough;) {
      const calls = callsFor(seconds, batch),
        count = Math.min(8, Math.ceil(enough / (calls * seconds)));
      const times = await batches(count, calls);
      spent += calls * times.reduce((sum, time) => sum + time);
      seconds = times[times.length - 1];
    }
    return median((await batches(repeats + 1, callsFor(seconds, batch))).slice(1));
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
    const [first] = runs, programs = gpu.pipelines.count;
    const timed = (submissions: (readonly [() => void, number])[]) =>
      submissionSeconds(gpu, profiler, submissions);
    const once = runs.map((run) => [run, 1] as const);
    await timed(once); // compiles
    let [call] = await timed([[first, 1]]);
    /** Submissions of work that takes about so long. */
    const work = (seconds: number) => {
      const calls = callsFor(call, batch), count = Math.ceil(seconds / (calls * call));
      return Array.from({ length: Math.min(MOST_AHEAD, count) }, () => [first, calls] as const);
    };
    // While programs compile the clock falls.
    const enough = gpu.pipelines.count > programs ? warmUpSeconds(gpu) : 0;
    for (let spent = 0; spent < enough;) {
      const submissions = work(enough - spent), seconds = await timed(submissions);
      seconds.forEach((each, i) => spent += each * submissions[i][1]);
      call = seconds[seconds.length - 1];
    }
    const batches = (await timed(once)).flatMap((seconds, i) =>
      Array.from({ length: BATCHES }, () => [runs[i], callsFor(seconds, batch)] as const)
    );
    const times = runs.map((): number[] => []);
    for (let round = 0; round < ROUNDS; round++) {
      const ahead = work(Math.min(warmUpSeconds(gpu), ROUND_WARM_UP));
      (await timed([...ahead, ...batches])).slice(ahead.length).forEach((seconds, at) => {
        times[Math.floor(at / BATCHES)].push(seconds);
      });
    }
    return times.map(median);
  });
}
