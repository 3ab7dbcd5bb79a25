/** Who may import whom: DESIGN's layers, read from the source files. */
import assert from "node:assert/strict";
import { join, relative } from "node:path";
import { ROOT } from "../scripts/compile.ts";

/** What files of each folder may import of the project, besides their own folder. */
const MAY_IMPORT: Record<string, string[]> = {
  kernels: [],
  cli: ["kernels", "model"],
  model: ["kernels", "examples"],
  train: ["kernels", "model", "cli", "examples"],
  infer: ["kernels", "model", "cli", "examples"],
};

/** Every TypeScript file below a folder. */
function sources(folder: string): string[] {
  return [...Deno.readDirSync(folder)].flatMap(({ name, isDirectory }) => {
    const path = join(folder, name);
    return isDirectory ? sources(path) : name.endsWith(".ts") ? [path] : [];
  });
}

/** What a file imports or re-exports by a literal name. */
function imports(path: string): string[] {
  const text = Deno.readTextFileSync(path);
  const found = text.matchAll(/^(?:import|export)\b(?:[^;"']*?\bfrom)?\s*["']([^"']+)["']/gm);
  const dynamic = text.matchAll(/\bimport\(\s*["']([^"']+)["']/g);
  return [...found, ...dynamic].map(([, name]) => name);
}

for (const [folder, allowed] of Object.entries(MAY_IMPORT)) {
  const others = allowed.length === 0 ? "" : ` and ${allowed.join(", ")}`;
  Deno.test(`layout: ${folder}/ imports nothing of the project but itself${others}`, () => {
    const files = sources(join(ROOT, folder));
    let local = 0;
    for (const path of files) {
      for (const name of imports(path).filter((name) => name.startsWith("."))) {
        const [target] = relative(ROOT, join(path, "..", name)).split(/[/\\]/);
        assert.ok([folder, ...allowed].includes(target), `${relative(ROOT, path)}: ${name}`);
        local++;
      }
    }
    assert.ok(local > 0, "no import was found");
  });
}

/** Goes from a file of `folder` to those of it that it imports, which must not lead back. */
function refuseCircles(
  path: string,
  folder: string,
  { trail = [], done }: { trail?: readonly string[]; done: Set<string> },
): void {
  if (trail.includes(path)) {
    const circle = [...trail.slice(trail.indexOf(path)), path].map((file) => relative(ROOT, file));
    assert.fail(`a circle of imports: ${circle.join(" -> ")}`);
  }
  if (done.has(path)) return;
  for (const name of imports(path).filter((name) => /^\..*\.ts$/.test(name))) {
    const target = join(path, "..", name);
    const isInside = !relative(folder, target).startsWith("..");
    if (isInside) refuseCircles(target, folder, { trail: [...trail, path], done });
  }
  done.add(path);
}

for (const folder of ["model", "train", "infer"]) {
  Deno.test(`layout: no file of ${folder}/ is part of a circle of imports`, () => {
    const done = new Set<string>();
    for (const path of sources(join(ROOT, folder))) {
      refuseCircles(path, join(ROOT, folder), { done });
    }
    assert.ok(done.size > 0, "no file was found");
  });
}

Deno.test("layout: dependencies are npm: or node:, pinned, and imported by role", () => {
  const config = JSON.parse(Deno.readTextFileSync(join(ROOT, "deno.json")));
  for (const [role, target] of Object.entries<string>(config.imports)) {
    assert.match(target, /^npm:(@[\w-]+\/)?[\w.-]+@\d+\.\d+\.\d+$/, role);
  }
  const roles = Object.keys(config.imports);
  for (const folder of [...Object.keys(MAY_IMPORT), "bench", "scripts", "tests", "examples"]) {
    for (const path of sources(join(ROOT, folder))) {
      for (const name of imports(path).filter((name) => !name.startsWith("."))) {
        const known = name.startsWith("node:") ||
          roles.some((role) => name === role || name.startsWith(`${role}/`));
        assert.ok(known, `${relative(ROOT, path)}: ${name}`);
      }
    }
  }
});
