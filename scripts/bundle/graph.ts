/**
 * What programs import, as Deno sees it.
 *
 * @module
 */
import { join, relative } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
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
  // Deno tells of one module at a time: so one that imports them all.
  const all = Deno.makeTempFileSync({ suffix: ".ts" });
  let graph: { modules: ModuleInfo[]; npmPackages: Record<string, NpmPackage> };
  try {
    const urls = entries.map((entry) => pathToFileURL(join(root, entry)).href);
    Deno.writeTextFileSync(all, urls.map((url) => `import ${JSON.stringify(url)};\n`).join(""));
    const frozen = ["--frozen", "--config", join(root, "deno.json"), all];
    deno(root, ["cache", "--quiet", ...frozen]);
    graph = JSON.parse(deno(root, ["info", "--json", ...frozen]));
  } finally {
    Deno.removeSync(all);
  }
  const files = graph.modules.map(({ specifier }) => specifier)
    .filter((specifier) => specifier.startsWith("file:")).map((url) => fileURLToPath(url))
    .filter((path) => !relative(root, path).startsWith(".."));
  return {
    files: files.sort(),
    npmImports: [...new Set(graph.modules.flatMap(({ npmPackage }) => npmPackage ?? []))].sort(),
    packages: graph.npmPackages,
  };
}

/** The folder in which Deno keeps npm packages. */
export function npmCacheFolder(root: string): string {
  return JSON.parse(deno(root, ["info", "--json"])).npmCache;
}
