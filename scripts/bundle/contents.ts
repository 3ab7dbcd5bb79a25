/**
 * The folder that a bundle unpacks to: the project's without what only developers need, with Deno, the packages and,
 * where it was fetched, Dawn.
 *
 * @module
 */
import { basename, dirname, join, relative } from "node:path";
import { PROGRAMS as COMPILED } from "../compile.ts";
import { COMMANDS, isBundled, PROGRAMS } from "../launch/permissions.ts";
import { type ModuleGraph, moduleGraph, npmCacheFolder } from "./graph.ts";
import { copyPackages, type Placed } from "./packages.ts";

/** Folders of which not everything goes in. */
const CHOSEN = ["examples", "scripts"];

/** The programs that go in, and the modules of their other threads, which no import names: paths from the project's folder. */
export function bundledPrograms(): string[] {
  const programs = Object.entries(PROGRAMS).filter(([command]) => isBundled(command))
    .map(([, { program }]) => program);
  const threads = COMPILED.flatMap(({ workers }) => workers.filter((path) => path.endsWith(".ts")));
  return [...programs, ...threads];
}

/** Every file of a folder and those in it, as paths from `root`. */
function filesIn(root: string, folder: string): string[] {
  return [...Deno.readDirSync(join(root, folder))].flatMap(({ name, isDirectory, isFile }) => {
    const path = `${folder}/${name}`;
    return isDirectory ? filesIn(root, path) : isFile ? [path] : [];
  });
}

/** The project's files that go in, as paths from its folder. */
export function projectFiles(root: string, graph: ModuleGraph): string[] {
  const imported = graph.files.map((path) => relative(root, path).replaceAll("\\", "/"));
  // Some files are opened by their place beside a module, and workers are named by no import: so whole folders.
  const folders = new Set(imported.map((path) => path.split("/")[0]));
  const whole = [...folders].filter((name) => !CHOSEN.includes(name)).flatMap((folder) =>
    filesIn(root, folder)
  );
  const examples = filesIn(root, "examples").filter((path) =>
    /^examples\/[^/]+\.yaml$/.test(path) ||
    (path.startsWith("examples/builtin/") && !/\.(ts|sh)$/.test(path))
  );
  const launcher = ["LICENSE", "lorikeet", "scripts/launch.ts", ...filesIn(root, "scripts/launch")];
  return [...new Set([...whole, ...imported, ...examples, ...launcher])].sort();
}

/** The configuration of the unpacked folder: packages come from `node_modules`, and there is no lock file. */
function configurations(root: string, placed: readonly Placed[]) {
  const { version, compilerOptions, imports } = JSON.parse(
    Deno.readTextFileSync(join(root, "deno.json")),
  ) as Record<string, unknown> & { imports: Record<string, string> };
  const there = new Map(placed.map(({ name, version }) => [`npm:${name}@${version}`, name]));
  const kept = Object.entries(imports).filter(([, target]) => there.has(target));
  const deno = {
    version,
    nodeModulesDir: "manual",
    lock: false,
    imports: Object.fromEntries(kept),
    compilerOptions,
  };
  const dependencies = kept.map(([, target]) => {
    const at = target.lastIndexOf("@");
    return [target.slice("npm:".length, at), target.slice(at + 1)];
  });
  return { deno, npm: { private: true, dependencies: Object.fromEntries(dependencies) } };
}

/** The list of commands without those that are not there. */
function bundledHelp(help: string): string {
  return help.split("\n").filter((line) => {
    const [, command] = /^ {2}([a-z]+) /.exec(line) ?? [];
    return command === undefined || !COMMANDS.includes(command) || isBundled(command) ||
      command === "deno";
  }).join("\n");
}

/** Fills an empty folder. @param dawn Dawn's library, and its path in the project's folder. */
export function fillFolder(root: string, folder: string, dawn: string | undefined): void {
  const graph = moduleGraph(root, [...bundledPrograms(), "scripts/launch.ts"]);
  const copy = (from: string, path: string) => {
    Deno.mkdirSync(join(folder, dirname(path)), { recursive: true });
    Deno.copyFileSync(from, join(folder, path));
  };
  for (const path of projectFiles(root, graph)) copy(join(root, path), path);
  const placed = copyPackages(graph, npmCacheFolder(root), folder);
  const { deno, npm } = configurations(root, placed);
  const json = (name: string, value: unknown) =>
    Deno.writeTextFileSync(join(folder, name), `${JSON.stringify(value, null, 2)}\n`);
  json("deno.json", deno);
  json("package.json", npm);
  const help = join(folder, "scripts/launch/help.txt");
  Deno.writeTextFileSync(help, bundledHelp(Deno.readTextFileSync(help)));
  copy(Deno.execPath(), basename(Deno.execPath()).endsWith(".exe") ? "deno.exe" : "deno");
  if (dawn !== undefined) copy(dawn, relative(root, dawn));
}
