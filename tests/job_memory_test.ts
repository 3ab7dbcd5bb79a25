/** What the launcher finds a job to have of memory, on machines made of the files of /proc and /sys. */
import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { hostMemory } from "../kernels/measure/host_memory.ts";
import { ROOT } from "../scripts/compile.ts";
import { TemporaryFolder } from "./cli/cli.ts";
import { fakeDeno, FakeSystem, variableOf } from "./fake_system.ts";
import { Variables } from "./variables.ts";

const MEBIBYTE = 2 ** 20;
/** What version 1 has where nothing is limited. */
const UNLIMITED = "9223372036854771712";
/** The launcher stops with its own function. */
const SCRIPT = `set -eu
fail() { echo "$1" >&2; exit 1; }
. '${join(ROOT, "scripts/launch/job_memory.sh")}'
find_job_memory "$1"
printf %s "\${LORIKEET_JOB_MEMORY-unlimited}"`;

/** Runs the shell's part on a machine of these files, by path. */
function find(
  files: Record<string, string>,
  env: Record<string, string> = {},
): { found: string; stderr: string } {
  using folder = new TemporaryFolder();
  for (const [path, text] of Object.entries(files)) {
    const file = folder.file(path);
    Deno.mkdirSync(dirname(file), { recursive: true });
    Deno.writeTextFileSync(file, `${text}\n`);
  }
  const { stdout, stderr } = new Deno.Command("sh", {
    args: ["-c", SCRIPT, "sh", folder.path],
    env: { ...env, LORIKEET_JOB_MEMORY: "1 of another start" },
    clearEnv: true,
  }).outputSync();
  const text = new TextDecoder();
  return { found: text.decode(stdout), stderr: text.decode(stderr) };
}

function memoryTest(name: string, body: () => void | Promise<void>): void {
  const windows = Deno.build.os === "windows";
  const ignored = windows ? " (ignored: no POSIX shell on Windows)" : "";
  Deno.test({ name: `job memory: ${name}${ignored}`, ignore: windows, fn: body });
}

/** The files of a control group of version 2; with a folder of this name in it. */
const group2 = (folder: string, limit: string, used: number, stat = "anon 5") => ({
  [`${folder}/memory.max`]: limit,
  [`${folder}/memory.current`]: `${used}`,
  [`${folder}/memory.stat`]: stat,
});
const group1 = (folder: string, limit: string, used: number, stat = "cache 5") => ({
  [`sys/fs/cgroup/memory${folder}/memory.limit_in_bytes`]: limit,
  [`sys/fs/cgroup/memory${folder}/memory.usage_in_bytes`]: `${used}`,
  [`sys/fs/cgroup/memory${folder}/memory.stat`]: stat,
});

memoryTest("nothing is limited, and the variable of an outer start is gone", () => {
  assert.deepEqual(find({}), { found: "unlimited", stderr: "" });
  const files = {
    "proc/self/cgroup": "4:memory:/a/b\n1:cpu:/c\n0::/a",
    "proc/self/limits": "Max data size   unlimited  unlimited  bytes",
    ...group1("/a/b", UNLIMITED, 7),
    ...group1("", UNLIMITED, 9),
    ...group2("sys/fs/cgroup/a", "max", 7),
  };
  assert.deepEqual(find(files, { SLURM_MEM_PER_NODE: "0" }), { found: "unlimited", stderr: "" });
});

memoryTest("of a control group and all around it the least that is left counts", () => {
  const step = "/system.slice/slurmstepd.scope/job_7/step_batch/user/task_0";
  const files = (job: [string, number], scope: [string, number]) => ({
    "proc/self/cgroup": `0::${step}`,
    ...group2(`sys/fs/cgroup${step}`, "max", 100),
    ...group2("sys/fs/cgroup/system.slice/slurmstepd.scope/job_7", ...job),
    ...group2("sys/fs/cgroup/system.slice", ...scope),
  });
  const job = "the control group /system.slice/slurmstepd.scope/job_7";
  assert.equal(find(files(["5000", 900], ["9000", 100])).found, `4100 ${job}`);
  // The outer group is nearer to its larger limit.
  const { found } = find(files(["5000", 900], ["9000", 8000]));
  assert.equal(found, "1000 the control group /system.slice");
  assert.equal(find(files(["5000", 5100], ["9000", 100])).found, `0 ${job}`);
});

memoryTest("pages of cached files are not counted as used, in both versions", () => {
  const stat = "anon 300\ninactive_file 400\nactive_file 50\nfile 999\nworkingset_refault_file 7";
  const second = { "proc/self/cgroup": "0::/j", ...group2("sys/fs/cgroup/j", "5000", 800, stat) };
  assert.equal(find(second).found, "4650 the control group /j");
  // The names without total_ are those of the group without the groups in it.
  const total = "inactive_file 1\nactive_file 2\ntotal_inactive_file 400\ntotal_active_file 50";
  const first = {
    "proc/self/cgroup": "5:cpu,memory:/slurm/job_3/step_0\n0::/",
    ...group1("/slurm/job_3", "5000", 800, total),
  };
  assert.equal(find(first).found, "4650 the control group /slurm/job_3");
  // More cache than use: the files are read one after the other.
  const moved = {
    "proc/self/cgroup": "0::/j",
    ...group2("sys/fs/cgroup/j", "5000", 1, "active_file 9"),
  };
  assert.equal(find(moved).found, "5000 the control group /j");
});

memoryTest("a container's limit is found at the root of what it sees", () => {
  const limited = "6000 the control group /";
  const outside = {
    "proc/self/cgroup": "9:memory:/docker/4f5e\n0::/docker/4f5e",
    ...group1("", "7000", 1000),
  };
  assert.equal(find(outside).found, limited);
  const namespaced = (path: string) => ({
    "proc/self/cgroup": `0::${path}`,
    "sys/memory.max": "3",
    ...group2("sys/fs/cgroup", "7000", 1000),
  });
  assert.equal(find(namespaced("/")).found, limited);
  assert.equal(find(namespaced("/../../other")).found, limited);
});

memoryTest("version 2 is found beside version 1, and odd files are passed over", () => {
  const hybrid = {
    "proc/self/cgroup": "no line\n4:memory:/a\n0::/run:1/a b",
    ...group1("/a", "", 1),
    ...group2("sys/fs/cgroup/unified/run:1/a b", "900", 100),
  };
  const { found, stderr } = find(hybrid);
  assert.deepEqual([found, stderr], ["800 the control group /run:1/a b", ""]);
});

memoryTest("Slurm's variables count, by node, processor and GPU", () => {
  const { found: node } = find({}, { SLURM_MEM_PER_NODE: "500" });
  assert.equal(node, `${500 * MEBIBYTE} SLURM_MEM_PER_NODE`);
  const { found: cpu } = find({}, { SLURM_MEM_PER_CPU: "500", SLURM_CPUS_ON_NODE: "3" });
  assert.equal(cpu, `${1500 * MEBIBYTE} SLURM_MEM_PER_CPU`);
  const { found: gpu } = find({}, { SLURM_MEM_PER_GPU: "4000", SLURM_GPUS_ON_NODE: "2" });
  assert.equal(gpu, `${8000 * MEBIBYTE} SLURM_MEM_PER_GPU`);
  assert.equal(find({}, { SLURM_MEM_PER_CPU: "500" }).found, "unlimited");
  assert.equal(find({}, { SLURM_MEM_PER_NODE: "$(echo 5)" }).found, "unlimited");
  const files = { "proc/self/cgroup": "0::/j", ...group2("sys/fs/cgroup/j", "5000", 0) };
  assert.equal(find(files, { SLURM_MEM_PER_NODE: "500" }).found, "5000 the control group /j");
});

memoryTest("the limits of the shell count beyond what Deno takes of them itself", () => {
  const limits = (name: string, soft: number) => ({
    "proc/self/limits":
      `Limit  Soft Limit  Hard Limit  Units\nMax resident set  5  5  bytes\nMax ${name}  ${soft}  unlimited  bytes`,
  });
  assert.equal(
    find(limits("data size", 3 * 2 ** 30)).found,
    `${2 ** 31} the limit of data, ulimit -d`,
  );
  assert.equal(
    find(limits("address space", 40 * 2 ** 30)).found,
    `${20 * 2 ** 30} the limit of the address space, ulimit -v`,
  );
  const { found, stderr } = find(limits("address space", 8 * 2 ** 30));
  assert.equal(found, "");
  assert.match(
    stderr,
    /^the address space is limited to 8589934592 bytes \(ulimit -v\), and Deno needs \d+/,
  );
});

memoryTest("the launcher hands it on, planned and by the kept plan", async () => {
  await using system = await FakeSystem.create();
  await system.program("deno", fakeDeno("2.9.6"));
  await system.softwareDriver();
  const handedOn = async (env: Record<string, string>) =>
    variableOf(await system.run(["train"], { env }), "LORIKEET_JOB_MEMORY");
  assert.equal(await handedOn({ SLURM_MEM_PER_NODE: "5" }), `${5 * MEBIBYTE} SLURM_MEM_PER_NODE`);
  assert.equal(await handedOn({ SLURM_MEM_PER_NODE: "6" }), `${6 * MEBIBYTE} SLURM_MEM_PER_NODE`);
  assert.equal(await handedOn({ LORIKEET_JOB_MEMORY: "7 of another start" }), "unset");
  const limits = "Max address space  8589934592  unlimited  bytes\n";
  await system.file("proc/self/limits", limits);
  const { code, stderr } = await system.run(["--version"]);
  assert.equal(code, 1);
  assert.match(stderr, /^error: the address space is limited to 8589934592 bytes/);
});

Deno.test("job memory: the program has the less of the job's memory and the machine's", () => {
  const memoryOf = (LORIKEET_JOB_MEMORY: string | undefined) => {
    using _ = new Variables({ LORIKEET_JOB_MEMORY });
    return hostMemory();
  };
  const machine = memoryOf(undefined);
  assert.ok(machine !== undefined && machine.bytes > 0 && machine.limit === undefined);
  for (const odd of ["", "much", "12", "-5 x", "99999999999999999 all"]) {
    assert.equal(memoryOf(odd)?.limit, undefined, odd);
  }
  const most = 2 ** 30 + Deno.memoryUsage().rss;
  const job = memoryOf(`${most} the control group /a b`);
  assert.equal(job?.limit, "the control group /a b");
  // What this process has taken is not left any more.
  assert.ok(Math.abs(job.bytes - 2 ** 30) < 2 ** 27, `${job.bytes}`);
  assert.deepEqual(memoryOf("5 SLURM_MEM_PER_NODE"), { bytes: 0, limit: "SLURM_MEM_PER_NODE" });
});
