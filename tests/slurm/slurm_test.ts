/** The job scripts of examples/slurm/ on a cluster of this machine. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { ROOT } from "../../scripts/compile.ts";
import {
  exists,
  lorikeet,
  refused,
  smallData,
  succeeded,
  TemporaryFolder,
  TOKENIZER,
} from "../cli/cli.ts";
import { SlurmCluster, whyNoCluster } from "./cluster.ts";

const NO_CLUSTER = whyNoCluster();

/** Why the built-in example isn't run for minutes. */
const NOT_LONG = Deno.env.get("LORIKEET_SLURM") === "long"
  ? NO_CLUSTER
  : "LORIKEET_SLURM is not long";

function slurmTest(
  name: string,
  body: (cluster: SlurmCluster, folder: TemporaryFolder) => Promise<void>,
  ignored = NO_CLUSTER,
): void {
  Deno.test({
    name: `slurm: ${name}${ignored === undefined ? "" : ` (ignored: ${ignored})`}`,
    ignore: ignored !== undefined,
    async fn() {
      using folder = new TemporaryFolder();
      // A folder in which the scripts find what they do in the project's, and which the runs may fill.
      for (const name of ["lorikeet", "examples"]) {
        await Deno.symlink(join(ROOT, name), folder.file(name));
      }
      await using cluster = await SlurmCluster.start(folder.path);
      await body(cluster, folder);
    },
  });
}

/** A run of steps of some milliseconds, on samples that are written into the folder. */
function tinyRun(folder: TemporaryFolder, steps: number): string[] {
  const data = folder.file("data.json", smallData(64));
  const model = ["--model", "random:tiny", "--tokenizer", TOKENIZER, "--data", data];
  const most = ["--epochs", "1000000", "--max-steps", `${steps}`];
  return [...model, "--gradient-accumulation-steps", "1", ...most];
}

/** A job of a script, with what the test is told of it. */
class Job {
  private constructor(
    readonly cluster: SlurmCluster,
    readonly id: string,
    readonly log: string,
  ) {}

  /** Submits a script of examples/slurm/. @param flags Those of sbatch. */
  static async submit(
    cluster: SlurmCluster,
    { script, flags = [], args, log }: {
      script: string;
      flags?: string[];
      args: string[];
      log: string;
    },
  ): Promise<Job> {
    const options = ["--parsable", "--cpus-per-task=1", "--mem=1000", `--output=${log}`, ...flags];
    const path = `examples/slurm/${script}`;
    return new Job(cluster, await cluster.run("sbatch", ...options, path, ...args), log);
  }

  /** What the job has printed. */
  get text(): string {
    return exists(this.log) ? Deno.readTextFileSync(this.log) : "";
  }

  /** Waits until the run in `output` has written so many steps. */
  async untilStep(output: string, steps: number): Promise<void> {
    await this.cluster.until(`${steps} steps`, async () => {
      const state = await this.field("JobState") ?? "";
      assert.match(state, /PENDING|CONFIGURING|RUNNING|REQUEUE|COMPLETING/, this.text);
      return stepsOf(output).length >= steps;
    });
  }

  /**
   * Sends USR2 to the job's shell, as `--signal=B:USR2` does. @param part That of an array: `_1`.
   *
   * scancel tries again, and fails, where a part of an array ends while it asks: whether the run heard it is seen by
   * what the run does.
   */
  async warn(part = ""): Promise<void> {
    await this.cluster.run("scancel", "--batch", "--signal=USR2", this.id + part).catch(() => {});
  }

  /** A field of what Slurm knows of the job. */
  async field(name: string): Promise<string | undefined> {
    const all = await this.cluster.run("scontrol", "show", "job", "--oneliner", this.id);
    return new RegExp(`\\b${name}=(\\S+)`).exec(all)?.[1];
  }
}

/** The lines of a run's metrics, without what a clock told. */
function stepsOf(output: string): string[] {
  const path = join(output, "metrics.jsonl");
  if (!exists(path)) return [];
  // The last line may be half written.
  return Deno.readTextFileSync(path).split("\n").slice(0, -1).map((line) => {
    const { seconds: _, ...rest } = JSON.parse(line);
    return JSON.stringify(rest);
  });
}

/** Asserts that two runs gave the same adapter, byte for byte, by the same steps. */
function assertSame(actual: string, expected: string): void {
  assert.deepEqual(stepsOf(actual), stepsOf(expected));
  for (const name of ["adapter_config.json", "adapter_model.safetensors"]) {
    const [a, b] = [actual, expected].map((run) => Deno.readFileSync(join(run, "adapter", name)));
    assert.ok(a.length === b.length && a.every((byte, i) => byte === b[i]), `${name} differs`);
  }
}

slurmTest("a run that needs more than its job's memory is refused", async (cluster, folder) => {
  const log = folder.file("log"), output = folder.file("run");
  const args = [...tinyRun(folder, 1), "--output", output];
  const job = await Job.submit(cluster, { script: "one_run.sh", flags: ["--mem=100"], args, log });
  await cluster.untilDone();
  const code = Number((await job.field("ExitCode"))?.split(":")[0]);
  refused({ code, stdout: "", stderr: job.text, seconds: 0 }, 1, "total", "SLURM_MEM_PER_NODE");
  assert.ok(!exists(output));
});

slurmTest("a run that is cancelled saves its state", async (cluster, folder) => {
  const log = folder.file("log"), output = folder.file("run");
  const args = [...tinyRun(folder, 1e6), "--output", output];
  const job = await Job.submit(cluster, { script: "one_run.sh", args, log });
  await job.untilStep(output, 3);
  await cluster.run("scancel", job.id);
  await cluster.untilDone();
  assert.ok(exists(join(output, "states")), job.text);
});

slurmTest("a long run goes on where it was stopped, to the same bytes", async (cluster, folder) => {
  const whole = folder.file("whole"), output = folder.file("run"), log = folder.file("log");
  const run = tinyRun(folder, 150);
  const reference = lorikeet("train", [...run, "--output", whole]);
  const args = [...run, "--output", output];
  const job = await Job.submit(cluster, { script: "long_run.sh", args, log });
  for (const steps of [5, 50]) {
    const restarts = await job.field("Restarts");
    await job.untilStep(output, steps);
    await job.warn();
    await cluster.until(
      "the job is back in the queue",
      async () => await job.field("Restarts") !== restarts,
    );
  }
  await cluster.untilDone();
  succeeded(await reference);
  assert.equal(await job.field("ExitCode"), "0:0", job.text);
  assert.equal(await job.field("Restarts"), "2", job.text);
  assert.match(job.text, /^Part 1 ends [^]*^Part 2 ends /m, "the log was emptied");
  assertSame(output, whole);
});

slurmTest("the parts of a chain go on after each other", async (cluster, folder) => {
  const whole = folder.file("whole"), output = folder.file("run"), log = folder.file("log");
  const run = tinyRun(folder, 150);
  const reference = lorikeet("train", [...run, "--output", whole]);
  const args = [...run, "--output", output], flags = ["--array=1-3%1"];
  const job = await Job.submit(cluster, { script: "chain.sh", flags, args, log });
  await job.untilStep(output, 5);
  await job.warn("_1");
  await cluster.untilDone();
  succeeded(await reference);
  // The third finds nothing to do.
  const parts = job.text.split(/^Part \d of 3 begins .*$/m);
  assert.equal(parts.length, 4, job.text);
  assert.match(parts[2], /^Trained /m);
  assert.doesNotMatch(parts[3], /^error:|^Trained /m);
  assertSame(output, whole);
});

slurmTest("the runs of a sweep are compared in a table", async (cluster, folder) => {
  const log = folder.file("log"), flags = ["--array=0,4,8"], args = tinyRun(folder, 3);
  const sweep = await Job.submit(cluster, { script: "sweep.sh", flags, args, log });
  const table = await Job.submit(cluster, {
    script: "sweep_table.sh",
    flags: [`--dependency=afterany:${sweep.id}`],
    args: [`runs/sweep-${sweep.id}`],
    log: folder.file("table"),
  });
  await cluster.untilDone();
  assert.equal(await table.field("ExitCode"), "0:0", sweep.text + table.text);
  for (const run of ["rate5e-4-seed1", "rate2e-3-seed2", "rate8e-3-seed3"]) {
    assert.ok(table.text.includes(run), table.text);
  }
});

slurmTest(
  "the built-in example under a limit of two minutes gives the bytes of a run without",
  async (cluster, folder) => {
    const whole = folder.file("whole"), output = folder.file("run"), log = folder.file("log");
    const run = ["--epochs", "60"];
    // USR2 comes 30 to 60 seconds before the limit.
    const flags = ["--time=00:02:00", "--signal=B:USR2@30"];
    const args = [...run, "--output", output];
    const job = await Job.submit(cluster, { script: "long_run.sh", flags, args, log });
    await cluster.untilDone(3600);
    const restarts = Number(await job.field("Restarts"));
    console.log(`${restarts} restarts\n${job.text}`);
    assert.ok(restarts >= 2, job.text);
    assert.equal(await job.field("ExitCode"), "0:0", job.text);
    const began = performance.now();
    succeeded(await lorikeet("train", [...run, "--output", whole]));
    console.log(`Without a limit it took ${Math.round((performance.now() - began) / 1000)} s`);
    assertSame(output, whole);
  },
  NOT_LONG,
);
