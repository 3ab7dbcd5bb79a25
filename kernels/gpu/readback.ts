/**
 * The buffers through which the host reads the GPU's memory.
 *
 * @module
 */
import type { Memory } from "./memory.ts";
import { allocated } from "./tensor.ts";

/** Bytes of the buffer for what is read now and then; it counts as workspace. */
export const STAGING_BYTES = 1 << 20;
/** Bytes of the buffer for more than {@linkcode LARGE_READING}. It lies in host memory, of which plans know nothing. */
const LARGE_BYTES = 1 << 24, LARGE_READING = 1 << 22;

/** A buffer to read through, and its bytes. */
export interface Staging {
  buffer: GPUBuffer;
  bytes: number;
}

/** Makes the buffers when they are needed. */
export class Readback {
  #small?: GPUBuffer;
  #large?: GPUBuffer;

  constructor(readonly device: GPUDevice, readonly memory: Memory) {}

  /** The buffer to read so many bytes through. Few bytes at a time would take longer: each time waits for the GPU. */
  staging(bytes: number): Staging {
    const usage = GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST;
    if (bytes > LARGE_READING) {
      this.#large ??= this.device.createBuffer({ label: "readback", size: LARGE_BYTES, usage });
      return { buffer: this.#large, bytes: LARGE_BYTES };
    }
    this.#small ??= allocated(
      this.memory.buffer("workspace", "readback", STAGING_BYTES, usage),
      "readback",
    );
    return { buffer: this.#small, bytes: STAGING_BYTES };
  }

  /** Frees what the memory doesn't know of. */
  destroy(): void {
    this.#large?.destroy();
  }
}
