/**
 * Settings that training and inference share, so that both take the same values and say the same of
 * them.
 *
 * @module
 */
import { z } from "zod";
import { PROVIDERS } from "../kernels/gpu/providers/choose.ts";
import { choice, flag, named, text, whole, worded } from "./settings.ts";

/** What to call a model; see model/checkpoint/source.ts. */
export const model = text("path", "a model folder or GGUF file, random:<size>, or builtin")
  .describe(
    "Hugging Face or Meta folder, GGUF file, random:<size> such as random:llama2-7b, or builtin.",
  );

/** Where the tokenizer is. */
export const tokenizer = text(
  "path",
  "a tokenizer.model or tokenizer.json file or a folder with one",
).optional()
  .describe(
    "File tokenizer.model or tokenizer.json, or a folder with one; without it, the one beside the model.",
  );

/** Whether BOS stands before a text; see model/text/tokenizer/vocabulary_check.ts. */
export const add_bos = choice(["auto", "always", "never"]).default("auto").describe(
  "Put BOS before every text: auto as the tokenizer has it, always, or never.",
);

/** Number of blocks to load. */
export const layers = whole(1).optional().describe(
  "Load only the first so many blocks of the model.",
);

/** Samples; see model/text/data/load.ts. */
export const data = text("file", "a JSON, JSON Lines, CSV, TSV or Parquet file, or builtin")
  .describe(
    "Samples as JSON, JSON Lines, CSV, TSV or Parquet, also packed by gzip, or builtin.",
  );

/** Number of samples to use. */
export const samples = whole(1).optional().describe(
  "Use only the first so many rows of the data; the others aren't even checked.",
);

/** The format of rows; see model/text/data/formats/. */
export const data_format = named("format", [
  "auto",
  "alpaca",
  "prompt-completion",
  "messages",
  "sharegpt",
  "text",
]).default("auto").describe("Format of the data's rows; auto: their fields tell it.");

/** Names of templates, and files with one; see model/text/templates/template_names.ts. */
export function template(description: string): z.ZodDefault<z.ZodType<string, string>> {
  const names = ["auto", "alpaca", "llama2", "chatml", "chat", "none"] as const;
  return worded(
    z.union([z.enum(names), z.string().regex(/[./\\]/)]),
    "template",
    `one of ${names.join(", ")}, or a file with a template in Jinja`,
  ).default("auto").describe(description);
}

/** What of samples is learnt; see model/text/sample_encoder.ts. */
export const train_on = choice(["last", "assistant", "all"]).default("last").describe(
  "What of a conversation is learnt: the assistant's last message, all of its messages, or every token.",
);

/** Variables of templates. */
export const template_kwargs = text("json", "a JSON object").optional().describe(
  "Variables for the model's own chat template, as a JSON object: '{\"enable_thinking\": false}'.",
);

/** Whether a month has this day; also asked of what is no date. */
function isDay(date: string): boolean {
  const time = new Date(`${date}T00:00Z`);
  return !Number.isNaN(time.valueOf()) && time.toISOString().startsWith(date);
}

/** The date that templates are told. */
export const template_date = worded(
  z.string().regex(/^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$/).refine(isDay),
  "date",
  "a date such as 2026-01-31",
).optional().describe(
  "Date that a chat template is told which writes one; without it today's, and of a run that goes on the first day's.",
);

/** The keys that decide how samples become tokens. */
export const encodingKeys = {
  data_format,
  template: template(
    "How conversations are written out; auto: by the model's own chat template where it has one, else Alpaca's. Instructions are in Alpaca's with auto.",
  ),
  template_kwargs,
  template_date,
  train_on,
};

/** Tokens of a sample at most. */
export const max_length = whole(2).default(512).describe(
  "Longer samples are cut at so many tokens.",
);

/** Whether mixed precision keeps products exact. */
export const exact_products = flag().default(false).describe(
  "In mixed precision, keep operands and sums of matrix products in f32 (slower).",
);

/** How the base model is held; see model/transformer/quantization.ts. */
export const quantization = choice(["none", "int8", "nf4"]).default("none").describe(
  "Hold the linear layers of every block in fewer bits: int8, nf4 (QLoRA's 4 bits), or none, as the files have them.",
);

/** Whether nf4's numbers of blocks are quantised. */
export const double_quantization = flag().default(true).describe(
  "With nf4, hold the blocks' scales in 8 bits, too: 4.13 bits a weight instead of 4.5.",
);

/** What is not quantised. */
export const quantization_skip = worded(
  z.array(z.string().min(1)),
  "names",
  "a list of names of modules, such as down_proj or model.layers.0.mlp.down_proj",
).default([]).describe("Modules that quantization leaves as they are.");

/** Which WebGPU; see kernels/gpu/providers/choose.ts. */
export const gpu = choice(PROVIDERS).default("auto").describe(
  "WebGPU: deno (built in), dawn (has tensor cores), or auto: dawn where it is installed and pays.",
);

/** A setting that may be left out, with the same description. */
export function withDefault(setting: z.ZodString, value: string): z.ZodDefault<z.ZodString> {
  return setting.default(value).describe(setting.description ?? "");
}
