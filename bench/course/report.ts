/**
 * Entry point of `lorikeet report`: the course's measurements as one HTML file and one PDF, with the tables in
 * Markdown. What the folder of measurements does not hold yet is measured first.
 *
 * @module
 */
import { printLine } from "../../kernels/terminal.ts";
import { join } from "node:path";
import { z } from "zod";
import { runMain } from "../../cli/run_main.ts";
import { command, parseFlags } from "../../cli/command_line.ts";
import { text } from "../../cli/settings.ts";
import { replaceFile } from "../replace_file.ts";
import { Measurements } from "./measurements.ts";
import { reportHtml } from "./report/html.ts";
import { type Report, reportTables } from "./report/markdown.ts";
import { reportPdf } from "./report/pdf.ts";
import { collect } from "./report/results.ts";
import { reportOf } from "./report/sections.ts";
import { seriesFlags } from "./series_flags.ts";

const REPORT = command(
  "report",
  "[--flag value ...]",
  "Writes the course's measurements as report.html, report.pdf and tables.md; measures what is missing.",
  z.strictObject({
    ...seriesFlags,
    output: text("folder", "a folder for the report").optional().describe(
      "Folder of the report; without it, that of the measurements.",
    ),
  }),
);

/** Writes the three files, each whole under its name or not at all, and gives their paths. */
export async function writeReport(folder: string, report: Report): Promise<string[]> {
  const files: [string, string | Uint8Array][] = [
    ["report.html", reportHtml(report)],
    ["report.pdf", await reportPdf(report)],
    ["tables.md", reportTables(report)],
  ];
  return files.map(([name, content]) => {
    const path = join(folder, name);
    replaceFile(path, content);
    return path;
  });
}

/** `lorikeet report`. */
export async function main(args: string[]): Promise<void> {
  const flags = args.filter((argument) => argument !== "--debug");
  const { folder, output = folder, ...settings } = parseFlags(REPORT, flags);
  const results = await collect(await Measurements.open(folder, settings.gpu), settings);
  for (const path of await writeReport(output, await reportOf(results))) printLine(path);
}

if (import.meta.main) await runMain(main);
