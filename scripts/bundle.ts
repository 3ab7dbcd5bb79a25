/**
 * `lorikeet bundle`: makes one program of the Deno at hand, the commands, their packages and, where it was fetched,
 * Dawn. Unlike `compile` it needs no base binary, and so no network.
 *
 * @module
 */
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { command, parseFlags } from "../cli/command_line.ts";
import { runMain } from "../cli/run_main.ts";
import { choice, text, whole } from "../cli/settings.ts";
import { UserError } from "../kernels/errors.ts";
import { printLine } from "../kernels/terminal.ts";
import { COMPRESSIONS, writeBundle } from "./bundle/file.ts";
import { fillFolder } from "./bundle/contents.ts";
import { dawnLibrary } from "./launch/dawn.ts";

const ROOT = fileURLToPath(new URL("../", import.meta.url)).replace(/\/$/, "");

const BUNDLE = command(
  "bundle",
  "[--flag value ...]",
  "Makes one program with everything inside, for a node without network: Deno, the commands but bench and report, their packages, and Dawn where it was fetched.",
  z.strictObject({
    output: text("file", "a file").default("dist/lorikeet").describe("File to write."),
    compression: choice(COMPRESSIONS).default("gzip").describe(
      "gzip, which every system has, or xz, which makes it a quarter smaller.",
    ),
    level: whole(1, 9).default(6).describe("From 1, quick, to 9, small."),
  }),
);

/** What `uname -sm` prints on this system. */
function systemName(): string {
  const { os, arch } = Deno.build;
  if (os === "linux") return `Linux ${arch}`;
  if (os === "darwin") return `Darwin ${arch === "aarch64" ? "arm64" : arch}`;
  throw new UserError(
    `a bundle is a shell script, which ${os} can't run; expected Linux or macOS`,
  );
}

function isThere(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

/** Makes the program. */
export function main(args: string[]): Promise<void> {
  const flags = parseFlags(BUNDLE, args), system = systemName();
  const output = resolve(flags.output);
  const { version } = JSON.parse(Deno.readTextFileSync(`${ROOT}/deno.json`));
  const fetched = dawnLibrary(`${ROOT}/.deno`), dawn = isThere(fetched) ? fetched : undefined;
  Deno.mkdirSync(dirname(output), { recursive: true });
  const scratch = Deno.makeTempDirSync({ dir: dirname(output), prefix: ".bundle-" });
  try {
    const folder = `${scratch}/folder`;
    fillFolder(ROOT, folder, dawn);
    const { compression, level } = flags, denoVersion = Deno.version.deno;
    const bytes = writeBundle(folder, output, { compression, level, version, system, denoVersion });
    const megabytes = (bytes / 1e6).toFixed(1);
    printLine(`made ${flags.output} (${megabytes} MB, ${dawn ? "with" : "without"} Dawn)`);
  } finally {
    Deno.removeSync(scratch, { recursive: true });
  }
  return Promise.resolve();
}

if (import.meta.main) await runMain(main);
