/**
 * NVIDIA's GPUs as `nvidia-smi` sees them.
 *
 * @module
 */

/** One GPU; memory in bytes. */
export interface NvidiaGpu {
  name: string;
  /** The driver's version. */
  driver: string;
  total: number;
  /** Of all programs together. */
  used: number;
  free: number;
}

/** The machine's NVIDIA GPUs; none where `nvidia-smi` is not there, may not be run, or fails. */
export async function nvidiaGpus(): Promise<NvidiaGpu[]> {
  try {
    const { success, stdout } = await new Deno.Command("nvidia-smi", {
      args: [
        "--query-gpu=name,driver_version,memory.total,memory.used,memory.free",
        "--format=csv,noheader,nounits",
      ],
      stdout: "piped",
      stderr: "null",
      // Deno hands LD_LIBRARY_PATH, which the launcher may set, only to programs allowed everything. On Windows there
      // is none, and programs need some of what there is.
      clearEnv: Deno.build.os !== "windows",
    }).output();
    if (!success) return [];
    return new TextDecoder().decode(stdout).trim().split("\n").map((line) => {
      const [name, driver, ...memory] = line.split(", ");
      const [total, used, free] = memory.map((mebibytes) => Number(mebibytes) * 2 ** 20);
      return { name, driver, total, used, free };
    });
  } catch {
    return [];
  }
}
