/**
 * The command line of the course's table 2.
 *
 * @module
 */
import { z } from "zod";
import { command, parseFlags } from "../model/cli/command_line.ts";
import { flag, text, whole } from "../model/cli/settings.ts";
import { trainSchema } from "../train/schema.ts";

import { Measurements } from "./measurements.ts";
import { courseModelFlag, markdown, table2, table2Lines } from "./table2.ts";

const { shape } = trainSchema;

/** What is measured, and where the measurements are. */
export const seriesFlags = {
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
  trust_plan: flag().default(false).describe("Don't try what the plan says does not fit."),
};

const TABLE2 = command(
  "bench table2",
  "[--flag value ...]",
  "Measures the course's table 2, and goes on where it was interrupted.",
  z.strictObject({
    ...seriesFlags,
    json: flag().default(false).describe("Print one JSON object."),
    markdown: flag().default(false).describe("Print the tables as Markdown."),
  }),
);

/** Runs the bench and prints tables, or JSON. */
export async function benchTable2(args: string[]): Promise<void> {
  const { folder, json, markdown: asMarkdown, ...settings } = parseFlags(TABLE2, args);
  const table = await table2(new Measurements(folder), settings);
  if (json) console.log(JSON.stringify(table, null, 2));
  else console.log(asMarkdown ? markdown(table) : table2Lines(table, false).join("\n"));
}
