/**
 * Time on the GPU by program, from timestamp queries around every launch.
 *
 * @module
 */
import type { Cost } from "./gpu.ts";

/** Totals of one program. */
export interface ProfileRow {
  key: string;
  launches: number;
  seconds: number;
  flops: number;
  bytes: number;
}

const MOST_QUERIES = 2048;

/** Collects timestamps of launches; results are known after {@linkcode Profiler.rows}. */
export class Profiler {
  readonly #querySet: GPUQuerySet;
  readonly #rows = new Map<string, ProfileRow>();
  #pending: { key: string; cost?: Cost }[] = [];
  #reads: Promise<void>[] = [];
  #resolved?: { buffer: GPUBuffer; launches: { key: string; cost?: Cost }[] };

  constructor(readonly device: GPUDevice) {
    this.#querySet = device.createQuerySet({ type: "timestamp", count: MOST_QUERIES });
  }

  /** The descriptor of the pass that holds one launch. */
  beginPass(key: string, cost?: Cost): GPUComputePassDescriptor {
    const index = this.#pending.length * 2;
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
    this.#reads.push(this.#read(resolved.buffer, resolved.launches));
  }

  /** Programs by time, longest first. */
  async rows(): Promise<ProfileRow[]> {
    await Promise.all(this.#reads);
    this.#reads = [];
    return [...this.#rows.values()].sort((a, b) => b.seconds - a.seconds);
  }

  async #read(buffer: GPUBuffer, launches: { key: string; cost?: Cost }[]): Promise<void> {
    await buffer.mapAsync(GPUMapMode.READ);
    const stamps = new BigUint64Array(buffer.getMappedRange());
    launches.forEach(({ key, cost }, i) => {
      const seconds = Number(stamps[2 * i + 1] - stamps[2 * i]) * 1e-9;
      const row = this.#rows.get(key) ?? { key, launches: 0, seconds: 0, flops: 0, bytes: 0 };
      row.launches++;
      row.seconds += seconds;
      row.flops += cost?.flops ?? 0;
      row.bytes += cost?.bytes ?? 0;
      this.#rows.set(key, row);
    });
    buffer.unmap();
    buffer.destroy();
  }
}

/** A table of programs for people: time, share, launches, TFLOP/s and GB/s. */
export function profileLines(rows: readonly ProfileRow[]): string[] {
  const total = rows.reduce((sum, { seconds }) => sum + seconds, 0);
  const lines = rows.map(({ key, launches, seconds, flops, bytes }) =>
    [
      `${(seconds * 1e3).toFixed(2).padStart(10)} ms`,
      `${(100 * seconds / total).toFixed(1).padStart(5)} %`,
      `${String(launches).padStart(7)} launches`,
      `${(flops / seconds / 1e12).toFixed(3).padStart(8)} TFLOP/s`,
      `${(bytes / seconds / 1e9).toFixed(1).padStart(7)} GB/s`,
      ` ${key}`,
    ].join(" ")
  );
  return [...lines, `${(total * 1e3).toFixed(2).padStart(10)} ms in all`];
}
