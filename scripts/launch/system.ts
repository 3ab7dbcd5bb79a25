/**
 * What the launch asks of the machine, so that tests can give it a machine of their own.
 *
 * @module
 */

import { isWindows, programFiles } from "./paths.ts";

/** Bytes of a file that the launch reads at most; `train` takes no larger configuration. */
const MOST_BYTES = 50_000;

/**
 * A small file's text. Opening a pipe would wait for its writer, and a device may have no end. Neither may what says that
 * it has no bytes, as files of /proc do.
 */
function readSmallFile(path: string): string | undefined {
  const { isFile, size } = Deno.statSync(path);
  if (!isFile || size > MOST_BYTES) return undefined;
  return size === 0 ? "" : Deno.readTextFileSync(path);
}

/** How a program ended, and the last of what it wrote. */
export interface Ended {
  readonly success: boolean;
  readonly stdout: string;
  /** Standard output and standard error. */
  readonly written: string;
}

/** The machine that the launch runs on. Paths of files are absolute. */
export interface System {
  /** As `uname -sm` has it: `Linux x86_64`. */
  readonly name: string;
  exists(path: string): boolean;
  /** Names in a folder, sorted; none where it can't be read. */
  names(folder: string): string[];
  /** A small file's text; undefined where it can't be read, is no file, or has more bytes than a configuration may have. */
  read(path: string): string | undefined;
  /** Whether the file can be opened for reading and writing, as a device must be. */
  opens(path: string): boolean;
  /** Where a file lies once links are followed; undefined where it is not there. */
  realPath(path: string): string | undefined;
  /** Makes a folder and those above it; false where that fails or it can't be written. */
  makeFolder(path: string): boolean;
  /** The same for one that must be this user's alone: false where another user made it, may use it or linked it. */
  makeOwnFolder(path: string): boolean;
  /** Makes a new folder in `folder` and gives its path. */
  makeScratch(folder: string): string;
  write(path: string, text: string): void;
  move(from: string, to: string): void;
  remove(path: string): void;
  /** The process's environment variable; empty ones count as unset. */
  env(name: string): string | undefined;
  /** Whether a program of this name or path can be run. */
  has(program: string): boolean;
  run(program: string, args: readonly string[], options?: {
    cwd?: string;
    env?: Record<string, string>;
  }): Ended;
  /** Tells the user on standard error. */
  say(line: string): void;
}

/** A launch that can't be: what is told the user, and the exit status. */
export class Refused extends Error {
  constructor(message: string, readonly status: number = 1) {
    super(message);
  }
}

function attempt<T>(action: () => T): T | undefined {
  try {
    return action();
  } catch {
    return undefined;
  }
}

function makeFolder(path: string, mode?: number): boolean {
  return attempt(() => {
    Deno.mkdirSync(path, { recursive: true, mode });
    const probe = Deno.makeTempFileSync({ dir: path, prefix: "probe." });
    Deno.removeSync(probe);
    return true;
  }) ?? false;
}

/** The machine itself. @param name As `uname -sm` has it. */
export function thisSystem(name: string): System {
  const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return {
    name,
    exists: (path) => attempt(() => Deno.statSync(path)) !== undefined,
    names: (folder) =>
      attempt(() => [...Deno.readDirSync(folder)].map(({ name }) => name).sort()) ?? [],
    read: (path) => attempt(() => readSmallFile(path)),
    opens(path) {
      const file = attempt(() => Deno.openSync(path, { read: true, write: true }));
      file?.close();
      return file !== undefined;
    },
    realPath: (path) => attempt(() => Deno.realPathSync(path)),
    makeFolder: (path) => makeFolder(path),
    makeOwnFolder(path) {
      if (!makeFolder(path, 0o700)) return false;
      const { isDirectory, uid, mode } = Deno.lstatSync(path);
      return isDirectory && uid === Deno.uid() && ((mode ?? 0) & 0o077) === 0;
    },
    makeScratch: (folder) => Deno.makeTempDirSync({ dir: folder, prefix: "install." }),
    write: (path, text) => Deno.writeTextFileSync(path, text),
    move: (from, to) => Deno.renameSync(from, to),
    remove: (path) => Deno.removeSync(path, { recursive: true }),
    env: (name) => Deno.env.get(name) || undefined,
    has(program) {
      const [path = "", extensions] = ["PATH", "PATHEXT"].map((name) => Deno.env.get(name));
      const files = programFiles(program, { path, extensions, windows: isWindows({ name }) });
      return files.some((path) => {
        const info = attempt(() => Deno.statSync(path));
        return info?.isFile === true && ((info.mode ?? 0o111) & 0o111) !== 0;
      });
    },
    run(program, args, { cwd, env } = {}) {
      const outcome = attempt(() =>
        new Deno.Command(program, { args: [...args], cwd, env, stdin: "null" }).outputSync()
      );
      if (outcome === undefined) return { success: false, stdout: "", written: "" };
      const stdout = decode(outcome.stdout);
      return { success: outcome.success, stdout, written: stdout + decode(outcome.stderr) };
    },
    say: (line) => console.error(line),
  };
}

/** Shows the last lines that a program wrote before it failed. */
export function sayLastWords(system: System, whose: string, { written }: Ended): void {
  system.say(`${whose} last words:`);
  for (const line of written.trimEnd().split("\n").slice(-5)) system.say(line);
}
