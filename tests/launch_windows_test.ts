/** Windows: what of it can be tested elsewhere. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { ROOT } from "../scripts/compile.ts";
import { newEnough } from "../scripts/launch/new_enough.ts";
import {
  isWindows,
  pathWith,
  programFiles,
  withBackslashes,
  withSlashes,
} from "../scripts/launch/paths.ts";
import { planStart } from "../scripts/launch/plan.ts";
import { startPlan } from "../scripts/launch/start.ts";
import { Refused } from "../scripts/launch/system.ts";
import { TemporaryFolder } from "./cli/cli.ts";
import { machine } from "./machine.ts";

const WINDOWS = "Windows AMD64";
const LAUNCH = {
  root: "C:/own",
  cache: "C:/Users/a b/AppData/Local",
  deno: "C:/own/.deno/2.9.6/deno.exe",
};
const SMI = "C:/Program Files/NVIDIA Corporation/NVSMI";

const planned = (command: string, args: string[] = [], made: Parameters<typeof machine>[0] = {}) =>
  planStart({ ...LAUNCH, command, args }, machine({ name: WINDOWS, ...made }));

Deno.test("Windows: paths with drives, shares and dots", () => {
  assert.ok(isWindows({ name: WINDOWS }) && !isWindows({ name: "Linux x86_64" }));
  assert.equal(withSlashes("C:\\Program Files\\own\\."), "C:/Program Files/own");
  assert.equal(withSlashes("C:\\"), "C:/");
  assert.equal(withSlashes("D:\\a\\..\\b\\"), "D:/b");
  assert.equal(withSlashes("\\\\server\\share\\own\\."), "//server/share/own");
  assert.equal(withBackslashes("C:/own/.deno"), "C:\\own\\.deno");
});

Deno.test("Windows: programs are found by PATH and PATHEXT", () => {
  const path = "C:\\Windows\\System32;C:\\npm\\";
  const files = programFiles("npm", { path, extensions: ".EXE;.CMD", windows: true });
  assert.deepEqual(files, [
    "C:\\Windows\\System32/npm.exe",
    "C:\\Windows\\System32/npm.cmd",
    "C:\\npm/npm.exe",
    "C:\\npm/npm.cmd",
  ]);
  assert.deepEqual(programFiles("C:\\a.b\\own", { path, extensions: ".EXE", windows: true }), [
    "C:\\a.b\\own.exe",
  ]);
  assert.deepEqual(programFiles("x.exe", { path: "", windows: true }), ["./x.exe"]);
  assert.equal(programFiles("p", { path: "C:/a", windows: true }).length, 4);
  assert.deepEqual(programFiles("sh", { path: "/bin:/usr/bin", windows: false }), [
    "/bin/sh",
    "/usr/bin/sh",
  ]);
  assert.deepEqual(programFiles("a/b", { path: "/bin", windows: false }), ["a/b"]);
  assert.equal(pathWith("C:\\x", "C:/own", { windows: true }), "C:\\own;C:\\x");
  assert.equal(pathWith("/x", "/own", { windows: false, last: true }), "/x:/own");
  assert.equal(pathWith("", "/own", { windows: false }), "/own");
});

Deno.test("Windows: a command is started without Vulkan, and starts lorikeet.cmd", async () => {
  const { program = [], changes } = await planned("train", ["own.yaml"], {
    programs: ["nvidia-smi"],
  });
  assert.equal(program[0], LAUNCH.deno);
  assert.equal(program.at(-1), "C:/own/train/main.ts");
  assert.ok(program.includes("--allow-run=nvidia-smi"));
  assert.ok(program.includes("C:/own/deno.json"));
  assert.deepEqual([...changes], [["LORIKEET_TILES", `${LAUNCH.cache}/lorikeet/tiles.json`]]);
  const series = await planned("report");
  assert.ok(series.program?.includes("--allow-run=C:/own/lorikeet.cmd"));
});

Deno.test("Windows: chat with a server gets its address, and its key's file", async () => {
  const args = ["--server", "http://127.0.0.1:8080", "--api-key-file", "C:\\a b\\key"];
  const { program = [] } = await planned("chat", args, { env: { LORIKEET_GPU: "dawn" } });
  assert.deepEqual(program.filter((flag) => /^--allow-(net|read|ffi)/.test(flag)), [
    "--allow-read=C:\\a b\\key",
    "--allow-net=127.0.0.1:8080",
  ]);
});

Deno.test("Windows: nvidia-smi is found where older drivers have it", async () => {
  const files = { [`${SMI}/nvidia-smi.exe`]: "" };
  const old = await planned("train", [], { files, env: { PATH: "C:\\Windows" } });
  assert.equal(old.changes.get("PATH"), `C:\\Windows;${withBackslashes(SMI)}`);
  assert.ok(old.program?.includes("--allow-run=nvidia-smi"));
  const elsewhere = await planned("train", [], {
    files: { "D:/P/NVIDIA Corporation/NVSMI/nvidia-smi.exe": "" },
    env: { ProgramFiles: "D:/P" },
  });
  assert.ok(elsewhere.program?.includes("--allow-run=nvidia-smi"));
  const usual = await planned("train", [], { files, programs: ["nvidia-smi"] });
  assert.ok(!usual.changes.has("PATH"));
});

Deno.test("Windows: developers' commands find Deno by the PATH", async () => {
  const { changes, folder, program } = await planned("check", [], { env: { PATH: "C:\\x" } });
  assert.equal(changes.get("PATH"), "C:\\own\\.deno\\2.9.6;C:\\x");
  assert.equal(folder, "C:/own");
  assert.deepEqual(program, [LAUNCH.deno, "check", "--frozen", "."]);
  assert.deepEqual((await planned("deno")).program, [LAUNCH.deno]);
});

Deno.test("Windows: what can't work is refused", async () => {
  await assert.rejects(planned("train", ["--gpu", "dawn"]), (error) => {
    assert.ok(error instanceof Refused);
    assert.match(error.message, /^Dawn is not fetched on Windows, .*: expected --gpu auto or deno/);
    return true;
  });
  const own = await planned("train", [], { env: { DAWN_NODE: "C:/dawn.node" } });
  assert.ok(own.program?.includes("--allow-ffi=C:/dawn.node"));
});

Deno.test("launch: Deno's versions are compared by number", () => {
  for (const version of ["2.9.0", "2.9.6", "2.10.1", "3.0.0", "10.0.0"]) {
    assert.ok(newEnough(version, "2.9"), version);
  }
  for (const version of ["2.8.9", "1.46.3", "0.9.9"]) {
    assert.ok(!newEnough(version, "2.9"), version);
  }
});

/** Runs the launch as lorikeet.cmd does. */
async function launched(args: string[], deno = Deno.execPath(), env: Record<string, string> = {}) {
  const flags = [
    "--quiet",
    "--no-prompt",
    "--frozen",
    "--config",
    join(ROOT, "deno.json"),
    "--allow-all",
  ];
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      ...flags,
      join(ROOT, "scripts/launch.ts"),
      `${ROOT}.`,
      WINDOWS,
      "/cache",
      deno,
      ...args,
    ],
    env,
    stdin: "null",
  }).output();
  const text = new TextDecoder();
  return { code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
}

Deno.test({
  name: "Windows: the launch runs the command itself, with its status",
  ignore: Deno.build.os === "windows",
  async fn() {
    using folder = new TemporaryFolder();
    const deno = folder.file("deno");
    const script = `#!/bin/sh\nprintf '%s\\n' "$@" "$LORIKEET_PARENT" "$PPID"; exit 7\n`;
    Deno.writeTextFileSync(deno, script, { mode: 0o755 });
    const { code, stdout } = await launched(["score", "--data", "a b", ""], deno, {
      LORIKEET_PARENT: "1",
    });
    assert.equal(code, 7);
    const words = stdout.trimEnd().split("\n"),
      program = words.indexOf(join(ROOT, "infer/score.ts"));
    assert.deepEqual(words.slice(program + 1, program + 4), ["--data", "a b", ""]);
    assert.equal(words.at(-2), words.at(-1), "the program ends with who started it");

    const help = await launched([]);
    assert.deepEqual([help.code, help.stdout], [
      0,
      Deno.readTextFileSync(join(ROOT, "scripts/launch/help.txt")),
    ]);
    const version = await launched(["--version"]);
    assert.match(
      version.stdout,
      new RegExp(`^lorikeet \\d+\\.\\d+\\.\\d+\ndeno ${Deno.version.deno}\n$`),
    );
    const unknown = await launched(["trian"]);
    assert.deepEqual([unknown.code, unknown.stdout], [2, ""]);
    assert.match(unknown.stderr, /^error: unknown command "trian"; did you mean "train"\?/);
  },
});

Deno.test({
  name: "Windows: steps come first, in their folder, and the first that fails ends it",
  ignore: Deno.build.os === "windows",
  async fn() {
    using folder = new TemporaryFolder();
    const here = Deno.cwd();
    const write = (
      word: string,
    ) => ["sh", "-c", `echo "${word} $OWN $own" >>log; [ ${word} != bad ]`];
    try {
      const changes = new Map([["OWN", "1"], ["PWD", undefined]]);
      const good = { changes, folder: folder.path, steps: [write("one")] };
      assert.equal(
        await startPlan({ ...good, program: ["sh", "-c", "exit $1", "sh"], last: ["x"] }, ["3"]),
        3,
      );
      const bad = { ...good, steps: [write("bad"), write("never")], program: write("never") };
      assert.equal(await startPlan(bad, []), 1);
    } finally {
      Deno.chdir(here);
    }
    assert.equal(Deno.readTextFileSync(folder.file("log")), "one 1 \nbad 1 \n");
  },
});

Deno.test("Windows: its launcher gives Deno what the POSIX one does", () => {
  const read = (name: string) => Deno.readTextFileSync(join(ROOT, name));
  const [cmd, install] = [read("lorikeet.cmd"), read("scripts/launch/install_deno.cmd")];
  const npm = /npm install (--.*?) "\$1"/.exec(read("lorikeet"))?.[1];
  assert.ok(npm !== undefined && install.includes(npm), "npm's flags");
  const plan = /"\$deno" run (.*) --config/.exec(read("lorikeet"))?.[1];
  assert.ok(plan !== undefined && cmd.includes(`run ${plan} --config`), "the launch's flags");
  for (const name of ["DENO_NO_UPDATE_CHECK", "DENO_TLS_CA_STORE"]) assert.ok(cmd.includes(name));
});
