/** A run ends with the series that started it, and any other goes on. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { PARENT } from "../../cli/parent.ts";
import { ROOT } from "../../scripts/compile.ts";
import { lorikeet, TemporaryFolder } from "./cli.ts";
import { gpuTest } from "../kernels/harness.ts";

/** Says when it is ready, then waits: `alive` is what it says if nothing ends it. */
const run = (milliseconds: number) => [
  ...[Deno.execPath(), "eval"],
  `import { endWithParent } from "${new URL("../../cli/parent.ts", import.meta.url)}";
   endWithParent(); console.log("ready"); setTimeout(() => console.log("alive"), ${milliseconds});`,
];

/** What a program says whose parent, a shell with this script around it, is killed once it is ready. */
async function orphaned(script: string, program: readonly string[]): Promise<string> {
  const shell = new Deno.Command("sh", {
    args: ["-c", `${script} & wait`, ...program],
    stdin: "null",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  let said = "";
  // The pipe ends with the last process that holds it.
  for await (const text of shell.stdout.pipeThrough(new TextDecoderStream())) {
    said += text;
    if (text.includes("ready")) shell.kill("SIGKILL");
  }
  await shell.status;
  return said;
}

Deno.test("a run of a series ends when the series is killed", async () => {
  assert.equal(await orphaned(`${PARENT}=$$ "$0" "$@"`, run(30_000)), "ready\n");
});

Deno.test("a run that no series started goes on without its parent", async () => {
  assert.equal(await orphaned('"$0" "$@"', run(1500)), "ready\nalive\n");
});

for (const command of ["train", "generate", "bench"] as const) {
  Deno.test(`lorikeet ${command} ends at once where the series is gone before it begins`, async () => {
    const { code, stdout, stderr } = await lorikeet(command, ["--help"], {
      [PARENT]: "1000000000",
    });
    assert.deepEqual([code, stdout, stderr], [1, "", ""]);
  });
}

const python = await new Deno.Command("python3", { args: ["--version"] }).output()
  .then(({ success }) => success, () => false);

Deno.test({
  name: `torch_rows.py ends with its series, be it started by a script${
    python ? "" : " (ignored: no python3)"
  }`,
  ignore: !python,
  async fn() {
    using folder = new TemporaryFolder();
    // In place of PyTorch, what says that it is ready and takes its time.
    folder.file(
      "torch.py",
      'import time\nprint("ready", flush=True)\ntime.sleep(30)\nprint("alive")\n',
    );
    const program = ["python3", join(ROOT, "bench/course/peers/torch_rows.py"), "--versions"];
    for (const script of ['"$0" "$@"', `sh -c '"$0" "$@"; true' "$0" "$@"`]) {
      const set = `export PYTHONPATH='${folder.path}' ${PARENT}=$$; `;
      assert.equal(await orphaned(set + script, program), "ready\n");
    }
  },
});

/** The runs of a series, `PID COMMAND` each: what has its process in the environment. */
async function runsOf(series: number): Promise<string[]> {
  const script = 'for p in /proc/[0-9]*; do tr "\\0" "\\n" <$p/environ | grep -qx "$0" && ' +
    'echo "${p#/proc/} $(tr "\\0" " " <$p/cmdline)"; done';
  const { stdout } = await new Deno.Command("sh", {
    args: ["-c", script, `${PARENT}=${series}`],
    stderr: "null",
  }).output();
  return new TextDecoder().decode(stdout).split("\n").filter((line) => line !== "");
}

/** Waits until a series' runs are as expected, 30 s at most. */
async function until(series: number, expected: (runs: string[]) => boolean): Promise<void> {
  const end = Date.now() + 30_000;
  for (let runs = await runsOf(series); !expected(runs); runs = await runsOf(series)) {
    assert.ok(Date.now() < end, `after 30 s there are ${runs.join("; ") || "no runs"}`);
    await setTimeout(100);
  }
}

if (Deno.build.os === "linux") {
  gpuTest("cli: bench table2, killed while a run computes, leaves no process behind", async () => {
    using temporary = new TemporaryFolder();
    // A run of so many samples takes a minute.
    const flags = ["--model", "random:tiny", "--samples", "3000", "--gpu", "deno"];
    const series = new Deno.Command(join(ROOT, "lorikeet"), {
      args: ["bench", "table2", ...flags, "--folder", temporary.file("course")],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    try {
      await until(series.pid, (runs) => runs.some((run) => run.includes("main.ts train --json")));
      await setTimeout(2000);
      assert.equal((await runsOf(series.pid)).length, 1);
      series.kill("SIGKILL");
      const killed = Date.now();
      await until(series.pid, (runs) => runs.length === 0);
      assert.ok(Date.now() - killed < 5000, `${Date.now() - killed} ms`);
    } finally {
      for (const run of await runsOf(series.pid)) Deno.kill(parseInt(run), "SIGKILL");
      await series.status;
    }
  });
}
