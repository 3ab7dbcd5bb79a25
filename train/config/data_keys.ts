/**
 * The keys of what a run learns from: one file, or a mixture of several.
 *
 * @module
 */
import { z } from "zod";
import * as common from "../../cli/common_settings.ts";
import { choice, shown, worded } from "../../cli/settings.ts";
import { didYouMean } from "../../kernels/suggestion.ts";

const WEIGHT = z.number().min(1e-6).max(1e6);

/** A file of a mixture. */
const entrySchema = z.strictObject({
  path: z.string().min(1).describe("A file of any format, or builtin."),
  weight: WEIGHT.optional().describe("Its share of an epoch, beside the weights of the others."),
  samples: common.samples,
  format: common.data_format.unwrap().optional().describe(
    "The format of its rows; without it, data_format.",
  ),
});

/** A file of a mixture. */
export type DataEntry = z.output<typeof entrySchema>;

const FILE = "a JSON, JSON Lines, CSV, TSV or Parquet file, or builtin";
const ENTRY = "path, weight, samples or format";

/** What is wrong with an entry, in words that follow its number. */
function entryProblem(entry: unknown): string | undefined {
  if (typeof entry === "string" && entry !== "") return undefined;
  if (typeof entry !== "object" || entry === null || Array.isArray(entry)) {
    return `is ${shown(entry)}; expected a path, or ${ENTRY}`;
  }
  const fault = entrySchema.safeParse(entry).error?.issues[0];
  if (fault === undefined) return undefined;
  if (fault.code === "unrecognized_keys") {
    const [name] = fault.keys, near = didYouMean(name, Object.keys(entrySchema.shape));
    return `has ${JSON.stringify(name)}${near}; expected ${ENTRY}`;
  }
  const name = String(fault.path[0]), value = Object.entries(entry).find(([key]) => key === name);
  const expected: Record<string, string> = {
    path: FILE,
    weight: "a number above 0 (from 1e-6 to 1e6)",
    samples: "a whole number of at least 1",
    format: `one of ${common.data_format.unwrap().options.join(", ")}`,
  };
  return value === undefined
    ? `has no ${name}; expected ${expected[name]}`
    : `has ${name} ${shown(value[1])}; expected ${expected[name]}`;
}

/** What is wrong with a list of files. */
function listProblem(value: unknown): string | undefined {
  if (!Array.isArray(value)) return undefined;
  const problems = value.map(entryProblem), i = problems.findIndex((text) => text !== undefined);
  return i < 0 ? undefined : `entry ${i + 1} ${problems[i]}`;
}

/** The keys, with the same rules as those of {@linkcode trainSchema}. */
export const dataKeys = {
  data: worded(
    z.union([
      z.string().min(1),
      z.array(z.union([z.string().min(1), entrySchema])).min(1),
    ]),
    "file",
    `${FILE}, or a list of such, each a path or ${ENTRY}`,
    listProblem,
  ).default("builtin").describe(
    "Samples as JSON, JSON Lines, CSV, TSV or Parquet, also packed by gzip, or builtin; or a list of such files, " +
      "with weights or without.",
  ).meta({ resume: "contents" }),
  samples: common.samples.meta({ resume: "same" }),
  // What the next five decide, the data's ids and targets tell.
  data_format: common.encodingKeys.data_format.meta({ resume: "free" }),
  template: common.encodingKeys.template.meta({ resume: "free" }),
  template_kwargs: common.encodingKeys.template_kwargs.meta({ resume: "free" }),
  template_date: common.encodingKeys.template_date.meta({ resume: "free" }),
  train_on: common.encodingKeys.train_on.meta({ resume: "free" }),
  max_length: common.max_length.meta({ resume: "same" }),
  long_samples: choice(["cut", "drop", "split"]).default("cut").describe(
    "Samples longer than max_length: cut their end off, drop them, or split plain text into pieces (others are cut).",
  ).meta({ resume: "same" }),
};

/** The files of a run: one path, or a mixture's entries. */
export type DataFiles = string | DataEntry[];

/** A list of one plain path is that path; in others, paths are entries. */
export function dataFiles(data: string | readonly (string | DataEntry)[]): DataFiles {
  if (typeof data === "string") return data;
  const [first] = data;
  if (data.length === 1 && typeof first === "string") return first;
  return data.map((entry) => typeof entry === "string" ? { path: entry } : entry);
}

/** What is wrong with the files together. */
export function weightsProblem(data: DataFiles): string | undefined {
  if (typeof data === "string") return undefined;
  const without = data.find(({ weight }) => weight === undefined);
  if (without === undefined || data.every(({ weight }) => weight === undefined)) return undefined;
  return `data has weights, but "${without.path}" has none; expected a weight for each file, or for none`;
}
