/**
 * What a measurement is of: a hash over the sources that decide it, so that one is kept exactly as long as none
 * of them changes. A version number stays the same over many changes.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** Folders and files that decide what Lorikeet's commands measure; a report's words are not among them. */
const LORIKEET_SOURCES = [
  "kernels",
  "model",
  "cli",
  "train",
  "infer",
  "bench",
  "examples/builtin",
  "deno.lock",
];
const WORDS = join("bench", "course", "report");

/** The files of a folder, and of those in it, in the order of their names. */
function* filesBelow(path: string): Generator<string> {
  if (path === WORDS) return;
  if (Deno.statSync(resolve(ROOT, path)).isFile) return yield path;
  const names = [...Deno.readDirSync(resolve(ROOT, path))].map(({ name }) => name);
  for (const name of names.sort()) yield* filesBelow(join(path, name));
}

/**
 * The hash, in hexadecimal, of files, whose names and bytes count.
 *
 * @param paths Files and folders, from the project's folder or absolute.
 */
export function hashOf(paths: Iterable<string>): string {
  const hash = createHash("sha256");
  for (const path of paths) {
    const bytes = Deno.readFileSync(resolve(ROOT, path));
    hash.update(`${path}\n${bytes.length}\n`).update(bytes);
  }
  return hash.digest("hex").slice(0, 16);
}

/** What decides Lorikeet's measurements: every file's path from the project's folder. */
export const lorikeetFiles = (): string[] =>
  LORIKEET_SOURCES.flatMap((path) => [...filesBelow(path)]);

let lorikeet: string | undefined;

/** The hash of what Lorikeet's commands measure with. */
export function lorikeetSources(): string {
  return lorikeet ??= hashOf(lorikeetFiles());
}
