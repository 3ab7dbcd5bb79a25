/**
 * The flags that the course's tables and the report share: what is measured, and where the measurements are.
 *
 * @module
 */
import { flag, text, whole } from "../../cli/settings.ts";
import { trainSchema } from "../../train/config/schema.ts";
import { courseModelFlag } from "./table2.ts";

const { shape } = trainSchema;

/** What both tables are told. */
export const subjectSettings = {
  model: courseModelFlag,
  layers: shape.layers,
  data: text("file", "a JSON, JSON Lines, CSV, TSV or Parquet file, or builtin").optional()
    .describe(
      "Samples; without it those of the built-in model, else random tokens of Alpaca's lengths.",
    ),
  tokenizer: shape.tokenizer,
  gpu: shape.gpu,
  learning_rate: shape.learning_rate,
  folder: text("folder", "a folder for the measurements").default("runs/course").describe(
    "Folder of the measurements; what it holds is not measured again.",
  ),
};

/** What table 2 and the report are told. */
export const seriesFlags = {
  ...subjectSettings,
  samples: whole(1).default(200).describe("Number of samples."),
  optimizer: shape.optimizer,
  trust_plan: flag().default(false).describe("Don't try what the plan says does not fit."),
};

/** How a table is printed. */
export const tableFlags = {
  json: flag().default(false).describe("Print one JSON object."),
  markdown: flag().default(false).describe("Print the tables as Markdown."),
};
