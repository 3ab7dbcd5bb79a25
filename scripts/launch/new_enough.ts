/**
 * Whether a Deno is new enough for Lorikeet: run by it, exits with 0 where it is. For lorikeet.cmd, as cmd can't compare
 * versions.
 *
 * @module
 */

/** Whether a version (as 2.9.6) is at least another (as 2.9). */
export function newEnough(version: string, minimum: string): boolean {
  const [have, need] = [version, minimum].map((text) =>
    text.split(".").map((part) => parseInt(part))
  );
  const [major, minor] = [have[0] - need[0], have[1] - need[1]];
  return major > 0 || (major === 0 && minor >= 0);
}

if (import.meta.main) {
  const versions = Deno.readTextFileSync(new URL("deno_versions.txt", import.meta.url));
  Deno.exit(newEnough(Deno.version.deno, versions.split(" ")[0]) ? 0 : 1);
}
