/** How the launch plans a start, on machines made of a list of files. */
import assert from "node:assert/strict";
import { TemporaryFolder } from "./cli/cli.ts";
import { Environment } from "../scripts/launch/environment.ts";
import { decidesByFlag, keptPlan, readFlag, requestedGpu } from "../scripts/launch/flags.ts";
import { noting } from "../scripts/launch/cached_plan.ts";
import { COMMANDS, flagsAnywhere, permissionFlags } from "../scripts/launch/permissions.ts";
import { planStart } from "../scripts/launch/plan.ts";
import { quote, shellLines } from "../scripts/launch/shell.ts";
import { Refused, type System, thisSystem } from "../scripts/launch/system.ts";
import { type Machine, machine } from "./machine.ts";
import { prepareVulkan } from "../scripts/launch/vulkan.ts";

const SOFTWARE = {
  "/usr/lib/x86_64-linux-gnu/libvulkan.so.1": "",
  "/usr/share/vulkan/icd.d/lvp_icd.x86_64.json": "",
};

async function plan(command: string, args: string[], made: Machine = {}): Promise<string> {
  const launch = { root: "/own's", cache: "/cache", deno: "/bin/deno", command, args };
  return shellLines(await planStart(launch, machine(made))).join("\n");
}

Deno.test("launch: the permissions of no command are asked for in vain", async () => {
  for (const args of [[], ["trian"]]) {
    await assert.rejects(plan("permissions", args), /unknown command .* \(the commands are train/);
  }
});

Deno.test("launch: words survive the shell", () => {
  assert.equal(quote("it's $HOME"), String.raw`'it'\''s $HOME'`);
});

Deno.test("launch: a program takes the shell's place with its arguments untouched", async () => {
  const lines = await plan("score", ["--data", "d"], { files: SOFTWARE });
  assert.match(lines, /^export VK_DRIVER_FILES='\/usr\/share\/.*lvp_icd\.x86_64\.json'$/m);
  assert.match(
    lines,
    /\nexec '\/bin\/deno' 'run' .* '\/own'\\''s\/infer\/score\.ts' "\$@"$/,
  );
});

Deno.test("launch: a server's garbage is collected sooner than that of other programs", async () => {
  assert.match(await plan("serve", [], { files: SOFTWARE }), / '--v8-flags=--heap-growing-/);
  assert.doesNotMatch(await plan("generate", [], { files: SOFTWARE }), /--v8-flags/);
});

Deno.test("launch: macOS needs no Vulkan", async () => {
  assert.doesNotMatch(await plan("train", [], { name: "Darwin arm64" }), /VK_|DENO_WEBGPU_BACKEND/);
  await assert.rejects(plan("train", []), Refused);
});

Deno.test("launch: flags are read in both forms, the last wins", () => {
  assert.equal(readFlag("gpu", ["--gpu", "deno", "--gpu=dawn"]), "dawn");
  assert.equal(readFlag("gpu", ["--gpus", "deno"]), undefined);
  for (const args of [["--gpus", "deno"], ["--python", "p"], ["-h"], ["--help"]]) {
    assert.ok(decidesByFlag(args), args[0]);
    assert.equal(keptPlan("train", args), undefined);
  }
  assert.ok(!decidesByFlag(["--prompt", "which gpu? --help"]));
  assert.equal(keptPlan("train", ["--prompt", "which gpu? --help"]), "train");
  for (const args of [["--gpu=dawn"], ["--gpu=deno", "--gpu", "dawn"]]) {
    assert.equal(keptPlan("train", args), "train-dawn");
  }
  for (const args of [["--gpu=vulkan"], ["--gpu="], ["--gpu"]]) {
    assert.equal(keptPlan("train", args), undefined, args[0]);
  }
});

Deno.test({
  name: "launch: what may have no end, and what is too large for a configuration, is not read",
  ignore: Deno.build.os === "windows",
  fn() {
    using folder = new TemporaryFolder();
    const { read } = thisSystem("Linux x86_64"), pipe = folder.file("pipe");
    assert.ok(new Deno.Command("mkfifo", { args: [pipe] }).outputSync().success);
    const keys = (count: number) => Array.from({ length: count }, (_, i) => `k${i}: 1\n`).join("");
    const large = folder.file("large.yaml", keys(100_000));
    for (const path of ["/dev/zero", "/dev/null", pipe, large, folder.path]) {
      assert.equal(read(path), undefined, path);
    }
    const small = folder.file("small.yaml", `gpu: dawn\n${keys(4000)}`), began = performance.now();
    assert.equal(
      requestedGpu([small], thisSystem("Linux x86_64"), { readsYaml: true }),
      "dawn",
    );
    assert.ok(performance.now() - began < 10_000, "keys are compared with one another");
  },
});

Deno.test("launch: the WebGPU is the flag's, then the YAML file's, then LORIKEET_GPU's", async () => {
  const files = {
    "a.yaml": "gpu: dawn",
    "auto.yaml": "gpu: auto",
    "b.yaml": "gpu: [",
    run: "gpu: dawn",
  };
  const wanted = (args: string[], env: Record<string, string> = {}) =>
    requestedGpu(args, machine({ files, env }), { readsYaml: true });
  assert.equal(await wanted([]), "auto");
  assert.equal(await wanted(["a.yaml"]), "dawn");
  assert.equal(await wanted(["run", "--seed", "1"]), "dawn");
  assert.equal(await wanted(["--packing", "a.yaml"]), "dawn");
  assert.equal(await wanted(["--model", "run"]), "auto", "the value of a flag is no file");
  assert.equal(await wanted(["b.yaml"]), "auto", "mistakes are the program's to tell");
  assert.equal(await wanted(["a.yaml", "--gpu", "deno"]), "deno");
  const env = { LORIKEET_GPU: "deno" };
  assert.equal(await wanted(["a.yaml"], env), "dawn");
  assert.equal(await wanted(["auto.yaml"], env), "deno");
  assert.equal(await wanted(["a.yaml", "--gpu", "auto"], env), "deno");
  assert.equal(requestedGpu(["a.yaml"], machine({ files })), "auto", "another command");
});

Deno.test("launch: no command but test gets more than files, and few get programs", () => {
  for (const command of COMMANDS.filter((name) => name !== "test")) {
    const flags = flagsAnywhere(command, [], "/l").join(" ");
    assert.doesNotMatch(flags, /--allow-(all|ffi|import)|--allow-(run|env|sys|net)( |$)/, command);
    assert.equal(flags.includes("--allow-net"), ["watch", "serve"].includes(command), command);
  }
  // The server that is asked is one of this machine, or the one that is named.
  for (
    const [url, address] of [[[], "127.0.0.1"], [["--url", "http://a.b:8/v1"], "a.b:8"], [
      ["--url", "x"],
      "127.0.0.1",
    ]] as const
  ) {
    assert.ok(flagsAnywhere("bench", ["serve", ...url], "/l").includes(`--allow-net=${address}`));
  }
  assert.ok(flagsAnywhere("bench", ["peers"], "/l").includes("--allow-run=nvidia-smi,/l,python3"));
  const permissions = { write: false, programs: ["a,b"], python: true };
  const flags = permissionFlags(permissions, {
    lorikeet: "/l",
    python: "c,d",
    args: [],
    has: () => true,
  });
  assert.doesNotMatch(flags.join(" "), /--allow-run/, "a comma would name two programs");
});

Deno.test("launch: watch reads the runs it is given, writes only `stop` there and serves this machine", () => {
  const flags = flagsAnywhere("watch", ["a", "--port", "8", "--debug", "b/c"], "/own/lorikeet");
  assert.ok(flags.includes("--allow-read=a,b/c,/own/train/watch/page,/own/http/page"));
  assert.ok(flags.includes("--allow-write=a/stop,b/c/stop"));
  assert.ok(flags.includes("--allow-net=127.0.0.1"));
  assert.ok(!flags.includes("--allow-read") && !flags.includes("--allow-write"));
  assert.throws(
    () => flagsAnywhere("watch", ["a,b"], "/l"),
    /a,b: a run's folder can't have a comma/,
  );
});

Deno.test("launch: serve gets the address and port that it is given, and writes nothing", () => {
  const net = (...args: string[]) =>
    flagsAnywhere("serve", ["--model", "m", ...args], "/l").filter((flag) =>
      /^--allow-(net|write)/.test(flag)
    );
  assert.deepEqual(net(), ["--allow-net=127.0.0.1:8080"]);
  assert.deepEqual(net("--port", "90", "--host=0.0.0.0"), ["--allow-net=0.0.0.0:90"]);
  assert.deepEqual(net("--host", "::1", "--port=8"), ["--allow-net=[::1]:8"]);
  assert.deepEqual(net("--port", "0"), ["--allow-net=127.0.0.1"]);
  // What is no address gives leave for nothing else.
  for (const host of ["", "example.com", "a,b", "0.0.0.0,example.com"]) {
    assert.deepEqual(net("--host", host), ["--allow-net=127.0.0.1"], host);
  }
  assert.deepEqual(net("--port", "1,example.com"), ["--allow-net=127.0.0.1"]);
});

Deno.test("launch: chat with a server reaches that alone, reads its key's file alone, and needs no GPU", async () => {
  const flags = (...args: string[]) =>
    flagsAnywhere("chat", args, "/l").filter((flag) => /^--allow-(?!sys|env)/.test(flag));
  assert.deepEqual(flags("--server", "http://localhost:8080/v1", "--model", "m"), [
    "--allow-write",
    "--allow-net=localhost:8080",
  ]);
  assert.deepEqual(flags("--server=https://[::1]/", "--api_key_file", "a b"), [
    "--allow-read=a b",
    "--allow-write",
    "--allow-net=[::1]:443",
  ]);
  // What is no URL of a server gives leave for nothing.
  for (const url of ["", "localhost:80", "http://a,b", "file:///x", "http://user@a", "http://*"]) {
    assert.deepEqual(flags("--server", url), ["--allow-write"], url);
  }
  assert.throws(
    () => flags("--server", "http://a", "--api-key-file", "a,b"),
    /a,b: a file to read can't have a comma/,
  );
  assert.deepEqual(flags("--model", "--server"), ["--allow-read", "--allow-write"]);
  const lines = await plan("chat", ["--server", "http://a:1"], { name: "Linux x86_64" });
  assert.doesNotMatch(lines, /VK_|LD_LIBRARY_PATH|ffi|allow-read/, "without a GPU or its driver");
  assert.ok(decidesByFlag(["--server=http://a"]), "its plan is not that of other starts");
});

Deno.test("launch: compare reads the runs it is given, and nothing else", () => {
  const flags = flagsAnywhere("compare", ["--csv", "a", "b/c", "--json"], "/own/lorikeet");
  assert.deepEqual(flags.filter((flag) => /^--allow-(?!sys|env)/.test(flag)), [
    "--allow-read=a,b/c",
  ]);
  assert.doesNotMatch(flagsAnywhere("compare", ["--help"], "/l").join(" "), /--allow-read/);
});

Deno.test("launch: evaluate writes the files that its flags name, and nothing else", () => {
  const flags = (...args: string[]) =>
    flagsAnywhere("evaluate", args, "/l").filter((flag) => /^--allow-(?!sys|env)/.test(flag));
  assert.deepEqual(flags("--tasks", "t.yaml", "--json"), ["--allow-read"]);
  assert.deepEqual(flags("--output", "a b.json", "--log_samples=s.jsonl", "--model", "m"), [
    "--allow-read",
    "--allow-write=a b.json,s.jsonl",
  ]);
  assert.throws(() => flags("--output", "a,b"), /a,b: a file to write can't have a comma/);
});

Deno.test("launch: train gets a socket only with --watch", async () => {
  assert.match(await plan("train", ["--watch"], { files: SOFTWARE }), /'--allow-net=127\.0\.0\.1'/);
  assert.match(await plan("train", ["--watch=true"], { files: SOFTWARE }), /--allow-net=127/);
  assert.doesNotMatch(await plan("train", ["a"], { files: SOFTWARE }), /--allow-net/);
  assert.ok(decidesByFlag(["--watch"]), "its plan is not that of other starts");
});

Deno.test("launch: an NVIDIA driver's libraries are found beside it", () => {
  const files = {
    ...SOFTWARE,
    "/dev/nvidia0": "",
    "/usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json": "",
  };
  const system = machine({ files, env: { LD_LIBRARY_PATH: "/a" } });
  const environment = new Environment(system);
  prepareVulkan(system, environment, { store: "/s" });
  assert.equal(environment.get("LD_LIBRARY_PATH"), "/usr/local/nvidia/lib64:/a");
  assert.deepEqual(system.said, []);
});

Deno.test("launch: what can't be tested again by the shell is not kept", () => {
  const asked = (ask: (system: System) => unknown) => {
    const { system, facts } = noting(machine({ files: { "/f": "" }, programs: ["p"] }));
    ask(system);
    return facts();
  };
  assert.deepEqual(asked((system) => system.exists("/f")), ["[ -e '/f' ]"]);
  assert.deepEqual(asked((system) => system.exists("/g")), ["[ ! -e '/g' ]"]);
  assert.deepEqual(asked((system) => system.env("X")), [`[ "\${X:-}" = '' ]`]);
  assert.deepEqual(asked((system) => system.names("/d")), ["holds '/d' '/d/*'"]);
  assert.deepEqual(asked((system) => system.has("p")), ["command -v 'p' >/dev/null"]);
  for (
    const ask of [
      (s: System) => s.read("/f"),
      (s: System) => s.say("x"),
      (s: System) => s.run("p", []),
    ]
  ) {
    assert.equal(asked(ask), undefined);
  }
});

Deno.test("launch: developers' commands never start a task, which would start the launcher", async () => {
  for (const command of ["test", "check", "ok", "compile"]) {
    const lines = await plan(command, [], { files: SOFTWARE });
    assert.doesNotMatch(lines, /'task'|lorikeet'/, command);
    assert.match(lines, /^exec /m);
  }
});

Deno.test({
  name: "launch: a folder of one's own is one that nobody else made, linked or may use",
  ignore: Deno.build.os === "windows",
  fn() {
    using folder = new TemporaryFolder();
    const { makeOwnFolder } = thisSystem("Linux x86_64");
    const path = folder.file("own");
    assert.ok(makeOwnFolder(path) && makeOwnFolder(path));
    assert.equal((Deno.statSync(path).mode ?? 0) & 0o777, 0o700);
    Deno.symlinkSync(path, folder.file("link"));
    assert.ok(!makeOwnFolder(folder.file("link")));
    Deno.chmodSync(path, 0o755);
    assert.ok(!makeOwnFolder(path));
    Deno.chmodSync(path, 0o700);
    if (Deno.uid() === 0) {
      Deno.chownSync(path, 12345, 12345);
      assert.ok(!makeOwnFolder(path));
    }
    assert.ok(!makeOwnFolder("/dev/null/own"));
  },
});

Deno.test("launch: without a folder of one's own Mesa gets none", () => {
  const system = { ...machine({ files: SOFTWARE }), makeOwnFolder: () => false };
  const environment = new Environment(system);
  prepareVulkan(system, environment, { store: "/s" });
  assert.equal(environment.get("XDG_RUNTIME_DIR"), undefined);
});
