/**
 * Commands in processes of their own, and what is demanded of each, whatever it is given.
 *
 * @module
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { printable } from "../../kernels/terminal.ts";
import type { ProgramName } from "../../scripts/launch/permissions.ts";
import { denoArguments, exists, type Outcome, TemporaryFolder } from "../cli/cli.ts";

/** Which inputs of a kind are tried: as many as the variable says, or those of a range such as 400-1000; a few without it. */
const ASKED = Deno.env.get("LORIKEET_FUZZ_INPUTS");
const [FIRST, LAST] = (ASKED ?? "5").split("-").map(Number);

/** Numbers of the inputs that are tried. */
export function tries(): number[] {
  const [from, to] = LAST === undefined ? [0, FIRST] : [FIRST, LAST];
  return Array.from({ length: to - from }, (_, i) => from + i);
}

/** Of a processor; a machine that has other work takes longer. */
const MOST_SECONDS = 5;
const MOST_KILOBYTES = 300_000, MOST_CHARACTERS = 10_000;
/** Seconds after which a command does not end. */
const PATIENCE = 100;
/** GNU's `time`, which tells what a process took. Deno itself may not be asked about other processes. */
const TIME = "/usr/bin/time";

/** What a run of a command was, and took. */
interface Measured extends Outcome {
  /** Seconds of a processor, and most memory; 0 where `time` is missing. */
  busy: number;
  kilobytes: number;
}

async function measure(command: ProgramName, args: readonly string[]): Promise<Measured> {
  using folder = new TemporaryFolder();
  const file = folder.file("time", "0 0 0"), began = performance.now();
  const timed = exists(TIME) ? [TIME, "-q", "-o", file, "-f", "%U %S %M"] : [];
  const [program, ...words] = [...timed, "timeout", `${PATIENCE}`, Deno.execPath()];
  const { code, stdout, stderr } = await new Deno.Command(program, {
    args: [...words, ...await denoArguments(command, args)],
    env: { NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).output();
  const seconds = (performance.now() - began) / 1000;
  const [user, system, kilobytes] = Deno.readTextFileSync(file).trim().split(" ").map(Number);
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  const busy = user + system;
  return { code, stdout: text(stdout), stderr: text(stderr), seconds, busy, kilobytes };
}

/** Whether a run's folder is one in which steps were done. */
function hasSteps(folder: string): boolean {
  const metrics = join(folder, "metrics.jsonl");
  return exists(metrics) && Deno.statSync(metrics).size > 0;
}

/** The slowest and the largest run of a test, for those who want to know. */
export class Worst {
  #busy = 0;
  #runs = 0;
  #kilobytes = 0;
  readonly #codes = new Map<number, number>();

  add({ busy, kilobytes, code }: Measured): void {
    this.#runs++;
    this.#busy = Math.max(this.#busy, busy);
    this.#kilobytes = Math.max(this.#kilobytes, kilobytes);
    this.#codes.set(code, (this.#codes.get(code) ?? 0) + 1);
    if (this.#runs % 100 === 0) this.tell();
  }

  tell(): void {
    if (ASKED === undefined) return;
    const codes = [...this.#codes].map(([code, runs]) => `${runs} with exit code ${code}`);
    const [slowest, largest] = [this.#busy.toFixed(1), (this.#kilobytes / 1000).toFixed(0)];
    console.log(`${codes.join(", ")}; slowest ${slowest} s, largest ${largest} MB`);
  }
}

/**
 * Runs a command: it ends well or with one clear sentence, within time and memory, prints nothing that a terminal would
 * obey, and leaves nothing half done.
 *
 * @param output What it would write.
 */
export async function demand(
  command: ProgramName,
  args: readonly string[],
  output: string,
  worst: Worst,
): Promise<void> {
  const outcome = await measure(command, args), { code, stdout, stderr } = outcome;
  worst.add(outcome);
  const what = `lorikeet ${command} ${JSON.stringify(args)}: exit ${code}\n${stderr.slice(-2000)}`;
  for (const text of [stdout, stderr]) {
    assert.ok(text === printable(text), `a control character: ${what}`);
    assert.doesNotMatch(text, /^\s+at .*:\d+|Uncaught|panicked|\[object /m, what);
  }
  assert.doesNotMatch(stderr, /--debug for the stack/, what);
  assert.ok([0, 1, 2, 3].includes(code), what);
  if (code !== 0) {
    const errors = stderr.match(/^error: \S/gm) ?? [];
    assert.equal(errors.length, 1, what);
    assert.ok(stderr.length - stderr.search(/^error: /m) < MOST_CHARACTERS, what);
    assert.ok(!exists(output) || hasSteps(output), `left ${output}: ${what}`);
  }
  assert.ok(outcome.busy < MOST_SECONDS, `${outcome.busy} s: ${what}`);
  assert.ok(outcome.kilobytes < MOST_KILOBYTES, `${outcome.kilobytes} kB: ${what}`);
  if (exists(output)) Deno.removeSync(output, { recursive: true });
}
