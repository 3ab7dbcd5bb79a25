/**
 * The archive of models and adapters that transformers and PEFT wrote, which is shared beside the project. It is
 * unpacked once, where it is there and so is `tar`; tests that need it are ignored otherwise.
 */
import { join } from "node:path";
import type { Gpu } from "../kernels/gpu/gpu.ts";
import { gpuTest } from "./kernels/harness.ts";
import { hasRealArchive, realArchivePath } from "./shared.ts";

let unpacked: string | undefined;

/** Whether the programs that unpack it are here. */
function hasTar(): boolean {
  try {
    const runs = ["tar", "xz"].map((name) => new Deno.Command(name, { args: ["--version"] }));
    return runs.every((command) => command.outputSync().success);
  } catch {
    return false;
  }
}

/** Whether the archive can be read here. */
const hasReal = hasRealArchive && hasTar();

/** Ends the name of a test that is ignored for want of it. */
const realReason = hasReal ? "" : " (no shared archive of real files, or no tar)";

/** The folder of what the archive holds. */
export function realFolder(): string {
  if (unpacked !== undefined) return unpacked;
  const folder = Deno.makeTempDirSync({ prefix: "real" });
  addEventListener("unload", () => Deno.removeSync(folder, { recursive: true }));
  const { code } = new Deno.Command("tar", { args: ["-xJf", realArchivePath, "-C", folder] })
    .outputSync();
  if (code !== 0) throw new Error(`${realArchivePath} can't be unpacked`);
  return unpacked = join(folder, "real_a");
}

/** A test on the GPU that is ignored without the archive. */
export function realTest(name: string, body: (gpu: Gpu) => Promise<void>): void {
  if (hasReal) gpuTest(name, body);
  else Deno.test.ignore(name + realReason, () => {});
}
