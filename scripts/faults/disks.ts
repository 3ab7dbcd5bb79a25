/**
 * Fills a disk during each kind of write of a run, takes the permission to write away, and looks at what is left. Needs
 * Linux and root, to mount a small file system in memory:
 *
 *     ./lorikeet deno run --allow-all scripts/faults/disks.ts [NAME ...]
 *
 * Prints a line a case; the exit code is 1 where one failed.
 *
 * @module
 */
import { join } from "node:path";
import {
  doAll,
  exists,
  goOn,
  leftovers,
  linesOf,
  must,
  reference,
  Run,
  sameResults,
  states,
  TRAIN,
  wait,
} from "./run.ts";

/** Megabytes of the disk. */
const DISK = 32;

/** A small file system in memory, and what fills it. */
class Disk implements Disposable {
  readonly path: string = Deno.makeTempDirSync({ prefix: "lorikeet-disk-" });

  constructor() {
    this.#command("mount", "-t", "tmpfs", "-o", `size=${DISK}m`, "none", this.path);
  }

  #command(program: string, ...args: string[]): void {
    const { success, stderr } = new Deno.Command(program, { args }).outputSync();
    if (!success) throw new Error(new TextDecoder().decode(stderr));
  }

  file(name: string): string {
    return join(this.path, name);
  }

  /** Leaves so many bytes, or none. */
  fill(left = 0): void {
    const file = Deno.openSync(this.file("ballast"), { write: true, create: true, append: true });
    for (let bytes = 1 << 20; bytes >= 1;) {
      try {
        file.writeSync(new Uint8Array(bytes));
      } catch {
        bytes >>= 1;
      }
    }
    const { size } = file.statSync();
    file.truncateSync(size - left);
    file.close();
  }

  empty(): void {
    Deno.removeSync(this.file("ballast"));
  }

  [Symbol.dispose](): void {
    this.#command("umount", "-l", this.path);
    Deno.removeSync(this.path);
  }
}

/** A run on a disk, with its metrics. */
function start(
  disk: Disk,
  flags: readonly string[],
  options = {},
): { run: Run; output: string; lines: () => number } {
  const output = disk.file("run");
  const run = new Run("train", [...TRAIN, ...flags, "--output", output], options);
  return { run, output, lines: () => linesOf(join(output, "metrics.jsonl")).length };
}

/** A run whose disk is full from a step on, and after some seconds no more. */
async function passing(disk: Disk, flags: readonly string[], message: RegExp): Promise<void> {
  const { run, output, lines } = start(disk, flags);
  await run.until("four steps", () => lines() >= 4);
  disk.fill();
  await run.until("it says so", () => message.test(run.text));
  await wait(300);
  disk.empty();
  must(await run.end() === 0, run.text);
  must(run.count(message) === 1, `said ${run.count(message)} times: ${run.text}`);
  sameResults(output, await reference(flags));
  must(leftovers(output).length === 0, `left: ${leftovers(output)}`);
}

const LONG = ["--max-steps", "60"], SAVING = [...LONG, "--save-every", "2"];
const SOME = ["--max-steps", "40"], FULL = [...SOME, "--lora", "off", "--precision", "fp32"];
const EVALUATED = [
  ...LONG,
  ...["--eval-fraction", "0.05", "--eval-every", "3", "--eval-samples", "4"],
  ...["--csv", "--tensorboard"],
];
const SHORT = ["--max-steps", "6", "--save-every", "6"],
  HELD_OUT = [...SHORT, "--eval-fraction", "0.5"];

/**
 * A run that can write its last state but not what it trained.
 *
 * @param room Bytes that the state has, and half of what was trained.
 */
async function noResults(
  disk: Disk,
  flags: readonly string[],
  { result, room }: { result: string; room: number },
): Promise<void> {
  const { run, output, lines } = start(disk, flags);
  await run.until("three steps", () => lines() >= 3);
  disk.fill(room);
  must(await run.end() === 1, `exit code: ${run.text}`);
  must(
    /error: .*cannot write .*No space left.*the last good state is that of step 40/.test(run.text),
    run.text,
  );
  must(!exists(join(output, result)), `half of ${result} is there`);
  must(leftovers(output).length === 0, `left: ${leftovers(output)}`);
  disk.empty();
  await goOn(output, flags);
}

/** The cases by name. */
const CASES: Record<string, (disk: Disk) => Promise<void>> = {
  metrics: (disk) => passing(disk, LONG, /cannot write .*metrics\.jsonl.*the run goes on/),

  evaluations: (disk) =>
    passing(disk, EVALUATED, /cannot write .*evaluations\.jsonl.*the run goes on/),

  "best adapter": (disk) =>
    passing(disk, [...EVALUATED, "--keep-best"], /cannot write .*metrics\.jsonl.*the run goes on/),

  state: (disk) => passing(disk, SAVING, /cannot write .*states\/step-\d+.*the run goes on/),

  async stopped(disk) {
    const { run, output, lines } = start(disk, SAVING);
    await run.until("six steps", () => lines() >= 6);
    disk.fill();
    run.kill("SIGTERM");
    must(await run.end() === 1, `exit code: ${run.text}`);
    must(
      /error: cannot write .*states.*the last good state is that of step \d+/.test(run.text),
      run.text,
    );
    must(leftovers(output).length === 0, `left: ${leftovers(output)}`);
    disk.empty();
    await goOn(output, SAVING);
  },

  async everything(disk) {
    const { run, output, lines } = start(disk, LONG);
    await run.until("six steps", () => lines() >= 6);
    disk.fill();
    await run.until("its end", () => /this is tried again/.test(run.text));
    disk.empty();
    must(await run.end() === 0, run.text);
    sameResults(output, await reference(LONG));
  },

  async "give up"(disk) {
    const { run, output, lines } = start(disk, LONG);
    await run.until("six steps", () => lines() >= 6);
    disk.fill();
    await run.until("its end", () => /this is tried again/.test(run.text));
    run.kill("SIGINT");
    must(await run.end() === 1, run.text);
    must(
      /error: not everything could be written: .*states.*adapter.*no state was saved/.test(
        run.text,
      ),
      run.text,
    );
    must(!exists(join(output, "adapter")) && states(output).length === 0, "something half written");
  },

  adapter: (disk) => noResults(disk, SOME, { result: "adapter", room: 400_000 + 60_000 }),

  model: (disk) => noResults(disk, FULL, { result: "model", room: 14_000_000 }),

  async summary(disk) {
    const { run, output } = start(disk, HELD_OUT);
    await run.until("the adapter", () => exists(join(output, "adapter")));
    disk.fill();
    must(await run.end() === 1, `exit code: ${run.text}`);
    must(/error: .*cannot write .*summary\.json/.test(run.text), run.text);
    must(!exists(join(output, "summary.json")), "half of summary.json is there");
    disk.empty();
    await goOn(output, HELD_OUT);
    must(exists(join(output, "summary.json")), "no summary.json");
  },

  async "convert and merge"(disk) {
    disk.fill(1_500_000); // the model has 2 MB
    const adapter = join(await reference(SOME), "adapter");
    for (const flags of [[], ["--adapter", adapter]]) {
      for (const name of ["model", "model.gguf"]) {
        const [command, output] = [flags.length > 0 ? "merge" : "convert", disk.file(name)];
        const run = new Run(command, ["--model", "builtin", "--output", output, ...flags]);
        must(await run.end() === 1, run.text);
        must(/error: cannot write .*(No space left|are free there)/.test(run.text), run.text);
        must([...Deno.readDirSync(disk.path)].length === 1, `something is left of ${name}`);
      }
    }
  },

  async "chat's /save"(disk) {
    const chat = new Run(
      "chat",
      ["--model", "builtin", "--template", "none", "--max-tokens", "2"],
      { input: true },
    );
    await chat.type("Who lives in the cave?\n");
    disk.fill();
    await chat.type(`/save ${disk.file("chat.json")}\n`);
    await chat.until("the refusal", () => /error: cannot write .*chat\.json/.test(chat.text));
    must(!exists(disk.file("chat.json")), "an empty file is there");
    disk.empty();
    await chat.type(`/save ${disk.file("chat.json")}\n/exit\n`);
    must(await chat.end() === 0, chat.text);
    must(
      JSON.parse(Deno.readTextFileSync(disk.file("chat.json"))).messages.length === 2,
      "messages",
    );
    must([...Deno.readDirSync(disk.path)].length === 1, "something else is left");
  },

  async "read-only folder"(disk) {
    const { run, output, lines } = start(disk, SAVING, { plain: true });
    await run.until("six steps", () => lines() >= 6);
    const folders = [output, join(output, "states")];
    for (const folder of folders) Deno.chmodSync(folder, 0o555);
    await run.until("it says so", () => /permission denied.*the run goes on/.test(run.text));
    await wait(300);
    for (const folder of folders) Deno.chmodSync(folder, 0o755);
    must(await run.end() === 0, run.text);
    must(run.count(/the run goes on/) === 1, run.text);
    sameResults(output, await reference(SAVING));
  },

  async "read-only to the end"(disk) {
    const { run, output } = start(disk, SHORT, { plain: true });
    await run.until("the last state", () => states(output).includes("step-00000006"));
    Deno.chmodSync(output, 0o555);
    must(await run.end() === 1, `exit code: ${run.text}`);
    must(/error: .*cannot write .*adapter: permission denied/.test(run.text), run.text);
    Deno.chmodSync(output, 0o755);
    await goOn(output, SHORT);
  },
};

if (import.meta.main) {
  const names = Deno.args.length > 0 ? Deno.args : Object.keys(CASES);
  await doAll(
    new Map(names.map((name) => [name, async () => {
      using disk = new Disk();
      await CASES[name](disk);
    }])),
  );
}
