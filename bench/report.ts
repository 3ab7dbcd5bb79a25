/**
 * Entry point of `lorikeet report`: the course's measurements as one HTML file and one PDF, with the tables in
 * Markdown. What the folder of measurements does not hold yet is measured first.
 *
 * @module
 */
import { join } from "node:path";
import { z } from "zod";
import { runMain } from "../kernels/errors.ts";
import { command, parseFlags } from "../model/cli/command_line.ts";
import { flag, text, whole } from "../model/cli/settings.ts";
import { fileError, temporaryName } from "../model/files/weights.ts";
import { trainSchema } from "../train/schema.ts";
import { courseModelFlag } from "./table2.ts";
import { Measurements } from "./measurements.ts";
import type { Report } from "./report/content.ts";
import { reportHtml } from "./report/html.ts";
import { reportMarkdown } from "./report/markdown.ts";
import { reportPdf } from "./report/pdf.ts";
import { collect } from "./report/results.ts";
import { reportOf } from "./report/sections.ts";

const { shape } = trainSchema;

const REPORT = command(
  "report",
  "[--flag value ...]",
  "Writes the course's measurements as report.html, report.pdf and tables.md; measures what is missing.",
  z.strictObject({
    model: courseModelFlag,
    layers: shape.layers,
    data: text("file", "an Alpaca JSON or JSON Lines file, or builtin").optional().describe(
      "Samples; without it those of the built-in model, else random tokens of Alpaca's lengths.",
    ),
    tokenizer: shape.tokenizer,
    samples: whole(1).default(200).describe("Number of samples."),
    gpu: shape.gpu,
    optimizer: shape.optimizer,
    learning_rate: shape.learning_rate,
    folder: text("folder", "a folder for the measurements").default("runs/course").describe(
      "Folder of the measurements; what it holds is not measured again.",
    ),
    output: text("folder", "a folder for the report").optional().describe(
      "Folder of the report; without it, that of the measurements.",
    ),
    trust_plan: flag().default(false).describe("Don't try what the plan says does not fit."),
  }),
);

/** Writes the three files, each whole under its name or not at all, and gives their paths. */
export async function writeReport(folder: string, report: Report): Promise<string[]> {
  const files: [string, string | Uint8Array][] = [
    ["report.html", reportHtml(report)],
    ["report.pdf", await reportPdf(report)],
    ["tables.md", reportMarkdown(report)],
  ];
  return files.map(([name, content]) => {
    const path = join(folder, name), temporary = temporaryName(path);
    try {
      Deno.mkdirSync(folder, { recursive: true });
      Deno.writeFileSync(
        temporary,
        typeof content === "string" ? new TextEncoder().encode(content) : content,
      );
      Deno.renameSync(temporary, path);
    } catch (error) {
      throw fileError(path, "write", error);
    }
    return path;
  });
}

async function main(): Promise<void> {
  const args = Deno.args.filter((argument) => argument !== "--debug");
  const { folder, output = folder, ...settings } = parseFlags(REPORT, args);
  const results = await collect(new Measurements(folder), settings);
  for (const path of await writeReport(output, await reportOf(results))) console.log(path);
}

if (import.meta.main) await runMain(main);
