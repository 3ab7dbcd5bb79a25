/** Runs the commands as the launcher does: a process of their own with the permissions it gives them. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { launcherPermissions, ROOT } from "../../scripts/compile.ts";
import { programCommand, type ProgramName, PROGRAMS } from "../../scripts/launch/permissions.ts";
import { fixturePath } from "../fixtures.ts";

/** A tokenizer of 360 ids, for models that bring none. */
export const TOKENIZER: string = fixturePath("tiny_tokenizer.model");

/** What a command left behind. */
export interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
  seconds: number;
}

/** The launcher's permissions. */
function permissionsOf(command: string, args: readonly string[]): string[] {
  // Deno warns about programs that it is told of and can't find; what they'd say is not tested.
  return launcherPermissions(command, args).filter((flag) => !flag.startsWith("--allow-run"));
}

/** Leave to load Dawn, where the tests were given it. */
export function nativePermissions(): string[] {
  const dawn = Deno.env.get("DAWN_NODE");
  return dawn ? [`--allow-ffi=${dawn}`] : [];
}

/** What Deno is given to run `lorikeet <command> <args>`. */
export function denoArguments(
  command: ProgramName,
  args: readonly string[],
): string[] {
  return [
    ...["run", "--quiet", "--no-check", "--frozen", "--config", join(ROOT, "deno.json")],
    ...programCommand(command, args).v8Flags ?? [],
    ...permissionsOf(command, args),
    ...nativePermissions(),
    ...[join(ROOT, PROGRAMS[command].program), ...args],
  ];
}

/** Starts `lorikeet <command> <args>`. */
export function startLorikeet(
  command: ProgramName,
  args: readonly string[],
  env: Record<string, string> = {},
  stdin: "null" | "piped" = "null",
): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: denoArguments(command, args),
    env: { NO_COLOR: "1", ...env },
    stdin,
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/** Runs `lorikeet <command> <args>`. */
export async function lorikeet(
  command: ProgramName,
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<Outcome> {
  const began = performance.now();
  return await outcomeOf(await startLorikeet(command, args, env), began);
}

/** Runs `lorikeet chat <args>` with this on stdin. */
export async function chatAbout(args: readonly string[], input: string): Promise<Outcome> {
  const began = performance.now();
  const process = await startLorikeet("chat", args, {}, "piped");
  const outcome = outcomeOf(process, began);
  const writer = process.stdin.getWriter();
  writer.write(new TextEncoder().encode(input)).catch(() => {});
  // A chat that has ended by itself reads no more: its outcome tells.
  await writer.close().catch(() => {});
  return await outcome;
}

async function outcomeOf(process: Deno.ChildProcess, began: number): Promise<Outcome> {
  const { code, stdout, stderr } = await process.output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  const seconds = (performance.now() - began) / 1000;
  return { code, stdout: text(stdout), stderr: text(stderr), seconds };
}

/** Asserts that a command succeeded; returns what it printed. */
export function succeeded({ code, stdout, stderr }: Outcome): string {
  assert.equal(code, 0, stderr);
  return stdout;
}

/**
 * Asserts that a command was refused with this exit code by one error that matches every pattern
 * (strings literally), and no stack trace.
 */
export function refused(
  { code, stderr }: Outcome,
  expected: 1 | 2 | 3,
  ...patterns: (RegExp | string)[]
): void {
  assert.equal(code, expected, stderr);
  const message = stderr.slice(stderr.search(/^error: /m));
  assert.match(message, /^error: \S/, stderr);
  assert.doesNotMatch(stderr, /^\s+at /m, "a stack trace");
  assert.doesNotMatch(stderr, /--debug for the stack|\b\w+Error: /, "an unexpected error");
  for (const pattern of patterns) {
    if (typeof pattern === "string") assert.ok(message.includes(pattern), `${pattern}: ${message}`);
    else assert.match(message, pattern);
  }
}

/** Whether anything has this name. */
export function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch {
    return false;
  }
}

/** A folder that is gone when it goes out of scope. */
export class TemporaryFolder {
  readonly path: string = Deno.makeTempDirSync({ prefix: "lorikeet-" });

  /** The path of a file in it, which is written where its content is given. */
  file(name: string, content?: string | Uint8Array): string {
    const path = join(this.path, name);
    if (typeof content === "string") Deno.writeTextFileSync(path, content);
    else if (content !== undefined) Deno.writeFileSync(path, content);
    return path;
  }

  [Symbol.dispose](): void {
    Deno.removeSync(this.path, { recursive: true });
  }
}

/** `count` short samples in Alpaca's format. */
export function smallData(count: number): string {
  const words = ["red", "blue", "green", "white", "black"];
  return JSON.stringify(Array.from({ length: count }, (_, i) => ({
    instruction: `Say ${words[i % 5]}.`,
    input: i % 2 ? `Bird ${i}` : "",
    output: `${words[(i + 1) % 5]} ${i}`,
  })));
}
