/**
 * A thread that quantises; see quantizers.ts.
 *
 * @module
 */
import { quantize } from "./quantize.ts";
import type { QuantizeAnswer, QuantizeRequest } from "./quantizers.ts";
import { storedBytes } from "./tensor_types.ts";

self.addEventListener("message", (event) => {
  const { type, values, port } = (event as MessageEvent<QuantizeRequest>).data;
  const blocks = new Uint8Array(storedBytes(type, [values.length]));
  const overflows = quantize(type, values, blocks);
  port.postMessage({ blocks, overflows } satisfies QuantizeAnswer, [blocks.buffer]);
});
