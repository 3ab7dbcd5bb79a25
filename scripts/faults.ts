/**
 * Fills a disk during each kind of write of a run, takes the permission to write away, and looks at what is left. Needs
 * Linux and root, to mount a small file system in memory:
 *
 *     ./lorikeet deno run --allow-all scripts/faults.ts [NAME ...]
 *
 * Prints a line a case; the exit code is that of failure where one failed.
 *
 * @module
 */
import { join } from "node:path";

const ROOT = join(import.meta.dirname ?? ".", "..");
const TRAIN = ["--model", "builtin", "--gradient-accumulation-steps", "4", "--max-length", "128"];
/** Megabytes of the disk. */
const DISK = 32;

/** What is wrong in a case. */
class Wrong extends Error {}

function must(good: boolean, what: string): asserts good {
  if (!good) throw new Wrong(what);
}

const wait = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch {
    return false;
  }
}

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

/** A command of Lorikeet under way. */
class Run {
  readonly #process: Deno.ChildProcess;
  readonly #ended: Promise<unknown>;
  /** What it said so far. */
  text = "";

  /** @param plain Whether root's leave to write everywhere is taken from it. */
  constructor(command: string, args: readonly string[], { plain = false, input = false } = {}) {
    const launcher = join(ROOT, "lorikeet");
    const drop = ["--inh-caps=-all", "--bounding-set=-all", launcher, command];
    this.#process = new Deno.Command(plain ? "setpriv" : launcher, {
      args: [...(plain ? drop : [command]), ...args],
      stdin: input ? "piped" : "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const { stdout, stderr } = this.#process;
    this.#ended = Promise.all([stdout, stderr].map(async (stream) => {
      for await (const text of stream.pipeThrough(new TextDecoderStream())) this.text += text;
    }));
  }

  async type(text: string): Promise<void> {
    const writer = this.#process.stdin.getWriter();
    await writer.write(new TextEncoder().encode(text));
    writer.releaseLock();
  }

  kill(signal: Deno.Signal): void {
    this.#process.kill(signal);
  }

  async until(what: string, holds: () => boolean): Promise<void> {
    let over = false;
    this.#process.status.then(() => over = true);
    for (const end = performance.now() + 120_000; !holds(); await wait(2)) {
      must(!over && performance.now() < end, `it ended before ${what}: ${this.text}`);
    }
  }

  /** Waits for its end. @returns The exit code. */
  async end(): Promise<number> {
    const { code } = await this.#process.status;
    await this.#ended;
    return code;
  }

  /** How often a text was said. */
  count(pattern: RegExp): number {
    return this.text.match(new RegExp(pattern, "g"))?.length ?? 0;
  }
}

/** Lines of a file. */
function linesOf(path: string): string[] {
  return exists(path) ? Deno.readTextFileSync(path).split("\n").slice(0, -1) : [];
}

/** The lines of a run's steps without times. */
function steps(output: string): string {
  return linesOf(join(output, "metrics.jsonl")).map((line) => {
    const { seconds: _, ...rest } = JSON.parse(line);
    return JSON.stringify(rest);
  }).join("\n");
}

/** Names in a folder and in those in it that no complete run has: what was left half written. */
function leftovers(folder: string): string[] {
  return [...Deno.readDirSync(folder)].flatMap(({ name, isDirectory }) => [
    ...(/partial|\.new$|\.old$/.test(name) ? [name] : []),
    ...(isDirectory ? leftovers(join(folder, name)) : []),
  ]);
}

/** Whether two runs wrote the same adapter or model, and the same steps. */
function sameResults(a: string, b: string): void {
  const name = exists(join(a, "adapter"))
    ? "adapter/adapter_model.safetensors"
    : "model/model.safetensors";
  const [one, other] = [a, b].map((folder) => Deno.readFileSync(join(folder, name)));
  must(one.length === other.length && one.every((byte, i) => byte === other[i]), `another ${name}`);
  must(steps(a) === steps(b), "other lines in metrics.jsonl");
}

/** The same run without a fault, by its flags. */
const undisturbed = new Map<string, Promise<string>>();

function reference(flags: readonly string[]): Promise<string> {
  const key = flags.join(" ");
  const made = undisturbed.get(key) ?? (async () => {
    const output = join(Deno.makeTempDirSync({ prefix: "lorikeet-reference-" }), "run");
    const run = new Run("train", [...TRAIN, ...flags, "--output", output]);
    must(await run.end() === 0, run.text);
    return output;
  })();
  undisturbed.set(key, made);
  return made;
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

/** Goes on with a run, which then has what one without a fault has. */
async function goOn(output: string, flags: readonly string[]): Promise<void> {
  const again = new Run("train", [...TRAIN, ...flags, "--output", output, "--resume", "auto"]);
  must(await again.end() === 0, again.text);
  sameResults(output, await reference(flags));
}

const states = (output: string) => {
  const folder = join(output, "states");
  return exists(folder) ? [...Deno.readDirSync(folder)].map(({ name }) => name).sort() : [];
};

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
    /error: .*cannot write .*No space left.*the last good state is .*-00000040/.test(run.text),
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

  state: (disk) => passing(disk, SAVING, /cannot write .*states\/step-\d+.*the run goes on/),

  async stopped(disk) {
    const { run, output, lines } = start(disk, SAVING);
    await run.until("six steps", () => lines() >= 6);
    disk.fill();
    run.kill("SIGTERM");
    must(await run.end() === 1, `exit code: ${run.text}`);
    must(
      /error: cannot write .*states.*the last good state is .*step-\d+/.test(run.text),
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
  let failed = 0;
  for (const name of names) {
    const began = performance.now();
    using disk = new Disk();
    const why = await CASES[name](disk).then(() => undefined, (error) => error);
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    console.log(`${why === undefined ? "ok    " : "FAILED"} ${name} (${seconds} s)`);
    if (why === undefined) continue;
    failed++;
    console.log(why instanceof Wrong ? `  ${why.message}` : why);
  }
  for (const output of undisturbed.values()) {
    Deno.removeSync(join(await output, ".."), { recursive: true });
  }
  Deno.exit(failed > 0 ? 1 : 0);
}
