/**
 * Deno's version against those that Lorikeet is made for.
 *
 * @module
 */
import { join } from "node:path";
import { type Check, ok, warning } from "./check.ts";

/** The versions of Deno that the launcher goes by. */
export interface DenoVersions {
  /** The oldest that works. */
  readonly minimum: string;
  /** The one that Lorikeet is tested with, which the launcher installs. */
  readonly pinned: string;
}

/** Reads the launcher's versions. @param root The project's folder. */
export function denoVersions(root: string): DenoVersions {
  const text = Deno.readTextFileSync(join(root, "scripts/launch/deno_versions.txt"));
  const [minimum, pinned] = text.trim().split(" ");
  return { minimum, pinned };
}

/** Deno's version. The launcher takes none that is older than the minimum. @param system As `uname -sm` has it. */
export function checkDeno(
  version: string,
  { minimum, pinned }: DenoVersions,
  system: string,
): Check {
  const details = { version, pinned, minimum, system };
  if (version === pinned) {
    return ok("deno", `${version}, which Lorikeet is tested with, on ${system}`, details);
  }
  const remedy =
    `Where something goes wrong, take the \`deno\` off the PATH: the launcher then installs ${pinned}.`;
  return warning(
    "deno",
    `${version} on ${system}; Lorikeet is tested with ${pinned}`,
    remedy,
    details,
  );
}
