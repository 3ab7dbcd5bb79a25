/**
 * Time on the GPU by program, and the time between launches, from timestamp queries.
 *
 * @module
 */
import type { Cost } from "./work.ts";
import { limitOf, type Roofs } from "./roofline.ts";

/** Totals of one program. */
export interface ProfileRow {
  key: string;
  launches: number;
  seconds: number;
  flops: number;
  bytes: number;
}

/** What was measured since the last {@linkcode Profiler.take}. */
export interface Profile {
  /** Programs by time, longest first. */
  rows: ProfileRow[];
  /** Every submission, from the beginning of its first launch to the end of its last. */
  submissions: Span[];
  /** Seconds that the GPU spent between launches of one submission, and between submissions. */
  gaps: { inside: number; between: number };
  /** Seconds by the clock since the call before. */
  wallSeconds: number;
  /** What programs are compared with. */
  roofs?: Roofs;
}

/** Beginning and end on the GPU's clock, in nanoseconds. */
export interface Span {
  begin: bigint;
  end: bigint;
}

/**
 * What gets timestamps: every launch in a pass of its own, each pass as a whole, or nothing. Launches of one
 * pass follow each other more closely.
 */
export type Granularity = "launches" | "passes" | "nothing";

interface Launch {
  key: string;
  cost?: Cost;
}

/** Queries that a query set may hold, by WebGPU's limit of 4096, two for each pass. */
const MOST_QUERIES = 4096;

/** Seconds that a span takes. */
export function spanSeconds({ begin, end }: Span): number {
  return Number(end - begin) / 1e9;
}

/** Seconds between one span's end and the next one's beginning, added up; spans are in order. */
export function idleSeconds(spans: readonly Span[]): number {
  let idle = 0;
  for (let i = 1; i < spans.length; i++) {
    idle += Math.max(0, Number(spans[i].begin - spans[i - 1].end));
  }
  return idle / 1e9;
}

/** Collects timestamps of launches. */
export class Profiler {
  /** What is measured from the next launch on; to be changed only right after a flush. */
  granularity: Granularity = "launches";
  /** What programs are compared with, where it is known. */
  roofs?: Roofs;

  readonly #querySet: GPUQuerySet;
  #pending: Launch[] = [];
  #resolved?: { buffer: GPUBuffer; launches: Launch[] };
  #reads: Promise<{ launches: Launch[]; spans: Span[] }>[] = [];
  #lastRead = performance.now();

  constructor(readonly device: GPUDevice) {
    this.#querySet = device.createQuerySet({ type: "timestamp", count: MOST_QUERIES });
  }

  /** The descriptor of a pass that begins with this launch. */
  beginPass(key: string, cost?: Cost): GPUComputePassDescriptor | undefined {
    const index = this.#pending.length * 2;
    if (this.granularity === "nothing" || index + 2 > MOST_QUERIES) return undefined;
    this.#pending.push({ key, cost });
    return {
      timestampWrites: {
        querySet: this.#querySet,
        beginningOfPassWriteIndex: index,
        endOfPassWriteIndex: index + 1,
      },
    };
  }

  /** Adds the queries' resolution to a command encoder about to be submitted. */
  resolve(encoder: GPUCommandEncoder): void {
    if (this.#pending.length === 0) return;
    const count = this.#pending.length * 2;
    const { COPY_SRC, COPY_DST, QUERY_RESOLVE, MAP_READ } = GPUBufferUsage;
    const size = count * 8;
    const onGpu = this.device.createBuffer({ size, usage: QUERY_RESOLVE | COPY_SRC });
    const buffer = this.device.createBuffer({ size, usage: COPY_DST | MAP_READ });
    encoder.resolveQuerySet(this.#querySet, 0, count, onGpu, 0);
    encoder.copyBufferToBuffer(onGpu, 0, buffer, 0, size);
    this.#resolved = { buffer, launches: this.#pending };
    this.#pending = [];
  }

  /** Starts reading what was resolved; called after the submission. */
  collect(): void {
    const resolved = this.#resolved;
    if (resolved === undefined) return;
    this.#resolved = undefined;
    this.#reads.push(read(resolved.buffer, resolved.launches));
  }

  /** What was measured in the submissions since the last call; waits for the GPU. */
  async take(): Promise<Profile> {
    const submissions = await Promise.all(this.#reads.splice(0));
    const rows = new Map<string, ProfileRow>();
    for (const { launches, spans } of submissions) {
      launches.forEach(({ key, cost }, i) => {
        const row = rows.get(key) ?? { key, launches: 0, seconds: 0, flops: 0, bytes: 0 };
        row.launches++;
        row.seconds += spanSeconds(spans[i]);
        row.flops += cost?.flops ?? 0;
        row.bytes += cost?.bytes ?? 0;
        rows.set(key, row);
      });
    }
    const inside = submissions.reduce((sum, { spans }) => sum + idleSeconds(spans), 0);
    const whole = submissions.map(({ spans }): Span => ({
      begin: spans[0].begin,
      end: spans[spans.length - 1].end,
    }));
    const now = performance.now(), wallSeconds = (now - this.#lastRead) / 1000;
    this.#lastRead = now;
    return {
      rows: [...rows.values()].sort((a, b) => b.seconds - a.seconds),
      submissions: whole,
      gaps: { inside, between: idleSeconds(whole) },
      wallSeconds,
      roofs: this.roofs,
    };
  }
}

async function read(buffer: GPUBuffer, launches: Launch[]) {
  await buffer.mapAsync(GPUMapMode.READ);
  const stamps = new BigUint64Array(buffer.getMappedRange());
  const spans = launches.map((_, i): Span => ({ begin: stamps[2 * i], end: stamps[2 * i + 1] }));
  buffer.unmap();
  buffer.destroy();
  return { launches, spans };
}

/** A program's line: time, share of all programs' time, launches, speed, and share of its roof. */
function rowLine(row: ProfileRow, total: number, roofs?: Roofs): string {
  const { key, launches, seconds, flops, bytes } = row;
  const limit = roofs && limitOf({ flops, bytes, seconds }, roofs);
  const share = limit === undefined
    ? ""
    : `${(100 * limit.share).toFixed(0).padStart(4)} % of ${limit.roof.padEnd(9)}`;
  return [
    `${(seconds * 1e3).toFixed(2).padStart(10)} ms`,
    `${(100 * seconds / total).toFixed(1).padStart(5)} %`,
    `${String(launches).padStart(7)} launches`,
    `${(flops / seconds / 1e12).toFixed(3).padStart(8)} TFLOP/s`,
    `${(bytes / seconds / 1e9).toFixed(1).padStart(7)} GB/s`,
    `${share} ${key}`,
  ].join(" ");
}

/** A table for people: programs by time, then the time between launches. */
export function profileLines(profile: Profile): string[] {
  const { rows, submissions, gaps, wallSeconds, roofs } = profile;
  const total = rows.reduce((sum, { seconds }) => sum + seconds, 0);
  const launches = rows.reduce((sum, row) => sum + row.launches, 0);
  const line = (seconds: number, what: string) =>
    `${(seconds * 1e3).toFixed(2).padStart(10)} ms ${what}`;
  const lines = rows.map((row) => rowLine(row, total, roofs));
  lines.push(
    line(total, `in ${launches} launches`),
    line(gaps.inside, "between launches of one submission"),
    line(gaps.between, `between ${submissions.length} submissions`),
    line(wallSeconds, "by the clock"),
  );
  if (roofs !== undefined) {
    const { bandwidth, matmul } = roofs;
    lines.push(
      `Roofs: copying reaches ${(bandwidth / 1e9).toFixed(1)} GB/s and matrix products ` +
        `${(matmul / 1e12).toFixed(3)} TFLOP/s here; what a cache holds may go beyond.`,
    );
  }
  lines.push("Every launch is measured in a pass of its own, which takes longer than without.");
  return lines;
}
