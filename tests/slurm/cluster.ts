/**
 * A cluster of Slurm with this machine as its only node, made of Debian's slurm-wlm and munge: its configuration, keys
 * and logs lie in a temporary folder, and nothing of the system's own is changed.
 *
 * @module
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { exists, TemporaryFolder } from "../cli/cli.ts";

/** The programs of a cluster, and where a root's PATH need not lead. */
const DAEMONS = ["munged", "slurmctld", "slurmd"] as const;
const FOLDERS = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

export const wait = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Where a program of root's is. */
function pathOf(program: string): string | undefined {
  const folders = [...(Deno.env.get("PATH") ?? "").split(":"), ...FOLDERS];
  return folders.map((folder) => join(folder, program)).find((path) => {
    try {
      return Deno.statSync(path).isFile;
    } catch {
      return false;
    }
  });
}

/** Why no cluster can be started here; undefined where one can. */
export function whyNoCluster(): string | undefined {
  if (Deno.build.os !== "linux") return "Slurm runs on Linux";
  if (Deno.uid() !== 0) return "Slurm's daemon of a node is root's";
  const missing = [...DAEMONS, "sbatch"].find((program) => pathOf(program) === undefined);
  return missing && `no ${missing}; apt-get install slurm-wlm munge`;
}

/**
 * Memory is given to jobs and not enforced, as the control groups of a container can't be used. A requeued job waits
 * until its old credential has expired, which takes 2 minutes where `cred_expire` doesn't say less.
 */
function configuration(folder: string, port: number): string {
  const mebibytes = Math.floor(0.9 * Deno.systemMemoryInfo().total / 2 ** 20);
  return `ClusterName=lorikeet
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=${port}
SlurmdPort=${port + 1}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=${folder}/munge.socket,cred_expire=5
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation=${folder}/controller
SlurmdSpoolDir=${folder}/node
SlurmctldPidFile=${folder}/slurmctld.pid
SlurmdPidFile=${folder}/slurmd.pid
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=1
SlurmdParameters=config_overrides
ReturnToService=2
NodeName=localhost NodeAddr=127.0.0.1 CPUs=${navigator.hardwareConcurrency} RealMemory=${mebibytes}
PartitionName=all Nodes=localhost Default=YES MaxTime=UNLIMITED State=UP
`;
}

/** A running cluster, which ends with all its jobs when it goes out of scope. */
export class SlurmCluster implements AsyncDisposable {
  readonly #folder = new TemporaryFolder();
  readonly #daemons: Deno.ChildProcess[] = [];

  private constructor(private readonly workplace: string) {}

  /** Starts the daemons, and waits until the node takes jobs. @param workplace Where jobs are submitted and work. */
  static async start(workplace: string): Promise<SlurmCluster> {
    const cluster = new SlurmCluster(workplace);
    try {
      await cluster.#start();
      return cluster;
    } catch (error) {
      await cluster[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #start(): Promise<void> {
    const folder = this.#folder;
    // Below the ports that the system gives to clients.
    const port = 20_000 + 2 * Math.floor(Math.random() * 5000);
    folder.file("slurm.conf", configuration(folder.path, port));
    folder.file("munge.key", crypto.getRandomValues(new Uint8Array(1024)));
    Deno.chmodSync(folder.file("munge.key"), 0o400);
    for (const name of ["controller", "node"]) Deno.mkdirSync(folder.file(name));
    this.#startDaemon("munged", [
      ...["--foreground", "--force", "--socket", folder.file("munge.socket")],
      ...["key", "pid", "seed", "log"].flatMap((
        name,
      ) => [`--${name}-file`, folder.file(`munge.${name}`)]),
    ]);
    this.#startDaemon("slurmctld", ["-D"]);
    this.#startDaemon("slurmd", ["-D", "-N", "localhost"]);
    await this.until(
      "the node is idle",
      async () =>
        (await this.#output("sinfo", ["--noheader", "--format=%T"])).stdout.trim() === "idle",
    );
  }

  /** Starts a program of the cluster, which writes to a file of its name. */
  #startDaemon(name: typeof DAEMONS[number], args: string[]): void {
    const log = this.#folder.file(`${name}.out`);
    this.#daemons.push(
      new Deno.Command("sh", {
        args: ["-c", 'exec "$@" >"$0" 2>&1', log, pathOf(name) ?? name, ...args],
        env: { SLURM_CONF: this.#folder.file("slurm.conf") },
        stdin: "null",
      }).spawn(),
    );
  }

  async #output(program: string, args: string[]): Promise<{ success: boolean; stdout: string }> {
    const { success, stdout, stderr } = await new Deno.Command(program, {
      args,
      cwd: this.workplace,
      env: { SLURM_CONF: this.#folder.file("slurm.conf"), NO_COLOR: "1" },
      stdin: "null",
    }).output();
    const text = new TextDecoder();
    return { success, stdout: text.decode(success ? stdout : stderr) };
  }

  /** Runs a program of Slurm's. @returns What it printed. */
  async run(program: string, ...args: string[]): Promise<string> {
    const { success, stdout } = await this.#output(program, args);
    assert.ok(success, `${program} ${args.join(" ")}: ${stdout}`);
    return stdout.trim();
  }

  /** Waits for what `holds` says. @param seconds After so many it fails, with what the daemons wrote. */
  async until(
    what: string,
    holds: () => boolean | Promise<boolean>,
    seconds = 120,
  ): Promise<void> {
    const end = performance.now() + 1000 * seconds;
    while (!await holds()) {
      assert.ok(performance.now() < end, `not within ${seconds} s: ${what}\n${this.#logs()}`);
      await wait(100);
    }
  }

  /** Waits until no job is left in the queue. */
  async untilDone(seconds?: number): Promise<void> {
    const queue = async () => await this.run("squeue", "--noheader", "--format=%i");
    await this.until("all jobs are done", async () => await queue() === "", seconds);
  }

  /** The last lines that the daemons wrote. */
  #logs(): string {
    return DAEMONS.flatMap((name) => {
      const log = this.#folder.file(`${name}.out`);
      return exists(log) ? Deno.readTextFileSync(log).split("\n").slice(-10) : [];
    }).join("\n");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#output("scancel", ["--user=root"]);
    // The node kills what a job has left running after half a minute: a failed test does not wait for that.
    await this.#output("scancel", ["--user=root", "--full", "--signal=KILL"]);
    for (const daemon of this.#daemons.reverse()) {
      daemon.kill("SIGTERM");
      await daemon.status;
    }
    this.#folder[Symbol.dispose]();
  }
}
