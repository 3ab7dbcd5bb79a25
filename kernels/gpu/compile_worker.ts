/**
 * A thread that compiles on a device of its own: the built-in provider's, which compiles on the thread that asks.
 *
 * @module
 */
/// <reference lib="deno.worker" />
import type { CompilerSettings } from "./compilers.ts";
import { openCompilingDevice } from "./limits.ts";
import { type PipelineSource, planPipeline } from "./pipeline_source.ts";
import { denoProvider } from "./providers/deno.ts";

let device: GPUDevice | undefined;

/** Opens the device, or compiles on it; what is wrong with a program is for the device that launches it to say. */
async function obey(message: CompilerSettings | PipelineSource): Promise<void> {
  if ("limits" in message) {
    device = await openCompilingDevice(denoProvider, message.limits);
    device.addEventListener("uncapturederror", (event) => event.preventDefault());
  } else if (device !== undefined) {
    device.createComputePipeline(planPipeline(device, message).descriptor);
  }
}

/** Messages are obeyed in their order. */
let last = Promise.resolve();
self.addEventListener("message", ({ data }: MessageEvent<CompilerSettings | PipelineSource>) => {
  last = last.then(() => obey(data)).then(() => self.postMessage(undefined));
  // An error event of the worker tells who waits.
  last.catch((error) => {
    throw error;
  });
});
