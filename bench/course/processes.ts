/**
 * Programs as processes of their own, with the memory that they took on an NVIDIA GPU.
 *
 * @module
 */
import { setTimeout } from "node:timers/promises";
import { UserError } from "../../kernels/errors.ts";
import { megabytes } from "../../kernels/gpu/memory.ts";
import { PARENT } from "../../cli/parent.ts";
import { nvidiaGpus } from "../../kernels/measure/nvidia_smi.ts";

/** What a process left behind. */
export interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
  /**
   * Most that was used of a GPU's memory while it ran, less what was used before, in MB (2^20 bytes): of the GPU
   * where that is most. Absent where there is no `nvidia-smi`.
   */
  nvidia_smi_mb?: number;
}

/** Milliseconds between looks at the GPU's memory. */
const INTERVAL = 200;

/**
 * Runs a program to its end. Where this process does not live to see it, Lorikeet's commands and torch_rows.py
 * end too.
 *
 * @throws {UserError} where it can't be started.
 */
export async function runProcess(program: string, args: readonly string[]): Promise<Outcome> {
  const before = await nvidiaGpus();
  let child: Deno.ChildProcess;
  try {
    child = new Deno.Command(program, {
      args: [...args],
      env: { [PARENT]: `${Deno.pid}` },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
  } catch (error) {
    throw new UserError(`${program} can't be run: ${(error as Error).message}`);
  }

  const ended = new AbortController();
  const memory = most(before.map(({ used }) => used), ended.signal);
  const { code, stdout, stderr } = await child.output().finally(() => ended.abort());
  const bytes = await memory, text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  const outcome = { code, stdout: text(stdout), stderr: text(stderr) };
  return bytes === undefined ? outcome : { ...outcome, nvidia_smi_mb: megabytes(bytes) };
}

/** Looks at the GPUs' memory again and again; gives most bytes above those of `before` on one of them. */
async function most(before: readonly number[], ended: AbortSignal): Promise<number | undefined> {
  if (before.length === 0) return undefined;
  let bytes = 0;
  while (!ended.aborted) {
    for (const [i, { used }] of (await nvidiaGpus()).entries()) {
      bytes = Math.max(bytes, used - (before[i] ?? used));
    }
    await setTimeout(INTERVAL, undefined, { signal: ended }).catch(() => {});
  }
  return bytes;
}
