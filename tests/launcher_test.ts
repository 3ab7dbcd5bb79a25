import assert from "node:assert/strict";
import { printable } from "../kernels/terminal.ts";
import { argumentsOf, fakeDeno, fakeNpm, FakeSystem, variableOf } from "./fake_system.ts";

const COMMANDS =
  "train compare generate chat serve score merge convert doctor bench report test check ok compile deno"
    .split(
      " ",
    );

function launcherTest(name: string, body: (system: FakeSystem) => Promise<void>): void {
  const windows = Deno.build.os === "windows";
  Deno.test({
    name: `launcher: ${name}${windows ? " (ignored: no POSIX shell on Windows)" : ""}`,
    ignore: windows,
    async fn() {
      await using system = await FakeSystem.create();
      await body(system);
    },
  });
}

/** A machine with Deno on the PATH and the software driver: what most tests start from. */
async function ready(system: FakeSystem): Promise<string> {
  await system.program("deno", fakeDeno("2.9.6"));
  return await system.softwareDriver();
}

async function folderNames(path: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(path))).map(({ name }) => name).sort();
}

launcherTest("without a command, and with --help, lists the commands", async (system) => {
  for (const args of [[], ["--help"], ["help"]]) {
    const { code, stdout, stderr } = await system.run(args);
    assert.deepEqual([code, stderr], [0, ""]);
    for (const command of COMMANDS) assert.match(stdout, new RegExp(`^  ${command} +\\w`, "m"));
  }
});

launcherTest("an unknown command names the nearest and the known ones", async (system) => {
  await system.program("deno", fakeDeno("2.9.6"));
  const near = await system.run(["trian"]);
  assert.equal(near.code, 2);
  assert.match(near.stderr, /^error: unknown command "trian"; did you mean "train"\?/);
  for (const command of COMMANDS) assert.match(near.stderr, new RegExp(`\\b${command}\\b`));
  const far = await system.run(["quux*"]);
  assert.equal(far.code, 2);
  assert.match(far.stderr, /unknown command "quux\*" \(the commands are/);
  const odd = await system.run([`\x1b]0;a\x07${"b".repeat(1000)}`]);
  assert.match(odd.stderr, /unknown command "\\x1b\]0;a\\x07b+\.\.\.b+" \(the/);
  assert.equal(printable(odd.stderr), odd.stderr);
});

launcherTest("train keeps folder and arguments, and may not use the network", async (system) => {
  await ready(system);
  const outcome = await system.run(["train", "my config.yaml", "--output", ""], {
    cwd: system.path("home"),
  });
  assert.equal(outcome.code, 0, outcome.stderr);
  const args = argumentsOf(outcome);
  const program = args.indexOf(system.path("project", "train/main.ts"));
  assert.deepEqual(args.slice(program + 1), ["my config.yaml", "--output", ""]);
  assert.match(outcome.stdout, new RegExp(`^cwd:.*/home$`, "m"));
  const flags = args.slice(0, program);
  for (const flag of ["run", "--no-prompt", "--frozen", "--allow-read", "--allow-write"]) {
    assert.ok(flags.includes(flag), flag);
  }
  const allowed = flags.filter((flag) => flag.startsWith("--allow")).join(" ");
  assert.doesNotMatch(allowed, /-all\b|net|ffi|import|run/);
  assert.equal(variableOf(outcome, "DENO_NO_UPDATE_CHECK"), "1");
  assert.match(variableOf(outcome, "LORIKEET_TILES") ?? "", /\/\.cache\/lorikeet\/tiles\.json$/);
});

launcherTest("nvidia-smi may be run where it is", async (system) => {
  await ready(system);
  await system.program("nvidia-smi", "exit 0");
  assert.ok(argumentsOf(await system.run(["train"])).includes("--allow-run=nvidia-smi"));
});

launcherTest("generate, score and compare may neither write nor run anything", async (system) => {
  await ready(system);
  await system.program("nvidia-smi", "exit 0");
  const programs = {
    generate: "infer/generate.ts",
    score: "infer/score.ts",
    compare: "train/compare/main.ts",
  };
  for (const [command, file] of Object.entries(programs)) {
    const args = argumentsOf(await system.run([command, "--json"]));
    const program = args.indexOf(system.path("project", file));
    assert.deepEqual(args.slice(program + 1), ["--json"]);
    assert.doesNotMatch(args.slice(0, program).join(" "), /--allow-(all|write|run|net|ffi)/);
  }
});

launcherTest("merge and convert may write, and only merge needs Vulkan", async (system) => {
  await system.program("deno", fakeDeno("2.9.6"));
  await system.program("nvidia-smi", "exit 0");
  const converted = await system.run(["convert", "--model", "m"]); // there is no driver yet
  assert.equal(converted.code, 0, converted.stderr);
  assert.equal(variableOf(converted, "VK_DRIVER_FILES"), "unset");
  await system.softwareDriver();
  const merged = await system.run(["merge", "--model", "m"]);
  assert.match(variableOf(merged, "VK_DRIVER_FILES") ?? "", /\.json$/);
  for (const [command, outcome] of [["convert", converted], ["merge", merged]] as const) {
    const args = argumentsOf(outcome);
    const program = args.indexOf(system.path("project", `infer/${command}.ts`));
    assert.deepEqual(args.slice(program + 1), ["--model", "m"]);
    const flags = args.slice(0, program);
    assert.ok(flags.includes("--allow-write"), command);
    assert.equal(flags.includes("--allow-run=nvidia-smi"), command === "merge");
    assert.doesNotMatch(flags.join(" "), /--allow-(all|net|ffi)/);
  }
});

launcherTest(
  "commands that start others need no driver and may start nothing else",
  async (system) => {
    await system.program("deno", fakeDeno("2.9.6")); // and there is no driver
    const launcher = system.path("project/lorikeet"), env = { LD_LIBRARY_PATH: "/own/lib" };
    for (const args of [["bench", "table1"], ["bench", "table2"], ["report"]]) {
      const outcome = await system.run([...args, "--gpu", "dawn"], { env });
      assert.equal(outcome.code, 0, outcome.stderr);
      const flags = argumentsOf(outcome).filter((flag) => /^--allow-(run|ffi|net|all)/.test(flag));
      assert.deepEqual(flags, [`--allow-run=${launcher}`]);
      assert.equal(variableOf(outcome, "LD_LIBRARY_PATH"), "unset");
    }
    await system.softwareDriver();
    const child = await system.run(["train"], { env: { LORIKEET_LIBRARY_PATH: "/own/lib" } });
    assert.equal(variableOf(child, "LD_LIBRARY_PATH"), "/own/lib");
  },
);

launcherTest("bench peers may also run the Python that it is given", async (system) => {
  await system.program("deno", fakeDeno("2.9.6"));
  const launcher = system.path("project/lorikeet"), own = system.path("bin", "own");
  const allowed = async (...args: string[]) => {
    const outcome = await system.run(["bench", "peers", ...args]);
    assert.equal(outcome.code, 0, outcome.stderr);
    return argumentsOf(outcome).filter((flag) => /^--allow-(run|ffi|net|all)/.test(flag));
  };
  assert.deepEqual(await allowed(), [`--allow-run=${launcher}`], "there is no python3");
  await system.program("python3", "exit 0");
  await system.program("own", "exit 0");
  assert.deepEqual(await allowed("--json"), [`--allow-run=${launcher},python3`]);
  for (const flag of [["--python", own], [`--python=${own}`]]) {
    assert.deepEqual(await allowed(...flag), [`--allow-run=${launcher},${own}`]);
  }
  assert.deepEqual(await allowed("--python", "a,b"), [`--allow-run=${launcher}`]);
});

launcherTest("works through symlinks", async (system) => {
  await ready(system);
  await Deno.symlink("../project/lorikeet", system.path("home/second"));
  await Deno.symlink(system.path("home/second"), system.path("first"));
  const outcome = await system.run(["train"], { launcher: system.path("first"), cwd: "/" });
  assert.ok(argumentsOf(outcome).includes(system.path("project/train/main.ts")), outcome.stderr);
});

launcherTest("test runs what it is given, else the whole suite", async (system) => {
  await ready(system);
  for (const folder of ["kernels", "cli"]) {
    await Deno.mkdir(system.path("project/tests", folder), { recursive: true });
  }
  for (const name of ["mod_test.ts", "variables.ts"]) {
    await Deno.writeTextFile(system.path("project/tests", name), "");
  }
  const suites = ["suites/kernels.ts", "suites/model.ts", "suites/train.ts"];
  const all = [...suites, "cli", "mod_test.ts"].map((name) => system.path(`project/tests/${name}`));
  assert.deepEqual(argumentsOf(await system.run(["test"])).slice(-5), all);
  const filtered = argumentsOf(await system.run(["test", "--filter", "matmul"]));
  assert.deepEqual(filtered.slice(-7), ["--filter", "matmul", ...all]);
  assert.equal(argumentsOf(await system.run(["test", "home"])).at(-1), "home");
});

launcherTest("--version tells Lorikeet's and Deno's", async (system) => {
  await system.program("deno", fakeDeno("2.10.1"));
  const { version } = JSON.parse(await Deno.readTextFile(system.path("project/deno.json")));
  const { stdout } = await system.run(["--version"]);
  assert.equal(stdout, `lorikeet ${version}\ndeno 2.10.1\n`);
});

launcherTest("installs a missing Deno from npm, once", async (system) => {
  await system.softwareDriver();
  await system.program("npm", fakeNpm(fakeDeno("2.9.6")));
  const first = await system.run(["train", "--seed", "1"]);
  assert.equal(first.code, 0, first.stderr);
  assert.equal(first.stderr, "Installing Deno 2.9.6 from npm (one time)...\n");
  assert.deepEqual(argumentsOf(first).slice(-2), ["--seed", "1"]);
  const second = await system.run(["train"]);
  assert.deepEqual([second.code, second.stderr], [0, ""]);
  const calls = (await Deno.readTextFile(system.path("bin/npm.calls"))).trim().split("\n");
  assert.equal(calls.length, 1);
  assert.match(calls[0], /--ignore-scripts.* @deno\/linux-x64-glibc@2\.9\.6$/);
  assert.deepEqual(await folderNames(system.path("project/.deno")), ["2.9.6", "plans", "runtime"]);
});

launcherTest("two first starts at once both work", async (system) => {
  await system.softwareDriver();
  await system.program("npm", fakeNpm(fakeDeno("2.9.6")));
  const outcomes = await Promise.all([1, 2, 3].map((seed) => system.run(["train", `${seed}`])));
  assert.deepEqual(outcomes.map((outcome) => argumentsOf(outcome).at(-1)), ["1", "2", "3"]);
  assert.deepEqual(await folderNames(system.path("project/.deno")), ["2.9.6", "runtime"]);
});

launcherTest("a Deno that is too old or broken is passed over", async (system) => {
  await system.softwareDriver();
  for (const version of ["2.8.9", "1.46.3", "broken"]) {
    await system.program("deno", version === "broken" ? "exit 1" : fakeDeno(version));
    const { code, stderr } = await system.run(["train"]);
    assert.equal(code, 1);
    assert.match(stderr, /^error: Lorikeet needs Deno 2\.9 or newer; the one on the PATH /);
    assert.ok(stderr.includes(`is ${version}, and there is no npm`), stderr);
  }
  await system.program("npm", fakeNpm(fakeDeno("2.9.6")));
  const outcome = await system.run(["--version"]);
  assert.match(outcome.stdout, /^deno 2\.9\.6$/m);
});

launcherTest("a failed install says why and leaves nothing", async (system) => {
  await system.program("npm", "echo 'npm error code ENOTFOUND' >&2; exit 1");
  const refused = await system.run(["train"]);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /npm error code ENOTFOUND\nerror: .*npm could not install @deno/);
  await system.program("npm", fakeNpm("exit 127"));
  const broken = await system.run(["train"]);
  assert.match(broken.stderr, /error: .*does not run on this system/);
  assert.deepEqual(await folderNames(system.path("project/.deno")), []);
});

launcherTest("picks npm's package for the system, or says there is none", async (system) => {
  await system.program("npm", fakeNpm(fakeDeno("2.9.6")));
  await system.program("uname", "echo Darwin arm64");
  // No Vulkan is looked for on macOS: there Deno uses Metal.
  const mac = await system.run(["train"]);
  assert.equal(mac.code, 0, mac.stderr);
  assert.equal(variableOf(mac, "VK_DRIVER_FILES"), "unset");
  assert.match(await Deno.readTextFile(system.path("bin/npm.calls")), /@deno\/darwin-arm64@/);
  await Deno.remove(system.path("project/.deno"), { recursive: true });
  await system.program("uname", "echo FreeBSD amd64");
  const other = await system.run(["train"]);
  assert.equal(other.code, 1);
  assert.match(other.stderr, /npm has none for this system \(FreeBSD amd64\)/);
});

launcherTest(
  "DENO_DIR moves into the project where the home folder can't be used",
  async (system) => {
    await ready(system);
    const usual = await system.run(["train"]);
    assert.equal(variableOf(usual, "DENO_DIR"), "unset");
    const homeless = await system.run(["train"], { env: { HOME: "/dev/null/home" } });
    assert.equal(variableOf(homeless, "DENO_DIR"), system.path("project/.deno/cache"));
    const own = await system.run(["train"], {
      env: { HOME: undefined, DENO_DIR: system.path("own") },
    });
    assert.equal(variableOf(own, "DENO_DIR"), system.path("own"));
  },
);

launcherTest("a Deno that can't keep its packages is told a folder", async (system) => {
  await ready(system);
  const { code, stdout, stderr } = await system.run(["train"], {
    env: { DENO_DIR: "/dev/null/own" },
  });
  assert.deepEqual([code, stdout], [1, ""]);
  assert.match(
    stderr,
    /^error: Deno can't keep npm's packages in \/dev\/null\/own: .* in DENO_DIR\.\n$/,
  );
  assert.equal((await system.run(["--version"], { env: { DENO_DIR: "/dev/null/own" } })).code, 0);
});

launcherTest("a steady plan is kept until something that it rests on changes", async (system) => {
  const software = await ready(system);
  const driver = async (...args: string[]) => {
    const outcome = await system.run(["generate", ...args]);
    assert.deepEqual([outcome.code, outcome.stderr], [0, ""]);
    const program = system.path("project", "infer/generate.ts");
    assert.deepEqual(argumentsOf(outcome).slice(-args.length - 1), [program, ...args]);
    return variableOf(outcome, "VK_DRIVER_FILES");
  };
  const plans = async () =>
    (await Deno.readTextFile(system.path("bin/deno.plans"))).trim().split("\n").length;
  assert.equal(await driver("--prompt", "it's $HOME"), software);
  assert.equal(await driver("--prompt", "a\tb"), software);
  assert.equal(await plans(), 1, "the second start uses the first's plan");

  for (
    const args of [["--gpu", "deno"], ["--json", "--gpu=deno"], ["--gpu=dawn", "--gpu", "deno"]]
  ) {
    assert.equal(await driver(...args), software);
  }
  assert.equal(await plans(), 2, "a WebGPU that a flag names has a plan of its own");
  await driver("--gpu", "vulkan");
  await driver("--gpu", "vulkan");
  assert.equal(await plans(), 4, "what is unknown is looked at each time");

  await system.file("dev/nvidiactl");
  const nvidia = await system.file("etc/vulkan/icd.d/nvidia_icd.json");
  assert.equal(await driver("--json"), nvidia);
  assert.equal(await driver("--json"), nvidia);
  assert.equal(await plans(), 5, "another driver is found once");

  await Deno.remove(nvidia);
  await Deno.remove(system.path("system/dev/nvidiactl"));
  assert.equal(await driver("--json"), software);
  const own = { env: { VK_DRIVER_FILES: "/own.json" } };
  assert.equal(
    variableOf(await system.run(["generate"], own), "VK_DRIVER_FILES"),
    "/own.json",
  );
  const before = await plans();
  await system.run(["generate"], own);
  await Deno.writeTextFile(system.path("run.yaml"), "gpu: deno\n");
  await system.run(["train", "run.yaml"]);
  await system.run(["train", "run.yaml"]);
  assert.equal(await plans(), before + 2, "a run's YAML file is looked at each time");
  await system.run(["train", "--seed", "1"]);
  await system.run(["train", "--seed", "2"]);
  assert.equal(await plans(), before + 3);
  for (const server of [[], ["--server", "http://127.0.0.1:1"], ["--server=http://a"]]) {
    const args = argumentsOf(await system.run(["chat", ...server]));
    assert.equal(args.includes("--allow-read"), server.length === 0, `${server}`);
    assert.equal(args.some((arg) => arg.startsWith("--allow-net")), server.length > 0);
  }
  assert.equal(await plans(), before + 6, "a server is looked at each time");
  await Deno.utime(system.path("project/scripts/launch/plan.ts"), 4e9, 4e9);
  await system.run(["generate"], own);
  assert.equal(await plans(), before + 7, "another launch makes another plan");
});

launcherTest("the program takes the launcher's process", async (system) => {
  await ready(system);
  await system.program(
    "deno",
    `case "$*" in *launch.ts*) ;; *) [ "$1" = --version ] || { echo "process $$"; cat; exit 7; } ;; esac
${fakeDeno("2.9.6")}`,
  );
  for (let i = 0; i < 2; i++) { // planned, and by the kept plan
    const child = new Deno.Command(system.path("project/lorikeet"), {
      args: ["generate"],
      clearEnv: true,
      env: {
        PATH: `${system.path("bin")}:${system.path("tools")}`,
        HOME: system.path("home"),
        LORIKEET_SYSROOT: system.path("system"),
      },
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    const writer = child.stdin.getWriter();
    await writer.write(new TextEncoder().encode("typed"));
    await writer.close();
    const { code, stdout } = await child.output();
    assert.equal(code, 7);
    assert.equal(new TextDecoder().decode(stdout), `process ${child.pid}\ntyped`);
  }
});
