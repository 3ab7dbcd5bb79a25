/**
 * Runs commands in the tests' own process: starting another one takes longer than most commands do. What is about
 * processes, permissions, signals and terminals is for cli.ts.
 */
import { format } from "node:util";
import { type Main, statusOf } from "../../cli/run_main.ts";
import type { Outcome } from "./cli.ts";
import { shareDevices } from "./shared_device.ts";

const infer = async () => (await import("../../infer/main.ts")).main;

/** A command's entry point, and what comes before its arguments. */
const ENTRY: Record<string, { main: () => Promise<Main>; first?: string }> = {
  train: { main: async () => (await import("../../train/main.ts")).main },
  compare: { main: async () => (await import("../../train/compare/main.ts")).main },
  generate: { main: infer, first: "generate" },
  serve: { main: infer, first: "serve" },
  score: { main: infer, first: "score" },
  chat: { main: infer, first: "chat" },
  evaluate: { main: infer, first: "evaluate" },
  merge: { main: infer, first: "merge" },
  convert: { main: infer, first: "convert" },
  doctor: { main: async () => (await import("../../doctor/main.ts")).main },
  bundle: { main: async () => (await import("../../scripts/bundle.ts")).main },
  bench: { main: async () => (await import("../../bench/main.ts")).main },
  watch: { main: async () => (await import("../../train/watch/main.ts")).main },
  report: { main: async () => (await import("../../bench/course/report.ts")).main },
};

/** A stream that keeps what is written to it. */
class Kept {
  text = "";
  readonly #decoder = new TextDecoder();

  line = (...values: unknown[]): void => {
    this.text += `${format(...values)}\n`;
  };

  /** Takes the place of the stream's functions; returns what gives it back. */
  replace(stream: typeof Deno.stdout): () => void {
    const { writeSync, isTerminal } = stream;
    stream.writeSync = (bytes) => {
      this.text += this.#decoder.decode(bytes, { stream: true });
      return bytes.length;
    };
    stream.isTerminal = () => false;
    return () => Object.assign(stream, { writeSync, isTerminal });
  }
}

async function run(command: string, args: readonly string[]): Promise<Outcome> {
  const { main, first } = ENTRY[command], entry = await main();
  const began = performance.now(), stdout = new Kept(), stderr = new Kept();
  const giveBack = [
    stdout.replace(Deno.stdout),
    stderr.replace(Deno.stderr),
    shareDevices(),
  ];
  const { log, error } = console;
  Object.assign(console, { log: stdout.line, error: stderr.line });
  try {
    const code = await statusOf(entry, [...(first === undefined ? [] : [first]), ...args]);
    const seconds = (performance.now() - began) / 1000;
    return { code, stdout: stdout.text, stderr: stderr.text, seconds };
  } finally {
    Object.assign(console, { log, error });
    for (const give of giveBack) give();
  }
}

/** The command under way: the process has one standard output. */
let last: Promise<unknown> = Promise.resolve();

/** `lorikeet <command> <args>` without a process of its own, one after the other. */
export function lorikeetHere(command: string, args: readonly string[]): Promise<Outcome> {
  const outcome = last.then(() => run(command, args));
  last = outcome.catch(() => {});
  return outcome;
}
