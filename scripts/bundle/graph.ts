/**
 * What programs import, as Deno sees it.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { UserError } from "../../kernels/errors.ts";

/** An npm package of Deno's resolution. */
export interface NpmPackage {
  readonly name: string;
  readonly version: string;
  /** Ids of packages. */
  readonly dependencies: readonly string[];
}

/** Everything that programs import. */
export interface ModuleGraph {
  /** Paths of the project's own files. */
  readonly files: readonly string[];
  /** Ids of the npm packages that those import. */
  readonly npmImports: readonly string[];
  /** The resolution's packages by id. */
  readonly packages: Readonly<Record<string, NpmPackage>>;
}

/** A module of `deno info --json`. */
interface ModuleInfo {
  readonly specifier: string;
  readonly npmPackage?: string;
}

/** Runs Deno, which the launcher puts first on the PATH, in the project's folder and gives what it prints. */
function deno(root: string, args: readonly string[]): string {
  const { success, stdout, stderr } = new Deno.Command("deno", {
    args: [...args],
    cwd: root,
    env: { NO_COLOR: "1" },
    stdin: "null",
  }).outputSync();
  const text = new TextDecoder();
  if (!success) throw new UserError(`deno ${args[0]} failed: ${text.decode(stderr).trim()}`);
  return text.decode(stdout);
}

/**
 * The graph of programs, whose packages are fetched where Deno's cache lacks them.
 *
 * @param entries Paths from the project's folder.
 */
export function moduleGraph(root: string, entries: readonly string[]): ModuleGraph {
  deno(root, ["cache", "--quiet", "--frozen", ...entries]);
  const graphs = entries.map((entry) =>
    JSON.parse(deno(root, ["info", "--json", "--frozen", entry])) as {
      modules: ModuleInfo[];
      npmPackages: Record<string, NpmPackage>;
    }
  );
  const modules = graphs.flatMap(({ modules }) => modules);
  const files = modules.map(({ specifier }) => specifier)
    .filter((specifier) => specifier.startsWith("file:")).map((url) => fileURLToPath(url));
  const imported = modules.flatMap(({ npmPackage }) => npmPackage ?? []);
  return {
    files: [...new Set(files)].sort(),
    npmImports: [...new Set(imported)].sort(),
    packages: Object.assign({}, ...graphs.map(({ npmPackages }) => npmPackages)),
  };
}

/** The folder in which Deno keeps npm packages. */
export function npmCacheFolder(root: string): string {
  return JSON.parse(deno(root, ["info", "--json"])).npmCache;
}
