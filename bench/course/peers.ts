/**
 * The command line of the comparison with PyTorch.
 *
 * @module
 */
import { printJson, printLine } from "../../kernels/terminal.ts";
import { z } from "zod";
import { command, parseFlags } from "../../cli/command_line.ts";
import { text } from "../../cli/settings.ts";
import { Measurements } from "./measurements.ts";
import { peersLines } from "./peers/lines.ts";
import { peers } from "./peers/series.ts";
import { seriesFlags, tableFlags } from "./series_flags.ts";

const PEERS = command(
  "bench peers",
  "[--flag value ...]",
  "Measures table 2's rows in turn with the same in PyTorch, and goes on where it was interrupted.",
  z.strictObject({
    ...seriesFlags,
    python: text("program", "a Python 3 that can import torch").default("python3").describe(
      "Python with PyTorch; its transformers and peft are used where both are installed.",
    ),
    only: text("text", "a part of a row's name").optional().describe(
      "Only rows whose name has this text; one is accumulation-8-mixed-lora-on-checkpointing-none-adamw.",
    ),
    ...tableFlags,
  }),
);

/** Runs the bench and prints a table, or JSON. */
export async function benchPeers(args: string[]): Promise<void> {
  const { folder, json, markdown, ...settings } = parseFlags(PEERS, args);
  const result = await peers(await Measurements.open(folder, settings.gpu), settings);
  if (json) printJson(result, 2);
  else printLine(peersLines(result, markdown).join("\n"));
}
