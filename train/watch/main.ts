/**
 * Entry point of `lorikeet watch`: runs as they go, on a page for a browser.
 *
 * @module
 */
import { resolve } from "node:path";
import { z } from "zod";
import { command, helpIfAsked, readFlags, refuse } from "../../cli/command_line.ts";
import { runMain } from "../../cli/run_main.ts";
import { printLine } from "../../kernels/terminal.ts";
import { checkValues, whole } from "../../cli/settings.ts";
import { checkRunFolders, Runs } from "./runs.ts";
import { serveWatchPage } from "./serve.ts";

const { line, schema } = command(
  "watch",
  "RUN...",
  "Shows runs on a page for a browser, on this machine only: loss, learning rate, gradient norm,\n" +
    "throughput, memory and answers, side by side, and a button that stops a run once it is saved.",
  z.object({
    port: whole(0, 65535).default(0).describe("The page's port; 0 is any that is free."),
  }),
);

export async function main(args: string[]): Promise<void> {
  helpIfAsked(line, args);
  const problems: string[] = [];
  const { givens, operands } = readFlags(line, args, problems);
  const checked = Object.fromEntries(checkValues(line.keys, givens, problems));
  if (operands.length === 0) problems.push("no run is given; expected the folders of runs");
  refuse(problems);
  const { port } = schema.parse(checked);
  const folders = [...new Map(operands.map((folder) => [resolve(folder), folder])).values()];
  checkRunFolders(folders);
  const { url, finished } = await serveWatchPage(new Runs(folders), port);
  printLine(`Watching ${folders.length === 1 ? folders[0] : `${folders.length} runs`}: ${url}`);
  printLine("Whoever has this address can read the runs and stop them. Ctrl-C ends the page.");
  await finished;
}

if (import.meta.main) await runMain(main);
