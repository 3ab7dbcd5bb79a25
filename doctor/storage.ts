/**
 * Folders that are written: room and rights.
 *
 * @module
 */
import { statfsSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { megabytes } from "../kernels/gpu/memory.ts";
import { type Check, ok, problem, warning } from "./check.ts";

/** Bytes that a run of the built-in example may write, with room. */
const LEAST_FREE = 100 * 2 ** 20;

/** A folder that is to be written. */
interface Place {
  /** The folder itself, or the nearest one around it that is there. */
  readonly existing: string;
  /** Bytes that this user may still write there; undefined where nobody knows. */
  readonly free?: number;
  /** Why it can't be written; absent where it can. */
  readonly failure?: string;
}

function isThere(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch (error) {
    return !(error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory);
  }
}

/** Writes a file of one block there and removes it. */
function tryWriting(folder: string): void {
  const probe = Deno.makeTempFileSync({ dir: folder, prefix: ".lorikeet-doctor-" });
  try {
    Deno.writeFileSync(probe, new Uint8Array(4096));
  } finally {
    Deno.removeSync(probe);
  }
}

/** Looks at a folder that may not be there yet. */
export function examine(folder: string): Place {
  let existing = resolve(folder);
  while (!isThere(existing) && dirname(existing) !== existing) existing = dirname(existing);
  let free: number | undefined;
  try {
    const { bavail, bsize } = statfsSync(existing);
    free = bavail * bsize;
  } catch { /* Some file systems don't tell. */ }
  try {
    if (!Deno.statSync(existing).isDirectory) return { existing, free, failure: "it is no folder" };
    tryWriting(existing);
    return { existing, free };
  } catch (error) {
    const isSystems = error instanceof Deno.errors.NotCapable;
    return {
      existing,
      free,
      failure: isSystems ? "Deno keeps it from programs" : (error as Error).message,
    };
  }
}

function describe({ free }: Place): string {
  return free === undefined ? "free room not known" : `${Math.round(megabytes(free))} MB free`;
}

function detailsOf(path: string, { free, failure }: Place) {
  return { path, free_mb: free && megabytes(free), writable: failure === undefined };
}

/** The folder that runs are written to. */
export function checkRunFolder(folder: string): Check {
  const place = examine(folder), { existing, free, failure } = place;
  const details = detailsOf(folder, place);
  if (failure !== undefined) {
    const remedy =
      `Name a folder that this user may write with --output, or get the rights to ${existing}.`;
    return problem("run folder", `${existing} can't be written: ${failure}`, remedy, details);
  }
  const found = `${folder}: can be written, ${describe(place)}`;
  if (free === undefined || free >= LEAST_FREE) return ok("run folder", found, details);
  const remedy = "Free room there, or name a folder on another disk with --output.";
  return warning("run folder", found, remedy, details);
}

/** Folders that make starts quicker. @param folders By what they hold. */
export function checkCaches(folders: Readonly<Record<string, string>>): Check {
  const places = Object.entries(folders).map(([name, path]) => ({ name, path, ...examine(path) }));
  const details = {
    folders: places.map((place) => ({ name: place.name, ...detailsOf(place.path, place) })),
  };
  const failing = places.find(({ failure }) => failure !== undefined);
  if (failing === undefined) {
    return ok("caches", places.map(({ name, path }) => `${name}: ${path}`).join("; "), details);
  }
  const { name, existing, failure } = failing;
  const remedy =
    "Starts work without it, but slower: let XDG_CACHE_HOME or DENO_DIR name a folder that this user may write.";
  return warning("caches", `${name}: ${existing} can't be written: ${failure}`, remedy, details);
}
