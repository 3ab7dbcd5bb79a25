/**
 * `lorikeet compile`: makes the trainer and the inference program as one file each, with the WGSL,
 * the npm packages and the built-in model inside, for a cluster node without Deno.
 *
 * `deno compile` appends the program to a base binary, `denort`, that it downloads once from Deno's
 * own host. Where that can't be reached, `DENORT_BIN` names a local copy.
 *
 * @module
 */

import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { runMain } from "../cli/run_main.ts";
import { UserError } from "../kernels/errors.ts";
import { flagsAnywhere } from "./launch/permissions.ts";

/** The project's folder. */
export const ROOT: string = fileURLToPath(new URL("../", import.meta.url));

/** A program to make: its file under `dist/`, its entry point, and whose permissions it gets. */
export interface CompiledProgram {
  readonly output: string;
  readonly entry: string;
  readonly command: string;
  /** Arguments that need leave of their own: a program has it, whatever it is started with. */
  readonly args: readonly string[];
  /** Addresses that it may serve besides, where a command serves the one that it is told. */
  readonly serves?: readonly string[];
  /** Modules of other threads, and folders of what these open: no import names them. */
  readonly workers: readonly string[];
}

/** What `lorikeet compile` makes. */
export const PROGRAMS: readonly CompiledProgram[] = [
  {
    output: "dist/lorikeet-train",
    entry: "train/main.ts",
    command: "train",
    args: ["--watch"],
    workers: [
      "kernels/gpu/compile_worker.ts",
      "train/run/stop_worker.ts",
      "train/states/state_worker.ts",
      "train/watch/worker.ts",
      "train/watch/page",
      "http/page",
    ],
  },
  {
    output: "dist/lorikeet-infer",
    entry: "infer/main.ts",
    command: "merge",
    args: [],
    // No other machine is reached by these, be it by chat.
    serves: ["127.0.0.1", "[::1]", "0.0.0.0", "[::]", "localhost"],
    workers: [
      "kernels/gpu/compile_worker.ts",
      "model/formats/gguf/quantize_worker.ts",
      "infer/serve/worker.ts",
      "infer/serve/page",
      "http/page",
    ],
  },
];

/** The folder whose files the programs open at run time instead of importing them. */
const BUILTIN = "examples/builtin";

/** The built-in model and data, without the scripts that made them: paths from the project's folder. */
export async function includedFiles(folder: string = BUILTIN): Promise<string[]> {
  const paths: string[] = [];
  for await (const { isDirectory, name } of Deno.readDir(join(ROOT, folder))) {
    const path = `${folder}/${name}`;
    if (isDirectory) paths.push(...await includedFiles(path));
    else if (!name.endsWith(".ts")) paths.push(path);
  }
  return paths.sort();
}

/** The flags that the launcher gives `command` with `args` on a machine that has all programs. */
export function launcherPermissions(
  command: string,
  args: readonly string[] = [],
): readonly string[] {
  return flagsAnywhere(command, args, join(ROOT, "lorikeet"));
}

/** Arguments of `deno compile` for one program. */
export function compileArguments(
  program: CompiledProgram,
  permissions: readonly string[],
  included: readonly string[],
): string[] {
  return [
    "compile",
    "--quiet",
    "--no-check",
    "--frozen",
    "--exclude-unused-npm",
    ...[...program.workers, ...included].flatMap((path) => ["--include", path]),
    ...permissions,
    ...(program.serves ? [`--allow-net=${program.serves}`] : []),
    "--output",
    program.output,
    program.entry,
  ];
}

/** Whether `deno compile` failed for want of its base binary, by what it wrote on stderr. */
export function lacksBaseBinary(stderr: string): boolean {
  return /Setting up base binary|Could not find denort|dl\.deno\.land/.test(stderr);
}

function decode(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}

/** Where Deno puts a program. */
function pathOf({ output }: CompiledProgram): string {
  return join(ROOT, Deno.build.os === "windows" ? `${output}.exe` : output);
}

async function compile(program: CompiledProgram): Promise<void> {
  const denort = Deno.env.get("DENORT_BIN");
  if (denort && !await exists(denort)) {
    throw new UserError(`DENORT_BIN names ${denort}, which does not exist`);
  }
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: compileArguments(
      program,
      launcherPermissions(program.command, program.args),
      await includedFiles(),
    ),
    cwd: ROOT,
    env: { NO_COLOR: "1", RUST_BACKTRACE: "0" },
  }).output();
  if (!success && lacksBaseBinary(decode(stderr))) {
    throw new UserError(
      `Deno's base binary (denort ${Deno.version.deno}), into which \`deno compile\` puts a program, ` +
        "could not be downloaded; name a local copy in DENORT_BIN",
    );
  }
  if (!success) {
    throw new UserError(`deno compile ${program.entry} failed:\n${decode(stderr).trim()}`);
  }
  await checkStarts(pathOf(program), denort);
}

/** Removes a binary that does not start the program: `deno` itself as base gives an open REPL. */
async function checkStarts(path: string, denort: string | undefined): Promise<void> {
  const { success, stdout } = await new Deno.Command(path, { args: ["--help"], stdin: "null" })
    .output();
  if (success && /lorikeet/i.test(decode(stdout))) return;
  await Deno.remove(path);
  throw new UserError(
    `the program made from ${denort ?? "the downloaded base binary"} does not start` +
      (denort ? `; DENORT_BIN must name denort ${Deno.version.deno}, not deno` : ""),
  );
}

async function main(): Promise<void> {
  await Deno.mkdir(join(ROOT, "dist"), { recursive: true });
  for (const program of PROGRAMS) {
    await compile(program);
    const path = pathOf(program);
    const megabytes = ((await Deno.stat(path)).size / 1e6).toFixed(0);
    console.log(`made ${relative(Deno.cwd(), path)} (${megabytes} MB)`);
  }
}

if (import.meta.main) await runMain(main);
