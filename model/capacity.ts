/**
 * Whether a plan fits: what it needs against the memory there is, before anything is allocated.
 * WebGPU doesn't tell how much memory a GPU has, so it is asked of whoever knows.
 *
 * @module
 */
import { UserError } from "../kernels/errors.ts";
import { FIXED_WORKSPACE, type Gpu } from "../kernels/gpu.ts";
import { SPLIT_BYTES } from "../kernels/matmul/geometry.ts";
import { megabytes, Memory, memoryLines } from "../kernels/memory.ts";
import { UPLOAD_BYTES } from "./load.ts";

/** Free memory of one NVIDIA GPU of this name as `nvidia-smi` sees it; undefined where it can't. */
async function nvidiaFreeBytes(name: string): Promise<number | undefined> {
  try {
    const { stdout } = await new Deno.Command("nvidia-smi", {
      args: ["--query-gpu=name,memory.free", "--format=csv,noheader,nounits"],
      stdout: "piped",
      stderr: "null",
      // Deno hands LD_LIBRARY_PATH, which the launcher may set, only to programs allowed everything.
      clearEnv: true,
    }).output();
    const gpus = new TextDecoder().decode(stdout).trim().split("\n").map((line) =>
      line.split(", ")
    );
    const gpu = gpus.find(([gpuName]) => name.toLowerCase().includes(gpuName.toLowerCase())) ??
      gpus[0];
    const free = Number(gpu?.[1]);
    return free > 0 ? free * 2 ** 20 : undefined;
  } catch {
    return undefined;
  }
}

/** Bytes that can be allocated, or undefined where nobody knows. */
export async function availableBytes(gpu: Gpu): Promise<number | undefined> {
  if (gpu.software) {
    try {
      return Deno.systemMemoryInfo().available;
    } catch {
      return undefined;
    }
  }
  return /nvidia|geforce|rtx|tesla|quadro/i.test(gpu.name)
    ? await nvidiaFreeBytes(gpu.name)
    : undefined;
}

/** The message for a run that does not fit. */
function tooLarge(plan: Memory, have: string, advice: string): UserError {
  const lines = memoryLines(plan.peak, plan.peakTotal);
  return new UserError(
    `this run does not fit the GPU's memory; it needs\n${lines.join("\n")}\n  ` +
      `${"there is".padEnd(12)}${have}\nLess memory: ${advice}`,
  );
}

/**
 * Refuses a plan that needs more than there is.
 *
 * @param have Bytes that can be allocated; undefined where nobody knows, and then nothing is refused.
 * @param advice What would need less, for the message.
 * @throws {UserError} with a table of need against have.
 */
export function checkFits(plan: Memory, have: number | undefined, advice: string): void {
  if (have !== undefined && plan.peakTotal > have) {
    throw tooLarge(plan, `${megabytes(have).toFixed(1).padStart(12)} MB`, advice);
  }
}

/** What `allocate` and the device itself take, counted without allocating anything. */
export function planMemory(
  limits: Memory["limits"],
  allocate: (memory: Memory) => unknown,
): Memory {
  const plan = new Memory(undefined, limits);
  plan.buffer("workspace", "device", FIXED_WORKSPACE);
  allocate(plan);
  // Uploads are over when the first launch asks for working memory of its own.
  const scratch = Math.max(UPLOAD_BYTES, SPLIT_BYTES, plan.scratchBytes);
  plan.buffer("workspace", "uploads and split sums", scratch);
  return plan;
}

/**
 * Allocates what a run needs after a rehearsal that only counts, so that a run which can't fit is
 * refused before anything is allocated. Where nobody knows the GPU's memory, the driver's refusal is
 * reported the same way.
 *
 * @param allocate Makes everything out of the memory it is given.
 * @param advice What would need less, for the message.
 * @throws {UserError} with a table of need against have.
 */
export async function allocatePlanned<T>(
  gpu: Gpu,
  allocate: (memory: Memory) => T,
  advice: string,
): Promise<T> {
  const plan = planMemory(gpu.memory.limits, allocate);
  checkFits(plan, await availableBytes(gpu), advice);
  gpu.device.pushErrorScope("out-of-memory");
  const made = allocate(gpu.memory);
  if (await gpu.device.popErrorScope() !== null) {
    gpu.close();
    throw tooLarge(plan, "         less (the driver refused it)", advice);
  }
  return made;
}
