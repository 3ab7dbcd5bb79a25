/**
 * Names of what is being written.
 *
 * @module
 */

/** What a temporary name has, after the name that it will get. */
const PARTIAL = ".partial-";

/** A name beside `path` that nothing has, so that a rename to `path` stays on one file system. */
export function temporaryName(path: string): string {
  return `${path.replace(/[/\\]+$/, "")}${PARTIAL}${crypto.randomUUID().slice(0, 8)}`;
}

/** Whether a name is one of {@linkcode temporaryName}: of something that a killed program left half written. */
export function isTemporaryName(name: string): boolean {
  return name.includes(PARTIAL);
}
