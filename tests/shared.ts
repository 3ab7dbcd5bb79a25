/**
 * The data folder that is shared beside the project: Llama's tokenizer and 200 Alpaca samples. It
 * can't be published, so tests that need it are ignored where it is absent.
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const folder = Deno.env.get("LORIKEET_SHARED") ??
  fileURLToPath(new URL("../../shared", import.meta.url));

/** A file of the shared data folder. */
export function sharedPath(name: string): string {
  return join(folder, "data", name);
}

/** A file of the shared inputs that were made for comparison. */
export function sharedCase(name: string): string {
  return join(folder, "cases", name);
}

export function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}

/** Whether the shared data is here. */
export const hasShared = exists(sharedPath("llama2/tokenizer.model")) &&
  exists(sharedPath("alpaca_data_200.json"));

/** Ends the name of a test that is ignored for want of the data. */
export const sharedReason = hasShared ? "" : " (no shared data; LORIKEET_SHARED names its folder)";

/** Models and adapters that transformers and PEFT wrote; see real.ts. */
export const realArchivePath = join(folder, "real", "real_a.tar.xz");

/** Whether that archive is here. */
export const hasRealArchive = exists(realArchivePath);
