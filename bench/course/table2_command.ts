/**
 * The command line of the course's table 2.
 *
 * @module
 */
import { printJson, printLine } from "../../kernels/terminal.ts";
import { z } from "zod";
import { command, parseFlags } from "../../cli/command_line.ts";
import { Measurements } from "./measurements.ts";
import { seriesFlags, tableFlags } from "./series_flags.ts";
import { table2 } from "./table2.ts";
import { markdown, table2Lines } from "./table2_lines.ts";

const TABLE2 = command(
  "bench table2",
  "[--flag value ...]",
  "Measures the course's table 2, and goes on where it was interrupted.",
  z.strictObject({ ...seriesFlags, ...tableFlags }),
);

/** Runs the bench and prints tables, or JSON. */
export async function benchTable2(args: string[]): Promise<void> {
  const { folder, json, markdown: asMarkdown, ...settings } = parseFlags(TABLE2, args);
  const table = await table2(await Measurements.open(folder, settings.gpu), settings);
  if (json) printJson(table, 2);
  else printLine(asMarkdown ? markdown(table) : table2Lines(table, false).join("\n"));
}
