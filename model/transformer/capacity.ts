/**
 * Whether a plan fits: its bytes against the GPU's memory, before anything is allocated. WebGPU doesn't tell how much
 * memory a GPU has, so that `nvidia-smi` is asked.
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import { FIXED_WORKSPACE, type Gpu } from "../../kernels/gpu/gpu.ts";
import { SPLIT_BYTES } from "../../kernels/ops/matmul/tiled_geometry.ts";
import { megabytes, Memory, memoryLines, type MemoryTable } from "../../kernels/gpu/memory.ts";
import { hostMemory } from "../../kernels/measure/host_memory.ts";
import { nvidiaGpus } from "../../kernels/measure/nvidia_smi.ts";

/**
 * Bytes of weights that are read from a file and sent to the GPU at a time. Larger pieces are slower: they leave the
 * processor's cache before they are sent, and from 32 MiB on the system maps new memory for every copy.
 */
export const PIECE_BYTES = 1 << 23;
/** GPU memory for pieces that are cast: two, so that one arrives while the one before is cast. */
const UPLOAD_BYTES = 2 * PIECE_BYTES;

/** Free memory of one NVIDIA GPU of this name as `nvidia-smi` sees it; undefined where it can't. */
async function nvidiaFreeBytes(name: string): Promise<number | undefined> {
  const gpus = await nvidiaGpus();
  const gpu = gpus.find((gpu) => name.toLowerCase().includes(gpu.name.toLowerCase())) ?? gpus[0];
  return gpu && gpu.free > 0 ? gpu.free : undefined;
}

/** Bytes that can be allocated; undefined where they are not known. */
export async function availableBytes(gpu: Gpu): Promise<number | undefined> {
  if (gpu.software) return hostMemory()?.bytes;
  return /nvidia|geforce|rtx|tesla|quadro/i.test(gpu.name)
    ? await nvidiaFreeBytes(gpu.name)
    : undefined;
}

/** Advice to need less memory, and to ask for more where the job has the least of it. */
function adviceInJob(advice: string): string {
  const limit = hostMemory()?.limit;
  return limit === undefined
    ? advice
    : `${advice}\nMore memory: for the job, which ${limit} limits.`;
}

/** A run that does not fit: the plan or the driver said so. */
export class DoesNotFit extends UserError {
  override name = "DoesNotFit";
  /** Bytes that the run plans to allocate, by category and in all. */
  readonly needed: MemoryTable;
  readonly total: number;

  /** @param available Bytes that can be allocated, where anybody knows. */
  constructor(
    plan: Memory,
    readonly by: "plan" | "driver",
    readonly available: number | undefined,
    advice: string,
  ) {
    const have = by === "plan" && available !== undefined
      ? `${megabytes(available).toFixed(1).padStart(12)} MB`
      : "         less (the driver refused it)";
    super(
      `this run does not fit the GPU's memory; it needs\n` +
        `${memoryLines(plan.peak, plan.peakTotal).join("\n")}\n  ` +
        `${"there is".padEnd(12)}${have}\nLess memory: ${advice}`,
    );
    this.needed = plan.peak;
    this.total = plan.peakTotal;
  }
}

/**
 * Refuses a plan that needs more than there is.
 *
 * @param have Bytes that can be allocated; undefined where nobody knows, and then nothing is refused.
 * @param advice What would need less, for the message.
 * @throws {DoesNotFit} with a table of need against have.
 */
export function checkFits(plan: Memory, have: number | undefined, advice: string): void {
  if (have !== undefined && plan.peakTotal > have) {
    throw new DoesNotFit(plan, "plan", have, advice);
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
  // Uploads have ended when the first launch takes working memory.
  const scratch = Math.max(UPLOAD_BYTES + plan.encodingBytes, SPLIT_BYTES, plan.scratchBytes);
  plan.buffer("workspace", "uploads and split sums", scratch);
  return plan;
}

/**
 * Allocates what a run needs after a dry run that only counts, so that a run which can't fit is
 * refused before anything is allocated. Where nobody knows the GPU's memory, the driver's refusal is
 * reported the same way.
 *
 * @param allocate Makes everything out of the memory it is given.
 * @param advice What would need less, for the message.
 * @param ignorePlan Try to allocate whatever the plan says.
 * @throws {DoesNotFit} with a table of need against have.
 */
export async function allocatePlanned<T>(
  gpu: Gpu,
  allocate: (memory: Memory) => T,
  advice: string,
  { ignorePlan = false } = {},
): Promise<T> {
  const plan = planMemory(gpu.memory.limits, allocate), have = await availableBytes(gpu);
  const advised = gpu.software ? adviceInJob(advice) : advice;
  if (!ignorePlan) checkFits(plan, have, advised);
  gpu.memory.available = have;
  gpu.device.pushErrorScope("out-of-memory");
  const allocated = allocate(gpu.memory);
  if (await gpu.device.popErrorScope() !== null) {
    gpu.close();
    throw new DoesNotFit(plan, "driver", have, advised);
  }
  return allocated;
}
