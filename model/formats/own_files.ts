/**
 * What belongs to a model's folder, where its entries may be links: a link to a file somewhere else would carry a copy of
 * that file into whatever is made of the model.
 *
 * @module
 */

import { basename, dirname, isAbsolute, join, relative } from "node:path";
import { fileError } from "../files/whole_file.ts";

/** A path without links. @throws UserError where it can't be followed. */
function realPath(path: string): string {
  try {
    return Deno.realPathSync(path);
  } catch (error) {
    throw fileError(path, "read", error);
  }
}

/** Tells whether entries of a folder belong to it. */
export class OwnFiles {
  /** The folder, and in the hub's cache the one that holds the content of all versions. */
  readonly #roots: readonly string[];

  constructor(folder: string) {
    const real = realPath(folder), versions = dirname(real);
    const blobs = basename(versions) === "snapshots" ? [join(dirname(versions), "blobs")] : [];
    this.#roots = [real, ...blobs];
  }

  /** Whether what a path leads to lies in the folder. @throws UserError where it leads to nothing. */
  has(path: string): boolean {
    const real = realPath(path);
    return this.#roots.some((root) => {
      const below = relative(root, real);
      return below.split(/[/\\]/)[0] !== ".." && !isAbsolute(below);
    });
  }
}
