/**
 * The one file: a shell script that unpacks what follows it.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { dirname, join } from "node:path";
import { UserError } from "../../kernels/errors.ts";
import { quote } from "../launch/shell.ts";

/** What an archive is packed with, and unpacked: `xz` makes it a quarter smaller, and machines may lack it. */
export const COMPRESSIONS = ["gzip", "xz"] as const;
/** One of {@linkcode COMPRESSIONS}. */
export type Compression = typeof COMPRESSIONS[number];

/** How a folder becomes a file. */
export interface BundleOptions {
  readonly compression: Compression;
  /** 1 (quick) to 9 (small). */
  readonly level: number;
  readonly version: string;
  /** As `uname -sm` has it. */
  readonly system: string;
  /** The version of the Deno inside. */
  readonly denoVersion: string;
}

function run(program: string, args: readonly string[], cwd: string): void {
  let outcome: Deno.CommandOutput;
  try {
    outcome = new Deno.Command(program, { args: [...args], cwd, stdin: "null" }).outputSync();
  } catch (error) {
    throw new UserError(`${program} can't be run: ${(error as Error).message}`);
  }
  if (outcome.success) return;
  const said = new TextDecoder().decode(outcome.stderr).trim();
  throw new UserError(`${program} failed: ${said}`);
}

/** When every file inside was changed: the same contents make the same archive. */
const CHANGED = new Date("2020-01-01T00:00:00Z");

/** Paths of a folder's files, sorted. */
function filesOf(folder: string, inside = ""): string[] {
  return [...Deno.readDirSync(join(folder, inside))].flatMap(({ name, isDirectory }) => {
    const path = inside === "" ? name : `${inside}/${name}`;
    return isDirectory ? filesOf(folder, path) : [path];
  }).sort();
}

/** A digest of a folder's files, and their bytes. */
function digestOf(folder: string, files: readonly string[]): { digest: string; bytes: number } {
  const hash = createHash("sha256");
  let bytes = 0;
  for (const path of files) {
    const content = Deno.readFileSync(join(folder, path));
    hash.update(`${path}\n${content.length}\n`).update(content);
    bytes += content.length;
  }
  return { digest: hash.digest("hex").slice(0, 16), bytes };
}

/** The script before an archive, which begins at the byte that it names. */
function scriptOf(
  name: string,
  bytes: number,
  { compression, system, denoVersion }: BundleOptions,
): Uint8Array {
  const header = Deno.readTextFileSync(new URL("header.sh", import.meta.url));
  const text = (offset: number) =>
    [
      "#!/bin/sh",
      "# Lorikeet in one file, made by `./lorikeet bundle`.",
      `name=${quote(name)}`,
      `system=${quote(system)}`,
      `deno_version=${quote(denoVersion)}`,
      `megabytes=${Math.ceil(bytes / 2 ** 20)}`,
      `decompress='${compression} -dc'`,
      `offset=${offset}`,
      header,
    ].join("\n");
  const encoder = new TextEncoder();
  // The offset is part of what it counts.
  let offset = 1;
  while (encoder.encode(text(offset)).length + 1 !== offset) {
    offset = encoder.encode(text(offset)).length + 1;
  }
  return encoder.encode(text(offset));
}

/**
 * Makes a folder one file, which appears at once and whole.
 *
 * @param folder Has the launcher, Deno and all that they need. It is moved.
 * @returns Bytes of the file.
 */
export function writeBundle(folder: string, output: string, options: BundleOptions): number {
  const { compression, level, version } = options, around = dirname(folder);
  const files = filesOf(folder), { digest, bytes } = digestOf(folder, files);
  const name = `lorikeet-${version}-${digest}`, plain = join(around, "contents.tar");
  for (const path of files) Deno.utimeSync(join(folder, path), CHANGED, CHANGED);
  Deno.renameSync(folder, join(around, name));
  const list = files.map((path) => `${name}/${path}\n`).join("");
  Deno.writeTextFileSync(join(around, "list"), list);
  const format = ["--format=ustar", "--numeric-owner"];
  run("tar", ["-c", "-f", plain, ...format, "-C", around, "-T", join(around, "list")], around);
  // gzip would keep the archive's name and time.
  run(compression, [`-${level}`, ...(compression === "gzip" ? ["-n"] : []), plain], around);

  const scratch = `${output}.${digest}.tmp`;
  try {
    const file = Deno.openSync(scratch, { write: true, create: true, truncate: true, mode: 0o755 });
    try {
      const archive = Deno.readFileSync(`${plain}.${compression === "xz" ? "xz" : "gz"}`);
      for (const part of [scriptOf(name, bytes, options), archive]) {
        for (let done = 0; done < part.length;) done += file.writeSync(part.subarray(done));
      }
      file.syncSync();
    } finally {
      file.close();
    }
    Deno.renameSync(scratch, output);
  } catch (error) {
    try {
      Deno.removeSync(scratch);
    } catch { /* It was not made. */ }
    throw new UserError(`${output} can't be written: ${(error as Error).message}`);
  }
  return Deno.statSync(output).size;
}
