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
  // What is on disk and what it means: formats read configurations and adapters, families say what these must have.
  "model/formats": ["kernels", "model/families", "model/adapter"],
  "model/families": ["kernels", "kernels/ops", "model", "model/formats"],
  "model/adapter": ["kernels", "model/families", "model/formats"],
  "model/text": ["kernels", "examples", "model", "model/families", "model/formats"],
  "model/transformer": [
    "kernels",
    "kernels/gpu",
    "kernels/ops",
    "kernels/measure",
    "model/adapter",
    "model/families",
    "model/formats",
    "model/text",
  ],
  "model/checkpoint": [
    "kernels",
    "kernels/gpu",
    "kernels/ops",
    "model/adapter",
    "model/families",
    "model/formats",
    "model/text",
    "model/transformer",
  ],
  "model/engine": ["kernels", "kernels/gpu", "kernels/ops", "model/transformer"],
  "model": ["kernels", "kernels/gpu", "kernels/measure", "model/*"],
  "cli": ["kernels", "kernels/gpu", "model"],
  "train": ["kernels", "kernels/*", "model", "model/*", "cli", "examples"],
  "infer": ["kernels", "kernels/*", "model", "model/*", "cli"],
  "bench": ["kernels", "kernels/*", "model", "model/*", "cli", "train", "deno.json"],
  "scripts": ["kernels", "model", "cli"],
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

/** Goes from a file to those that it imports, which must not lead back. */
function refuseCircles(path: string, trail: readonly string[], done: Set<string>): void {
  if (trail.includes(path)) {
    const circle = [...trail.slice(trail.indexOf(path)), path].map(named);
    assert.fail(`a circle of imports: ${circle.join(" -> ")}`);
  }
  if (done.has(path)) return;
  for (const target of importedFiles(path).filter((name) => name.endsWith(".ts"))) {
    refuseCircles(target, [...trail, path], done);
  }
  done.add(path);
}

Deno.test("layout: no file is part of a circle of imports", () => {
  const done = new Set<string>();
  for (const path of FILES) refuseCircles(path, [], done);
  assert.ok(done.size >= FILES.length, "no file was found");
});

Deno.test("layout: at most 12 files lie at the top of kernels/", () => {
  const top = FILES.filter((path) => roomOf(path) === "kernels").map(named);
  assert.ok(top.length > 0 && top.length <= 12, top.join(", "));
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
