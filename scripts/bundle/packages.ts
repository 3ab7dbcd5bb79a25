/**
 * The npm packages that programs need, as a folder `node_modules`: what Deno reads without a cache of its own, which
 * lies by the name of the registry that packages came from.
 *
 * @module
 */
import { join } from "node:path";
import { UserError } from "../../kernels/errors.ts";
import type { ModuleGraph, NpmPackage } from "./graph.ts";

/** Files of packages that nothing reads at run time. Licences stay. */
const UNREAD = /\.(d\.[cm]?ts|[cm]?ts|tsx|map|flow|markdown|md)$/i;

/** A package and where it goes, from the folder of `node_modules`' parent. */
export interface Placed {
  readonly name: string;
  readonly version: string;
  readonly path: string;
}

/**
 * Places packages as npm does: at the top, or below the one that needs another version than lies there.
 *
 * @param needed Ids of what the programs import.
 */
export function placePackages(
  needed: readonly string[],
  packages: Readonly<Record<string, NpmPackage>>,
): Placed[] {
  const placed = new Map<string, Placed>();
  const place = (id: string, parents: readonly string[]): void => {
    const { name, version, dependencies } = packages[id];
    // Where Node looks for it, from the inside out.
    const folders = ["", ...parents].map((folder) => `${folder}node_modules/${name}`);
    const seen = folders.findLast((path) => placed.has(path));
    if (seen !== undefined && placed.get(seen)?.version === version) return;
    const path = seen === undefined ? folders[0] : folders[folders.length - 1];
    placed.set(path, { name, version, path });
    for (const dependency of dependencies) place(dependency, [...parents, `${path}/`]);
  };
  for (const id of needed) place(id, []);
  return [...placed.values()];
}

/** The folder of a package in Deno's cache, in which registries have a folder each. */
function cached(npmCache: string, { name, version }: Placed): string {
  for (const { name: registry } of Deno.readDirSync(npmCache)) {
    const folder = join(npmCache, registry, name, version);
    try {
      if (Deno.statSync(folder).isDirectory) return folder;
    } catch { /* another registry has it */ }
  }
  throw new UserError(`the npm package ${name}@${version} is not in Deno's cache ${npmCache}`);
}

function copyRead(from: string, to: string): void {
  Deno.mkdirSync(to, { recursive: true });
  for (const { name, isDirectory, isFile } of Deno.readDirSync(from)) {
    if (isDirectory) copyRead(join(from, name), join(to, name));
    else if (isFile && !UNREAD.test(name)) Deno.copyFileSync(join(from, name), join(to, name));
  }
}

/** Copies the packages that the programs of a graph import, and all that those need, into a folder. */
export function copyPackages(graph: ModuleGraph, npmCache: string, folder: string): Placed[] {
  const placed = placePackages(graph.npmImports, graph.packages);
  for (const one of placed) copyRead(cached(npmCache, one), join(folder, one.path));
  return placed;
}
