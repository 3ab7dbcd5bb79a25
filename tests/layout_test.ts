/** Who may import whom, and what no source file may have: DESIGN's layers and STYLE's limits, read from the files. */
import assert from "node:assert/strict";
import { dirname, join, relative } from "node:path";
import { programFamilies } from "../kernels/gpu/program.ts";
import { ROOT } from "../scripts/compile.ts";
import { parameterLists } from "./parameters.ts";
import { sources } from "./sources.ts";

/**
 * What files of each room may import of the project, besides their own room. Files that lie above the rooms of kernels/
 * and model/ are rooms of their own name.
 */
const MAY_IMPORT: Record<string, string[]> = {
  "kernels": [], // errors, which every room knows
  "kernels/wgsl": ["kernels"],
  "kernels/gpu": ["kernels", "kernels/wgsl"],
  "kernels/ops": ["kernels", "kernels/gpu", "kernels/wgsl"],
  "kernels/measure": ["kernels", "kernels/gpu", "kernels/ops", "kernels/wgsl"],
  "model/files": ["kernels"],
  "model/families": ["kernels", "kernels/ops", "model/files"],
  "model/formats": ["kernels", "kernels/ops", "model/files", "model/families"],
  "model/adapter": ["kernels", "model/files", "model/families", "model/formats"],
  "model/text": ["kernels", "examples", "model/files", "model/families", "model/formats"],
  "model/transformer": [
    "kernels",
    "kernels/gpu",
    "kernels/ops",
    "kernels/measure",
    "model/files",
    "model/families",
    "model/formats",
    "model/adapter",
    "model/text",
  ],
  "model/checkpoint": [
    "kernels",
    "kernels/gpu",
    "kernels/ops",
    "model/files",
    "model/families",
    "model/formats",
    "model/adapter",
    "model/text",
    "model/transformer",
  ],
  "model/engine": ["kernels", "kernels/gpu", "kernels/ops", "model/transformer"],
  "model": ["kernels", "kernels/gpu", "kernels/measure", "model/*"],
  "cli": ["kernels", "kernels/gpu"],
  "http": ["kernels"],
  "train": ["kernels", "kernels/*", "model", "model/*", "cli", "http", "examples"],
  "infer": ["kernels", "kernels/*", "model", "model/*", "cli", "http"],
  "doctor": ["kernels", "kernels/*", "model/*", "cli", "scripts"],
  "bench": ["kernels", "kernels/*", "model", "model/*", "cli", "train", "deno.json"],
  "scripts": ["kernels", "cli"],
  "examples": ["kernels", "kernels/*", "model", "model/*", "train", "bench"],
};

/** Folders of source files. */
const FOLDERS = [...new Set(Object.keys(MAY_IMPORT).map((room) => room.split("/")[0])), "tests"];
/** Every source file of the project. */
const FILES = FOLDERS.flatMap((folder) => sources(join(ROOT, folder)));

const named = (path: string) => relative(ROOT, path).replaceAll("\\", "/");

/** The room that a file lies in. */
function roomOf(path: string): string {
  const [folder, room, ...inside] = named(path).split("/");
  return ["kernels", "model"].includes(folder) && inside.length > 0 ? `${folder}/${room}` : folder;
}

/** What a file imports or re-exports by a literal name. */
function imports(path: string): string[] {
  const text = Deno.readTextFileSync(path);
  const found = text.matchAll(/^(?:import|export)\b(?:[^;"']*?\bfrom)?\s*["']([^"']+)["']/gm);
  const dynamic = text.matchAll(/\bimport\(\s*["']([^"']+)["']/g);
  return [...found, ...dynamic].map(([, name]) => name);
}

/** The project's files that a file imports. */
const importedFiles = (path: string) =>
  imports(path).filter((name) => name.startsWith(".")).map((name) => join(dirname(path), name));

for (const [room, allowed] of Object.entries(MAY_IMPORT)) {
  const others = allowed.length === 0 ? "" : ` and ${allowed.join(", ")}`;
  Deno.test(`layout: ${room} imports nothing of the project but itself${others}`, () => {
    const files = FILES.filter((path) => roomOf(path) === room);
    assert.ok(files.length > 0, "no file was found");
    for (const path of files) {
      for (const target of importedFiles(path)) {
        const other = roomOf(target);
        const may = other === room || allowed.includes(other) ||
          other.includes("/") && allowed.includes(`${other.split("/")[0]}/*`);
        assert.ok(may, `${named(path)} imports ${named(target)}`);
      }
    }
  });
}

Deno.test("layout: what each room may import is said", () => {
  const rooms = new Set(FILES.map(roomOf).filter((room) => room !== "tests"));
  assert.deepEqual([...rooms].sort(), Object.keys(MAY_IMPORT).sort());
});

/** A graph: what each node leads to. */
type Graph = ReadonlyMap<string, ReadonlySet<string>>;

/** Follows a graph from a node, and fails where that leads back. */
function refuseCircles(
  graph: Graph,
  node: string,
  done: Set<string>,
  trail: readonly string[] = [],
): void {
  if (trail.includes(node)) {
    const circle = [...trail.slice(trail.indexOf(node)), node].map(named);
    assert.fail(`a circle of imports: ${circle.join(" -> ")}`);
  }
  if (done.has(node)) return;
  for (const next of graph.get(node) ?? []) refuseCircles(graph, next, done, [...trail, node]);
  done.add(node);
}

/** Fails where anything in a graph leads back to itself. */
function refuseAllCircles(graph: Graph): void {
  const done = new Set<string>();
  for (const node of graph.keys()) refuseCircles(graph, node, done);
}

/** The TypeScript files that each file imports. */
const IMPORTS = new Map(
  FILES.map((path) => [path, new Set(importedFiles(path).filter((name) => name.endsWith(".ts")))]),
);

/** The file or folder right in `folder` that a path is or lies in; undefined where it lies elsewhere. */
function entryOf(folder: string, path: string): string | undefined {
  const [name] = relative(folder, path).split(/[/\\]/);
  return name === ".." ? undefined : join(folder, name);
}

/** What each file and each folder right in `folder` imports of the others there. */
function entryGraph(folder: string, files: ReadonlyMap<string, Iterable<string>>): Graph {
  const graph = new Map<string, Set<string>>();
  for (const [path, targets] of files) {
    const from = entryOf(folder, path);
    if (from === undefined) continue;
    const known = graph.get(from) ?? new Set();
    graph.set(from, known);
    for (const to of [...targets].map((target) => entryOf(folder, target))) {
      if (to !== undefined && to !== from) known.add(to);
    }
  }
  return graph;
}

Deno.test("layout: circles of files and of folders are found", () => {
  const [one, two, three, other] = ["a/1.ts", "b/2.ts", "b/3.ts", "a/4.ts"]
    .map((path) => join(ROOT, path));
  const ending = (last: string) =>
    new Map([[one, new Set([two])], [two, new Set([three])], [three, new Set([last])]]);
  refuseAllCircles(ending(other));
  assert.throws(
    () => refuseAllCircles(ending(one)),
    /: a\/1\.ts -> b\/2\.ts -> b\/3\.ts -> a\/1\.ts$/,
  );
  refuseAllCircles(entryGraph(join(ROOT, "b"), ending(other)));
  assert.throws(() => refuseAllCircles(entryGraph(ROOT, ending(other))), /: a -> b -> a$/);
});

Deno.test("layout: no file is part of a circle of imports", () => {
  assert.ok(IMPORTS.size > 0, "no file was found");
  refuseAllCircles(IMPORTS);
});

Deno.test("layout: the files and folders that lie in one folder form no circle of imports", () => {
  // Tests borrow from each other by subject: of those, only files are asked.
  const files = new Map([...IMPORTS].filter(([path]) => roomOf(path) !== "tests"));
  const folders = new Set([...files.keys()].flatMap((path) => {
    const parts = named(path).split("/");
    return parts.map((_, depth) => join(ROOT, ...parts.slice(0, depth)));
  }));
  for (const folder of folders) refuseAllCircles(entryGraph(folder, files));
});

Deno.test("layout: at most 12 files lie at the top of kernels/", () => {
  const top = FILES.filter((path) => roomOf(path) === "kernels").map(named);
  assert.ok(top.length > 0 && top.length <= 12, top.join(", "));
});

Deno.test("layout: commands print by kernels/terminal.ts alone, which writes out what a terminal obeys", () => {
  const printing =
    /\bconsole\.|\bDeno\.(?:stdout|stderr)\.write|\bprocess\.(?:stdout|stderr)\.write/;
  const found = FILES.filter((path) => !/^(?:tests|examples|scripts)\//.test(named(path)))
    .filter((path) => printing.test(Deno.readTextFileSync(path))).map(named);
  // Redraws the line that is typed.
  const redraws = "infer/line_input.ts";
  // Lets output fail, whoever prints, also that of a line of progress.
  const lenient = "cli/tolerant_output.ts";
  assert.deepEqual(found.sort(), [redraws, lenient, "kernels/terminal.ts"].sort());
});

Deno.test("layout: a file that reads another asks first whether it is one", () => {
  const opening = /\bDeno\.(?:readFile|readTextFile|open)(?:Sync)?\(/;
  const asking = /\bregularFileSize\(|\bisFile\b/;
  // All open what is the program's own: a list of versions, a page, and a folder of a run to sync it.
  const own = ["doctor/deno.ts", "http/page_files.ts", "model/files/durable.ts"];
  const found = FILES.filter((path) =>
    /^(?:kernels|model|train|infer|cli|doctor|http)\//.test(named(path))
  )
    .filter((path) => {
      const text = Deno.readTextFileSync(path).replace(
        /\{ (?:read: true, )?write: true[^}]*\}/g,
        "write",
      );
      return opening.test(text.replace(/\bDeno\.open(?:Sync)?\([^)]*\bwrite\b/g, "")) &&
        !asking.test(text);
    }).map(named);
  assert.deepEqual(found.sort(), own);
});

Deno.test("layout: no two families of programs have one name", async () => {
  // A module that declares a known name throws when it is imported.
  const declared: string[] = [];
  for (const path of FILES.filter((path) => roomOf(path) === "kernels/ops")) {
    await import(`file://${path}`);
    const text = Deno.readTextFileSync(path);
    declared.push(...[...text.matchAll(/Family\(\s*"(\w+)"/g)].map(([, name]) => name));
  }
  assert.equal(new Set(declared).size, declared.length);
  for (const name of programFamilies().keys()) assert.ok(declared.includes(name), name);
});

Deno.test("layout: the parameters of functions are counted as they should be", () => {
  const lists = (source: string) => parameterLists(source).map(({ count }) => count);
  assert.deepEqual(lists("function f(a: Map<x, y>, { b, c }: T, d = g(1, 2)): void {}"), [3]);
  assert.deepEqual(lists("f(a, b, c, d, e, f);\nif (a) { b(); }"), []);
  assert.deepEqual(lists("class A {\n  constructor(readonly a: B, c?: D) {}\n}"), [2]);
  assert.deepEqual(lists("const f = (a, b, c, d, e, f) => a;"), [6]);
  assert.deepEqual(lists("const f = async <T>(a: string, ...b: T[]): Promise<T> => {};"), [2]);
  assert.deepEqual(lists("class A {\n  go(): void {}\n  to(\n    a: B,\n    c: D,\n  ) {}\n}"), [
    0,
    2,
  ]);
});

Deno.test("layout: no function has more than five positional parameters", () => {
  const found = FILES.flatMap((path) =>
    parameterLists(Deno.readTextFileSync(path)).filter(({ count }) => count > 5)
      .map(({ line, count }) => `${named(path)}:${line} has ${count}`)
  );
  assert.deepEqual(found, []);
});

Deno.test("layout: no file has more than 400 lines, and none groups entries by a spread of a literal", () => {
  for (const path of FILES) {
    const text = Deno.readTextFileSync(path), lines = text.split("\n").length - 1;
    assert.ok(!/\.{3}\{/.test(text), `${named(path)} spreads a literal`);
    assert.ok(lines <= 400, `${named(path)} has ${lines} lines`);
  }
});

/** Runs deno lint with the one rule that refuses `!`, which tests may use. @returns Whether it found nothing, and what. */
async function lintAssertions(args: string[], input = ""): Promise<[ok: boolean, found: string]> {
  const rule = ["--no-config", "--rules-tags=", "--rules-include=no-non-null-assertion"];
  const lint = new Deno.Command(Deno.execPath(), {
    args: ["lint", ...rule, "--compact", ...args],
    cwd: ROOT,
    stdin: "piped",
    stdout: "null",
    stderr: "piped",
  }).spawn();
  const writer = lint.stdin.getWriter();
  await writer.write(new TextEncoder().encode(input));
  await writer.close();
  const { success, stderr } = await lint.output();
  return [success, new TextDecoder().decode(stderr)];
}

Deno.test("layout: no `!` of a source promises what a type could", async () => {
  const [, problem] = await lintAssertions(
    ["-"],
    "export const last = (a: string[]) => a.at(-1)!;",
  );
  assert.match(problem, /line 1, col \d+ - do not use non-null assertion/);
  const folders = FOLDERS.filter((folder) => folder !== "tests");
  const [ok, found] = await lintAssertions([...folders, "mod.ts"]);
  assert.ok(ok, found);
  assert.match(found, /Checked \d{3} files/);
});

Deno.test("layout: dependencies are npm: or node:, pinned, and imported by role", () => {
  const config = JSON.parse(Deno.readTextFileSync(join(ROOT, "deno.json")));
  for (const [role, target] of Object.entries<string>(config.imports)) {
    assert.match(target, /^npm:(@[\w-]+\/)?[\w.-]+@\d+\.\d+\.\d+$/, role);
  }
  const roles = Object.keys(config.imports);
  for (const path of FILES) {
    for (const name of imports(path).filter((name) => !name.startsWith("."))) {
      const known = name.startsWith("node:") ||
        roles.some((role) => name === role || name.startsWith(`${role}/`));
      assert.ok(known, `${named(path)}: ${name}`);
    }
  }
});
