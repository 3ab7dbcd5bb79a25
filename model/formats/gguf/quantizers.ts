/**
 * Quantising on several cores: finding the scales of K types takes one of them a quarter of a microsecond a number, which is
 * half an hour for a 7B model.
 *
 * @module
 */

import { quantize, type WrittenBlocks } from "./quantize.ts";
import { blockElements, storedBytes } from "./tensor_types.ts";

/** What a thread is asked for. */
export interface QuantizeRequest {
  type: WrittenBlocks;
  /** A whole number of blocks. */
  values: Float32Array<ArrayBuffer>;
  /** Where the answer goes. */
  port: MessagePort;
}

/** What it answers; `overflows` is what `quantize` returns. */
export interface QuantizeAnswer {
  blocks: Uint8Array<ArrayBuffer>;
  overflows: number;
}

/** Each takes some 14 MB of memory. */
const MOST_THREADS = 16;

/** Threads that quantise; they are started when there is work for them. */
export class Quantizers implements Disposable {
  readonly #workers: Worker[] = [];
  readonly #threads: number;
  readonly #share: number;

  /** @param options `threads`: the most; `share`: numbers of K types that one is started for. */
  constructor(
    { threads = Math.min(navigator.hardwareConcurrency, MOST_THREADS), share = 1 << 18 } = {},
  ) {
    this.#threads = threads;
    this.#share = share;
  }

  /** As `quantize` does it; `values` and `target` are left alone until then. */
  async quantize(type: WrittenBlocks, values: Float32Array, target: Uint8Array): Promise<number> {
    const shares = Math.min(this.#threads, Math.floor(values.length / this.#share));
    if (!type.endsWith("_K") || shares < 2) return quantize(type, values, target);
    const elements = blockElements(type), bytes = storedBytes(type, [elements]);
    const each = Math.ceil(values.length / elements / shares);
    const overflows = Array.from({ length: shares }, async (_, i) => {
      const share = values.slice(i * each * elements, (i + 1) * each * elements);
      const { blocks, overflows } = await this.#ask(i, { type, values: share });
      target.set(blocks, i * each * bytes);
      return overflows;
    });
    return (await Promise.all(overflows)).reduce((a, b) => a + b, 0);
  }

  #ask(
    thread: number,
    { type, values }: Pick<QuantizeRequest, "type" | "values">,
  ): Promise<QuantizeAnswer> {
    const worker = this.#workers[thread] ??= new Worker(
      new URL("./quantize_worker.ts", import.meta.url),
      { type: "module" },
    );
    const { port1, port2 } = new MessageChannel();
    return new Promise((resolve, reject) => {
      port1.onmessage = ({ data }) => {
        port1.close();
        resolve(data);
      };
      worker.onerror = (event) => {
        event.preventDefault();
        port1.close();
        reject(new Error(event.message));
      };
      const request: QuantizeRequest = { type, values, port: port2 };
      worker.postMessage(request, [values.buffer, port2]);
    });
  }

  [Symbol.dispose](): void {
    for (const worker of this.#workers) worker.terminate();
    this.#workers.length = 0;
  }
}
