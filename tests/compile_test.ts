import assert from "node:assert/strict";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import {
  compileArguments,
  type CompiledProgram,
  includedFiles,
  lacksBaseBinary,
  launcherPermissions,
  PROGRAMS,
  ROOT,
} from "../scripts/compile.ts";

interface ModuleInfo {
  readonly specifier: string;
  readonly error?: string;
  readonly dependencies?: readonly {
    readonly specifier: string;
    readonly code?: { readonly specifier?: string; readonly error?: string };
  }[];
}

/** What `deno compile` would put in: the module graphs of a program and of its other threads. */
async function moduleGraph({ entry, workers }: CompiledProgram): Promise<ModuleInfo[]> {
  const threads = workers.filter((path) => path.endsWith(".ts"));
  return (await Promise.all([entry, ...threads].map(modulesOf))).flat();
}

/** The module graph of a file. */
async function modulesOf(entry: string): Promise<ModuleInfo[]> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["info", "--json", "--frozen", entry],
    cwd: ROOT,
  }).output();
  assert.equal(code, 0, new TextDecoder().decode(stderr));
  return JSON.parse(new TextDecoder().decode(stdout)).modules;
}

function localFiles(modules: ModuleInfo[]): string[] {
  return modules.map(({ specifier }) => specifier)
    .filter((specifier) => specifier.startsWith("file:")).map((url) => fileURLToPath(url));
}

for (const program of PROGRAMS) {
  Deno.test(`compile: everything ${program.entry} imports would go in`, async () => {
    const modules = await moduleGraph(program);
    const broken = modules.flatMap(({ specifier, error, dependencies = [] }) => [
      ...(error ? [`${specifier}: ${error}`] : []),
      ...dependencies.flatMap(({ code }) => code?.error ? [`${specifier}: ${code.error}`] : []),
    ]);
    assert.deepEqual(broken, []);
    const schemes = new Set(modules.map(({ specifier }) => specifier.split(":")[0]));
    schemes.delete("file");
    schemes.delete("node");
    schemes.delete("npm");
    assert.deepEqual([...schemes], [], "dependencies come from npm: and node: only");

    const files = new Set(localFiles(modules));
    assert.ok(files.has(join(ROOT, program.entry)));
    for (const file of files) {
      if (!file.endsWith(".ts")) continue;
      const source = await Deno.readTextFile(file);
      for (const [, wgsl] of source.matchAll(/^import .* from "(.*\.wgsl)"/gm)) {
        assert.ok(files.has(join(dirname(file), wgsl)), `${file} imports ${wgsl}`);
      }
    }
  });

  Deno.test(`compile: files that ${program.entry} opens beside its modules would go in`, async () => {
    const included = [...program.workers, ...await includedFiles()];
    for (const file of localFiles(await moduleGraph(program))) {
      if (!file.endsWith(".ts")) continue;
      const source = await Deno.readTextFile(file);
      for (const [, url] of source.matchAll(/new URL\(\s*["'`]([^"'`$]+)[^)]*import\.meta\.url/g)) {
        const path = relative(ROOT, join(dirname(file), url)).replaceAll("\\", "/");
        const inside = included.some((name) => name === path || name.startsWith(`${path}/`));
        assert.ok(inside, `${relative(ROOT, file)} opens ${path}`);
      }
    }
  });
}

Deno.test("compile: the built-in model and instructions would go in", async () => {
  const included = await includedFiles();
  for (
    const kind of [/\.safetensors$/, /config\.json$/, /tokenizer\.model$/, /instructions?.*\.json/]
  ) {
    assert.ok(included.some((path) => kind.test(path)), `a file like ${kind}`);
  }
  const [train] = PROGRAMS;
  const args = compileArguments(train, [], included);
  for (const path of [...included, ...train.workers]) assert.ok(args.includes(path), path);
});

Deno.test({
  name: "compile: the programs get the launcher's permissions",
  fn() {
    const [train, infer] = PROGRAMS;
    const flagsOf = (program: typeof train) =>
      compileArguments(program, launcherPermissions(program.command, program.args), []);
    const [trainFlags, inferFlags] = [flagsOf(train), flagsOf(infer)];
    // One program has all of inference's commands, and so what the one that writes models may do.
    for (const flags of [trainFlags, inferFlags]) {
      assert.ok(flags.includes("--allow-write") && flags.includes("--allow-run=nvidia-smi"));
      assert.ok(flags.includes("--no-prompt") && flags.includes("--allow-read"));
      assert.doesNotMatch(flags.join(" "), /--allow-(all|ffi|net( |$))/);
    }
    assert.ok(trainFlags.includes("--allow-net=127.0.0.1"), "for --watch");
    const served = "--allow-net=127.0.0.1,[::1],0.0.0.0,[::],localhost";
    assert.ok(inferFlags.includes(served), "for serve, and for chat with a server");
    assert.equal(trainFlags.at(-1), train.entry);
  },
});

Deno.test("compile: a missing base binary is told from other failures", () => {
  const offline = `error: Writing deno compile executable to temporary file 'x.tmp-1'

Caused by:
    0: Setting up base binary.
    1: error sending request: dns error`;
  assert.ok(lacksBaseBinary(offline));
  assert.ok(!lacksBaseBinary(`error: Module not found "file:///project/train/main.ts".`));
  assert.ok(!lacksBaseBinary("error: The lockfile is out of date. Run `deno install`"));
});
