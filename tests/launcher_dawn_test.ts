import assert from "node:assert/strict";
import { argumentsOf, fakeDeno, FakeSystem, type Outcome, variableOf } from "./fake_system.ts";

/** A Deno that also installs npm's webgpu, and notes it in deno.installs. */
const DENO = `if [ "$1" = install ]; then
  echo "$*" >>"\${0%/*}/deno.installs"
  for library in linux-x64 linux-arm64 darwin-universal; do
    mkdir -p "node_modules/webgpu/dist/$library"
    echo "$library" >"node_modules/webgpu/dist/$library/dawn.node"
  done
  exit
fi
${fakeDeno("2.9.6")}`;

const LIBRARY = "project/.deno/dawn-0.6.2/dawn.node";

function dawnTest(name: string, body: (system: FakeSystem) => Promise<void>): void {
  const windows = Deno.build.os === "windows";
  Deno.test({
    name: `launcher: ${name}${windows ? " (ignored: no POSIX shell on Windows)" : ""}`,
    ignore: windows,
    async fn() {
      await using system = await FakeSystem.create();
      await system.softwareDriver();
      await system.program("deno", DENO);
      await body(system);
    },
  });
}

/** What the program may load. */
function native(outcome: Outcome): string[] {
  assert.equal(outcome.code, 0, outcome.stderr);
  return argumentsOf(outcome).filter((flag) => flag.startsWith("--allow-ffi"));
}

dawnTest(
  "--gpu dawn fetches Dawn once, keeps its library and lets it be loaded",
  async (system) => {
    const library = system.path(LIBRARY);
    for (const args of [["--gpu", "dawn"], ["--gpu=dawn"]]) {
      const outcome = await system.run(["generate", ...args]);
      assert.deepEqual(native(outcome), [`--allow-ffi=${library}`]);
      assert.equal(variableOf(outcome, "DAWN_NODE"), library);
    }
    assert.equal(await Deno.readTextFile(library), "linux-x64\n");
    const installs = await Deno.readTextFile(system.path("bin/deno.installs"));
    assert.equal(installs.trim().split("\n").length, 1);
    const kept = await Array.fromAsync(Deno.readDir(system.path("project/.deno")));
    assert.deepEqual(kept.map(({ name }) => name).sort(), ["dawn-0.6.2", "plans", "runtime"]);
  },
);

dawnTest("nobody else fetches Dawn, and only those who may take it may load it", async (system) => {
  assert.deepEqual(native(await system.run(["train"])), []);
  assert.deepEqual(native(await system.run(["train", "--help", "--gpu", "dawn"])), []);
  await assert.rejects(Deno.stat(system.path("bin/deno.installs")));

  await system.run(["train"], { env: { LORIKEET_GPU: "dawn" } });
  const allowed = [`--allow-ffi=${system.path(LIBRARY)}`];
  assert.deepEqual(native(await system.run(["train"])), allowed, "auto may take it");
  assert.deepEqual(native(await system.run(["test"])), allowed);
  assert.deepEqual(native(await system.run(["train", "--gpu", "deno"])), []);
  assert.deepEqual(native(await system.run(["convert", "--model", "m"])), []);
  const flagWins = { env: { LORIKEET_GPU: "deno" } };
  assert.deepEqual(native(await system.run(["train"], flagWins)), []);
  assert.deepEqual(native(await system.run(["train", "--gpu", "dawn"], flagWins)), allowed);
});

dawnTest("DAWN_NODE names another library", async (system) => {
  const outcome = await system.run(["train", "--gpu", "dawn"], { env: { DAWN_NODE: "/own.node" } });
  assert.deepEqual(native(outcome), ["--allow-ffi=/own.node"]);
  assert.equal(variableOf(outcome, "DAWN_NODE"), "/own.node");
  await assert.rejects(Deno.stat(system.path("bin/deno.installs")));
});

dawnTest("a Dawn behind a link may be loaded from where it lies", async (system) => {
  await Deno.mkdir(system.path("scratch"));
  await Deno.symlink(system.path("scratch"), system.path("project/.deno"));
  const outcome = await system.run(["train", "--gpu", "dawn"]);
  const library = system.path("scratch/dawn-0.6.2/dawn.node");
  assert.deepEqual(native(outcome), [`--allow-ffi=${library}`]);
  for (let i = 0; i < 2; i++) { // planned, and by the kept plan
    assert.deepEqual(native(await system.run(["train"])), [`--allow-ffi=${library}`]);
  }
  await Deno.remove(system.path("project/.deno"));
  await Deno.mkdir(system.path("moved"));
  await Deno.rename(system.path("scratch/dawn-0.6.2"), system.path("moved/dawn-0.6.2"));
  await Deno.rename(system.path("scratch/plans"), system.path("moved/plans"));
  await Deno.symlink(system.path("moved"), system.path("project/.deno"));
  const moved = system.path("moved/dawn-0.6.2/dawn.node");
  assert.deepEqual(native(await system.run(["train"])), [`--allow-ffi=${moved}`]);
});

dawnTest("a Dawn that can't be fetched says why and leaves nothing", async (system) => {
  await system.program(
    "deno",
    `[ "$1" != install ] || { echo "error: no such host" >&2; exit 1; }\n${fakeDeno("2.9.6")}`,
  );
  const outcome = await system.run(["train", "--gpu", "dawn"]);
  assert.equal(outcome.code, 1);
  assert.match(outcome.stderr, /no such host\nerror: npm's webgpu@0\.6\.2, .* not be fetched\.$/m);
  assert.deepEqual(await Array.fromAsync(Deno.readDir(system.path("project/.deno"))), []);
  await system.program("uname", "echo FreeBSD amd64");
  const other = await system.run(["train", "--gpu", "dawn"]);
  assert.match(other.stderr, /no Dawn for this system \(FreeBSD amd64\)/);
});

dawnTest("gpu in train's YAML file counts like the flag, which wins", async (system) => {
  const yaml = async (name: string, text: string) => {
    await Deno.writeTextFile(system.path("home", name), text);
    return system.path("home", name);
  };
  const dawn = await yaml("own.yaml", "model: builtin\ngpu: dawn\n");
  const deno = await yaml("deno.yml", "{model: builtin, 'gpu': deno}\n");
  const none = await yaml("none.yaml", "model: builtin\n");
  const broken = await yaml("broken.yaml", "gpu: dawn\nmodel: [\n");
  const allowed = [`--allow-ffi=${system.path(LIBRARY)}`];
  for (const args of [[dawn, "--gpu", "deno"], [none], ["--data", "none.json", deno]]) {
    assert.deepEqual(native(await system.run(["train", ...args])), []);
  }
  await assert.rejects(Deno.stat(system.path("bin/deno.installs")), "nothing was fetched");

  assert.deepEqual(native(await system.run(["train", "--packing", dawn])), allowed);
  // The program says what is wrong with the file.
  assert.deepEqual(native(await system.run(["train", broken])), allowed);
  assert.deepEqual(native(await system.run(["train", deno])), []);
  assert.deepEqual(native(await system.run(["train", deno, "--gpu=dawn"])), allowed);
  const variable = { env: { LORIKEET_GPU: "deno" } };
  assert.deepEqual(native(await system.run(["train", dawn], variable)), allowed);
  assert.deepEqual(native(await system.run(["train", none], variable)), []);
});
