/**
 * What the scripts share that disturb runs: a run under way, and the comparison with one that nobody disturbed.
 *
 * @module
 */
import { join } from "node:path";

const ROOT = join(import.meta.dirname ?? ".", "..", "..");
/** Flags of every run. */
export const TRAIN = [
  "--model",
  "builtin",
  "--gradient-accumulation-steps",
  "4",
  "--max-length",
  "128",
];

/** What is wrong in a case. */
export class Wrong extends Error {}

export function must(good: boolean, what: string): asserts good {
  if (!good) throw new Wrong(what);
}

export const wait = (milliseconds: number): Promise<unknown> =>
  new Promise((resolve) => setTimeout(resolve, milliseconds));

export function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch {
    return false;
  }
}

/** A command of Lorikeet under way. */
export class Run {
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
      env: { LORIKEET_HANGUP: "heard" },
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

  /** Sends a signal. @returns Whether it was still there. */
  kill(signal: Deno.Signal): boolean {
    try {
      this.#process.kill(signal);
      return true;
    } catch (error) {
      if (error instanceof TypeError) return false;
      throw error;
    }
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
export function linesOf(path: string): string[] {
  return exists(path) ? Deno.readTextFileSync(path).split("\n").slice(0, -1) : [];
}

/** The lines of a run's steps or evaluations, without times. */
function timeless(path: string): string {
  return linesOf(path).map((line) => {
    const { seconds: _, ...rest } = JSON.parse(line);
    return JSON.stringify(rest);
  }).join("\n");
}

/** Names in a folder and in those in it that no complete run has: what was left half written. */
export function leftovers(folder: string): string[] {
  return [...Deno.readDirSync(folder)].flatMap(({ name, isDirectory }) => [
    ...(/partial|\.new$|\.old$/.test(name) ? [name] : []),
    ...(isDirectory ? leftovers(join(folder, name)) : []),
  ]);
}

/** Whether two runs wrote the same adapter or model, and the same steps. */
export function sameResults(a: string, b: string): void {
  const name = exists(join(a, "adapter"))
    ? "adapter/adapter_model.safetensors"
    : "model/model.safetensors";
  const [one, other] = [a, b].map((folder) => Deno.readFileSync(join(folder, name)));
  must(one.length === other.length && one.every((byte, i) => byte === other[i]), `another ${name}`);
  for (const file of ["metrics.jsonl", "evaluations.jsonl"]) {
    must(timeless(join(a, file)) === timeless(join(b, file)), `other lines in ${file}`);
  }
}

/** The same run without a fault, by its flags. */
const undisturbed = new Map<string, Promise<string>>();

export function reference(flags: readonly string[]): Promise<string> {
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

/** Goes on with a run, which then has what one without a fault has. */
export async function goOn(output: string, flags: readonly string[]): Promise<void> {
  const again = new Run("train", [...TRAIN, ...flags, "--output", output, "--resume", "auto"]);
  must(await again.end() === 0, again.text);
  sameResults(output, await reference(flags));
}

/** The names of a run's states, the oldest first. */
export const states = (output: string): string[] => {
  const folder = join(output, "states");
  return exists(folder) ? [...Deno.readDirSync(folder)].map(({ name }) => name).sort() : [];
};

/** Does cases one after the other, a line each, and exits with 1 where one failed. */
export async function doAll(cases: ReadonlyMap<string, () => Promise<void>>): Promise<never> {
  let failed = 0;
  for (const [name, test] of cases) {
    const began = performance.now();
    const why = await test().then(() => undefined, (error) => error);
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
