/**
 * The memory of the machine that this process may still take: a software driver's GPU memory is of it.
 *
 * @module
 */
import { environment } from "../gpu/providers/environment.ts";

/** Memory that can be had. */
export interface HostMemory {
  bytes: number;
  /** What limits it, where that is the job or a container; absent where it is what the machine has free. */
  limit?: string;
}

/**
 * What the job had left as the launcher started this process, and the name of the limit. The launcher found it in
 * control groups, Slurm's variables and rlimits (scripts/launch/job_memory.sh), which no program may read.
 */
function jobMemory(): Required<HostMemory> | undefined {
  const [, bytes, limit] = /^(\d{1,17}) (.+)$/.exec(environment("LORIKEET_JOB_MEMORY") ?? "") ??
    [];
  return bytes === undefined ? undefined : { bytes: Number(bytes), limit };
}

/** What the whole machine has available; undefined where it can't be asked. */
function machineMemory(): HostMemory | undefined {
  try {
    return { bytes: Deno.systemMemoryInfo().available };
  } catch {
    return undefined;
  }
}

/** The memory that this process may still take; undefined where nobody knows. */
export function hostMemory(): HostMemory | undefined {
  const machine = machineMemory(), job = jobMemory();
  if (job === undefined) return machine;
  // The job had it before this process took any.
  const bytes = Math.max(0, job.bytes - Deno.memoryUsage().rss);
  return machine !== undefined && machine.bytes <= bytes ? machine : { ...job, bytes };
}
