/**
 * Which bytes hold values that are still needed, from a record of what was done with memory. Buffers are allocated once
 * and stay; the bytes in use rise and fall.
 *
 * @module
 */
import type { Use } from "../gpu/work.ts";
import type { Tensor } from "../gpu/tensor.ts";

/** A stretch of a buffer that is in use from one step of the record to another, both included. */
export interface Lifetime {
  buffer: GPUBuffer;
  bytes: number;
  first: number;
  last: number;
}

/** What is done with a stretch of a buffer at one step of the record. */
interface Touch {
  step: number;
  start: number;
  end: number;
  reads: boolean;
}

/**
 * Lifetimes of all stretches that the record touches. One begins with the first write, or with the record where
 * the first touch reads what was there before, and ends with the last touch. Tensors that share memory share
 * its lifetime.
 */
export function lifetimes(uses: readonly Use[]): Lifetime[] {
  const buffers = new Map<GPUBuffer, Touch[]>();
  const touch = (step: number, { buffer, offset, bytes }: Tensor, reads: boolean) => {
    if (buffer === undefined) throw new Error("what is only planned has no lifetime");
    const touches = buffers.get(buffer) ?? [];
    touches.push({ step, start: offset, end: offset + bytes, reads });
    buffers.set(buffer, touches);
  };
  uses.forEach(({ reads, writes }, step) => {
    for (const tensor of reads) touch(step, tensor, true);
    for (const tensor of writes) touch(step, tensor, false);
  });
  return [...buffers].flatMap(([buffer, touches]) => stretches(buffer, touches));
}

function stretches(buffer: GPUBuffer, touches: readonly Touch[]): Lifetime[] {
  const bounds = [...new Set(touches.flatMap(({ start, end }) => [start, end]))]
    .sort((a, b) => a - b);
  const found: (Lifetime | undefined)[] = bounds.map(() => undefined);
  for (const { step, start, end, reads } of touches) {
    for (let i = bounds.indexOf(start); bounds[i] < end; i++) {
      const life = found[i];
      if (life !== undefined) life.last = step;
      else {
        const bytes = bounds[i + 1] - bounds[i];
        found[i] = { buffer, bytes, first: reads ? 0 : step, last: step };
      }
    }
  }
  return found.filter((life) => life !== undefined);
}

/** Bytes in use at each step of a record of so many, of these lifetimes. */
export function bytesInUse(lives: readonly Lifetime[], steps: number): number[] {
  const change = new Float64Array(steps + 1);
  for (const { bytes, first, last } of lives) {
    change[first] += bytes;
    change[last + 1] -= bytes;
  }
  let total = 0;
  return Array.from({ length: steps }, (_, step) => total += change[step]);
}
