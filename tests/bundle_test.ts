/** Bundles: a small one for how it unpacks, and the real one, which runs without network, npm and Deno. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { bundledPrograms, projectFiles } from "../scripts/bundle/contents.ts";
import { type Compression, writeBundle } from "../scripts/bundle/file.ts";
import { moduleGraph } from "../scripts/bundle/graph.ts";
import { placePackages } from "../scripts/bundle/packages.ts";
import { ROOT } from "../scripts/compile.ts";
import { TemporaryFolder } from "./cli/cli.ts";
import type { Outcome } from "./fake_system.ts";
import { gpuTest } from "./kernels/harness.ts";
import { addressOf, end } from "./watch/served.ts";

/** All that a bundle needs of a system. */
const TOOLS = "cat gzip id ls mkdir mv rm sed sh sync tail tar uname".split(" ");
/** What the launcher needs besides. */
const LAUNCHER_TOOLS = ["readlink"];

/** Bytes that don't compress: each that is changed in a packed file changes the contents. */
const NOISE = Uint8Array.from(
  { length: 1 << 16 },
  (_, i) => Math.imul(i * i + 7, 0x9e3779b1) >>> 24,
);

const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
const uname = (flag: string) =>
  decode(new Deno.Command("uname", { args: [flag] }).outputSync().stdout).trim();

function isThere(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

/** Where a program of the system lies. */
function place(tool: string): string {
  const path = ["/usr/bin", "/bin", "/sbin"].map((folder) => join(folder, tool)).find(isThere);
  assert.ok(path, tool);
  return path;
}

/** Whether this user may run a program without a network. */
function canIsolate(): boolean {
  try {
    return new Deno.Command("unshare", { args: ["-n", "true"] }).outputSync().success;
  } catch {
    return false;
  }
}

/** A machine with few programs and an empty home folder. */
class Machine extends TemporaryFolder {
  readonly home: string = this.file("home");
  readonly store: string = this.file("home/.cache/lorikeet-bundle");

  constructor(tools: readonly string[] = TOOLS) {
    super();
    for (const name of ["home", "bin"]) Deno.mkdirSync(this.file(name));
    for (const tool of tools) {
      Deno.symlinkSync(place(tool), this.file(`bin/${tool}`));
    }
  }

  /** Puts a script on the PATH. */
  program(name: string, script: string): void {
    try {
      Deno.removeSync(this.file(`bin/${name}`));
    } catch { /* There was none. */ }
    Deno.writeTextFileSync(this.file(`bin/${name}`), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  }

  /** A bundle whose launcher prints where it lies and its arguments. */
  bundle(
    options: { system?: string; compression?: Compression; denoVersion?: string } = {},
  ): string {
    const around = Deno.makeTempDirSync({ dir: this.path }), folder = join(around, "folder");
    Deno.mkdirSync(join(folder, "part"), { recursive: true });
    const script = (name: string, text: string) =>
      Deno.writeTextFileSync(join(folder, name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
    script("lorikeet", `printf '%s\\n' "$0" "$@" "$$"; exit 7`);
    script("deno", "echo 'deno 9.8.7 (stable)'");
    Deno.writeFileSync(join(folder, "part/data"), NOISE);
    const output = this.file("lorikeet");
    writeBundle(folder, output, {
      compression: "gzip",
      level: 1,
      version: "0.0.1",
      system: uname("-sm"),
      denoVersion: "9.8.7",
      ...options,
    });
    return output;
  }

  start(program: string, args: readonly string[] = [], env: Record<string, string> = {}) {
    return new Deno.Command(program, {
      args: [...args],
      cwd: this.path,
      clearEnv: true,
      env: { PATH: this.file("bin"), HOME: this.home, ...env },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
  }

  async run(
    program: string,
    args: readonly string[] = [],
    env: Record<string, string> = {},
  ): Promise<Outcome> {
    const { code, stdout, stderr } = await this.start(program, args, env).output();
    return { code, stdout: decode(stdout), stderr: decode(stderr) };
  }

  /** What was unpacked, and what is left of unpacking. */
  unpacked(): string[] {
    return [...Deno.readDirSync(this.store)].map(({ name }) => name).sort();
  }
}

function bundleTest(name: string, body: (machine: Machine) => Promise<void>): void {
  Deno.test({
    name: `bundle: ${name}`,
    ignore: Deno.build.os === "windows",
    async fn() {
      using machine = new Machine();
      await body(machine);
    },
  });
}

/** Asserts that a start was refused in a sentence, and left nothing. */
function refusedAt(machine: Machine, { code, stdout, stderr }: Outcome, pattern: RegExp): void {
  assert.deepEqual([code, stdout], [1, ""]);
  const said = stderr.replace(/^Unpacking .*\n/, "");
  assert.match(said, pattern);
  assert.match(said, /^error: .*\.\n$/, "one line");
  try {
    assert.deepEqual(machine.unpacked(), []);
  } catch (error) {
    assert.ok(error instanceof Deno.errors.NotFound);
  }
}

bundleTest("is unpacked once, and gives way to the launcher in it", async (machine) => {
  const program = machine.bundle();
  const child = machine.start(program, ["train", "it's  one", ""]);
  const first = await child.output();
  assert.equal(first.code, 7);
  const [name, ...others] = machine.unpacked();
  assert.match(name, /^lorikeet-0\.0\.1-[0-9a-f]{16}$/);
  assert.deepEqual(others, []);
  const launcher = join(machine.store, name, "lorikeet");
  assert.deepEqual(decode(first.stdout).split("\n"), [
    launcher,
    ...["train", "it's  one", "", `${child.pid}`, ""],
  ]);
  assert.match(decode(first.stderr), /^Unpacking Lorikeet into .* \(1 MB, one time\)\.\.\.\n$/);
  assert.deepEqual(Deno.readFileSync(join(machine.store, name, "part/data")), NOISE);

  const again = await machine.run(program);
  assert.deepEqual([again.code, again.stderr], [7, ""]);
  const elsewhere = { XDG_CACHE_HOME: machine.file("other"), HOME: "" };
  assert.match((await machine.run(program, [], elsewhere)).stdout, /\/other\/lorikeet-bundle\//);
  Deno.symlinkSync(program, machine.file("bin/linked"));
  assert.equal((await machine.run("linked")).code, 7, "it finds itself on the PATH");
  const mute = { XDG_CACHE_HOME: machine.file("mute") };
  const silent = await machine.run("sh", ["-c", "exec linked 2>&-"], mute);
  assert.equal(silent.code, 7, "it needs nobody to read");
});

bundleTest("starts at once share one folder", async (machine) => {
  const program = machine.bundle();
  const outcomes = await Promise.all(Array.from({ length: 8 }, () => machine.run(program)));
  for (const { code, stderr } of outcomes) assert.equal(code, 7, stderr);
  assert.equal(machine.unpacked().length, 1, `${machine.unpacked()}`);
});

bundleTest("that is stopped while it unpacks leaves nothing that counts", async (machine) => {
  const program = machine.bundle();
  Deno.symlinkSync(place("sleep"), machine.file("bin/sleep"));
  const stopped = async (signal: Deno.Signal) => {
    machine.program("gzip", `: >"${machine.file("begun")}"; exec sleep 0.5`);
    const child = machine.start(program);
    while (!isThere(machine.file("begun"))) await new Promise((done) => setTimeout(done, 5));
    child.kill(signal);
    const { code } = await child.output();
    Deno.removeSync(machine.file("begun"));
    return code;
  };
  assert.equal(await stopped("SIGTERM"), 143);
  assert.deepEqual(machine.unpacked(), []);
  assert.equal(await stopped("SIGKILL"), 137);
  assert.match(machine.unpacked().join(), /^\.unpacking\.[^,]*$/);
  machine.program("gzip", `exec "${place("gzip")}" "$@"`);
  assert.equal((await machine.run(program)).code, 7);
  assert.match(machine.unpacked().join(), /^lorikeet-[^,]*$/, "what was left is gone");
});

bundleTest("that is damaged or cut is refused", async (machine) => {
  const program = machine.bundle(), whole = Deno.readFileSync(program);
  for (const change of ["flip", "cut"]) {
    const bytes = whole.slice(0, change === "cut" ? whole.length - 100 : whole.length);
    if (change === "flip") bytes[bytes.length - 200] ^= 4;
    Deno.writeFileSync(program, bytes);
    refusedAt(machine, await machine.run(program), /could not be unpacked .*, and a whole file /);
  }
});

bundleTest("needs a folder that it may write, of its own user alone", async (machine) => {
  const program = machine.bundle();
  refusedAt(
    machine,
    await machine.run(program, [], { HOME: "" }),
    /there is no HOME .* in XDG_CACHE_HOME/,
  );
  refusedAt(
    machine,
    await machine.run(program, [], { HOME: "/dev/null" }),
    /\/dev\/null\/\.cache\/lorikeet-bundle can't be written .* in XDG_CACHE_HOME/,
  );
  Deno.mkdirSync(machine.store, { recursive: true });
  const foreign = /lorikeet-bundle belongs to another user, or others may write there/;
  Deno.chmodSync(machine.store, 0o777);
  refusedAt(machine, await machine.run(program), foreign);
  Deno.chmodSync(machine.store, 0o700);
  if (Deno.uid() === 0) {
    Deno.chownSync(machine.store, 12345, 12345);
    refusedAt(machine, await machine.run(program), foreign);
    Deno.chownSync(machine.store, 0, 0);
  }
  assert.equal((await machine.run(program)).code, 7);
  const folder = join(machine.store, machine.unpacked()[0]);
  Deno.chmodSync(folder, 0o775);
  const { code, stderr } = await machine.run(program);
  assert.deepEqual([code, /belongs to another user, or/.test(stderr)], [1, true]);
  Deno.renameSync(folder, machine.file("moved"));
  Deno.symlinkSync(machine.file("moved"), folder);
  assert.equal((await machine.run(program)).code, 1, "a link is no folder of its own");
});

bundleTest("says where it can't run", async (machine) => {
  refusedAt(
    machine,
    await machine.run(machine.bundle({ system: "Linux riscv64" })),
    /^error: this file is for Linux riscv64, and this machine is /,
  );
  refusedAt(
    machine,
    await machine.run(machine.bundle({ denoVersion: "9.8.6" })),
    /programs can't be run in .*noexec/,
  );
  if (new Deno.Command("sh", { args: ["-c", "command -v xz"] }).outputSync().success) {
    refusedAt(
      machine,
      await machine.run(machine.bundle({ compression: "xz" })),
      /there is no xz on the PATH/,
    );
    machine.program("xz", `exec "${place("xz")}" "$@"`);
    assert.equal((await machine.run(machine.file("lorikeet"))).code, 7);
  }
});

bundleTest("of the same contents is the same, byte for byte", async (machine) => {
  const first = Deno.readFileSync(machine.bundle());
  await new Promise((done) => setTimeout(done, 1100));
  assert.deepEqual(Deno.readFileSync(machine.bundle()), first);
});

Deno.test("bundle: packages lie at the top, or below who needs another version", () => {
  const one = (name: string, version: string, ...dependencies: string[]) => ({
    name,
    version,
    dependencies,
  });
  const packages = {
    "a@1": one("a", "1", "b@2", "c@1"),
    "b@1": one("b", "1"),
    "b@2": one("b", "2", "c@2"),
    "c@1": one("c", "1", "a@1"),
    "c@2": one("c", "2"),
    "unused@1": one("unused", "1"),
  };
  const paths = placePackages(["b@1", "a@1"], packages).map(({ path, version }) =>
    `${path} ${version}`
  );
  assert.deepEqual(paths, [
    "node_modules/b 1",
    "node_modules/a 1",
    "node_modules/a/node_modules/b 2",
    "node_modules/c 2",
    "node_modules/a/node_modules/c 1",
  ]);
});

Deno.test("bundle: what programs import goes in, and what only developers need stays out", () => {
  const graph = moduleGraph(ROOT, bundledPrograms());
  const files = new Set(projectFiles(ROOT.replace(/\/$/, ""), graph));
  for (const path of graph.files) assert.ok(files.has(path.slice(ROOT.length)), path);
  for (
    const path of [
      "lorikeet",
      "scripts/launch.ts",
      "scripts/launch/deno_versions.txt",
      "examples/builtin.yaml",
      "train/watch/page/index.html",
      "infer/serve/page/index.html",
      "http/page/elements.ts",
    ]
  ) {
    assert.ok(files.has(path), path);
  }
  assert.ok([...files].some((path) => /^examples\/builtin\/.*\.safetensors$/.test(path)));
  for (const path of files) {
    assert.doesNotMatch(path, /^(tests|bench|docs|findings)\/|^scripts\/(bundle|compile)/);
  }
  const names = placePackages(graph.npmImports, graph.packages).map(({ name }) => name);
  for (const name of ["zod", "uplot", "@hono/zod-openapi", "marked", "dompurify"]) {
    assert.ok(names.includes(name), name);
  }
  for (const name of ["vega", "vega-lite", "pdfmake", "axe-core", "llama-tokenizer-js"]) {
    assert.ok(!names.includes(name), name);
  }
});

gpuTest("bundle: the real one trains in an empty home without network, npm and Deno", async () => {
  if (Deno.build.os === "windows") return;
  using machine = new Machine([...TOOLS, ...LAUNCHER_TOOLS]);
  const program = machine.file("lorikeet");
  const made = await new Deno.Command(join(ROOT, "lorikeet"), {
    args: ["bundle", "--level", "1", "--output", program],
    stdin: "null",
  }).output();
  assert.equal(made.code, 0, decode(made.stderr));
  assert.match(decode(made.stdout), /^made .*lorikeet \(\d+\.\d MB, with(out)? Dawn\)\n$/);

  const offline = canIsolate() ? [place("unshare"), "-n", program] : [program];
  const run = (...args: string[]) => machine.run(offline[0], [...offline.slice(1), ...args]);
  const trained = await run("train", "--max-steps", "2", "--output", "out");
  assert.equal(trained.code, 0, trained.stderr);
  assert.match(trained.stdout, /^Trained 28672 of 1078400 parameters/m);
  assert.equal(
    Deno.readTextFileSync(machine.file("out/metrics.jsonl")).trim().split("\n").length,
    2,
  );
  const answered = await run(
    "generate",
    "--model",
    "builtin",
    "--prompt",
    "Hi",
    "--max-tokens",
    "2",
  );
  assert.deepEqual([answered.code, answered.stderr.includes("Unpacking")], [0, false]);
  assert.deepEqual([...Deno.readDirSync(machine.home)].map(({ name }) => name), [".cache"]);
  assert.deepEqual(
    [...Deno.readDirSync(machine.file("home/.cache"))].map(({ name }) => name),
    ["lorikeet-bundle"],
  );

  const server = machine.start(program, ["serve", "--model", "builtin", "--port", "0"]);
  try {
    const { origin } = await addressOf(server);
    for (
      const path of ["/", "/page/app.ts", "/page/marked.js", "/http/page/base.css", "/v1/models"]
    ) {
      const response = await fetch(origin + path);
      await response.body?.cancel();
      assert.equal(response.status, 200, path);
    }
  } finally {
    await end(server);
  }
  const help = await run("--help");
  assert.match(help.stdout, /^ {2}train /m);
  assert.doesNotMatch(help.stdout, /^ {2}(bench|test|bundle) /m);
  const bench = await run("bench", "device");
  assert.deepEqual([bench.code, bench.stderr], [
    1,
    "error: bench is not part of a bundle: run it in the project's folder\n",
  ]);
});
