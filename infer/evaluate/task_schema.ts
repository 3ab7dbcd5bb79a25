/**
 * The keys of a task, as lm-evaluation-harness 0.4 names them, and what each may be.
 *
 * https://github.com/EleutherAI/lm-evaluation-harness/blob/main/docs/task_guide.md describes them.
 *
 * @module
 */
import { z } from "zod";
import { didYouMean } from "../../kernels/suggestion.ts";
import { UserError } from "../../kernels/errors.ts";
import { choice, describeKey, flag, shown, text, whole, worded } from "../../cli/settings.ts";
import { isYamlObject, PythonFunction, type YamlObject, type YamlValue } from "./yaml_file.ts";

/** What requests a task makes of a model. */
export const OUTPUT_TYPES = [
  "multiple_choice",
  "loglikelihood",
  "loglikelihood_rolling",
  "generate_until",
] as const;

/** One of them. */
export type OutputType = typeof OUTPUT_TYPES[number];

const anyText = () => worded(z.string(), "text", "text");
const object = () => worded(z.record(z.string(), z.unknown()), "mapping", "a mapping");
const objects = () =>
  worded(z.array(z.record(z.string(), z.unknown())), "list", "a list of mappings");
const name = () => text("name", "a name");
const ignored = () => worded(z.unknown(), "anything", "anything");

/** A text by a template, a field's name, or a number. */
const source = () =>
  worded(
    z.union([z.string(), z.int()]),
    "template",
    "a Jinja template, a field's name or a whole number",
  );
const targets = () =>
  worded(
    z.union([z.string(), z.int(), z.array(z.string())]),
    "template",
    "a Jinja template, a field's name, a whole number or a list of texts",
  );
const choices = () =>
  worded(
    z.union([
      z.string(),
      z.array(z.string()).min(1),
      z.record(z.string(), z.string()).transform((texts) => Object.values(texts)),
    ]),
    "template",
    "a Jinja template, a field's name, or texts as a list or mapping (YAML reads a plain no or yes as false or true: " +
      "put it in quotes)",
  );

/** Texts around questions and answers, which few-shot examples may have of their own. */
const wording = {
  doc_to_text: source().optional(),
  doc_to_target: targets().optional(),
  doc_to_choice: choices().optional(),
  gen_prefix: anyText().optional(),
};

/** The keys of `fewshot_config`. */
const fewshotSchema = z.strictObject({
  sampler: choice(["default", "first_n"]).default("default"),
  split: name().optional(),
  samples: objects().optional(),
  ...wording,
  target_delimiter: anyText().optional(),
  fewshot_delimiter: anyText().optional(),
});

/** The keys of a task. */
const taskSchema = z.strictObject({
  task: name(),
  task_alias: name().optional(),
  tag: ignored(),
  dataset_path: name(),
  dataset_name: ignored(),
  dataset_kwargs: object().default({}),
  training_split: name().optional(),
  validation_split: name().optional(),
  test_split: name().optional(),
  fewshot_split: name().optional(),
  output_type: choice(OUTPUT_TYPES).default("generate_until"),
  ...wording,
  description: anyText().default(""),
  target_delimiter: anyText().default(" "),
  fewshot_delimiter: anyText().default("\n\n"),
  num_fewshot: whole(0).optional(),
  fewshot_config: object().default({}),
  metric_list: objects().optional(),
  generation_kwargs: object().optional(),
  repeats: whole(1).default(1),
  filter_list: objects().optional(),
  unsafe_code: flag().default(false),
  should_decontaminate: ignored(),
  doc_to_decontamination_query: ignored(),
  metadata: ignored(),
});

/** The keys of a task, with defaults. */
export type TaskKeys = z.output<typeof taskSchema>;
/** Those of its few-shot examples. */
export type FewshotKeys = z.output<typeof fewshotSchema>;

/** Keys that lm-evaluation-harness has and this program has not, with why. */
const REFUSED: Readonly<Record<string, string>> = {
  class: "Python is not run here",
  custom_dataset: "Python is not run here",
  process_docs: "Python is not run here; change the rows in the data file",
  process_results: "Python is not run here; name metrics in metric_list",
  use_prompt: "prompts of promptsource are not read; write doc_to_text",
  doc_to_image: "models that read images are not supported",
  doc_to_audio: "models that read audio are not supported",
  fewshot_indices:
    "lm-evaluation-harness 0.4.13 itself passes over it; order the rows of the split",
};

/** Whole numbers as JavaScript's. */
function plain(value: YamlValue): unknown {
  if (typeof value === "bigint") return Number(value);
  if (Array.isArray(value)) return value.map(plain);
  if (!isYamlObject(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item)]));
}

/** @throws {UserError} where a Python function is anywhere in a value. */
function refuseFunctions(value: YamlValue, where: string): void {
  if (value instanceof PythonFunction) {
    throw new UserError(
      `${where} is the Python function ${value.name} (!function), which is not run here; expected a Jinja ` +
        "template, a field's name or a value",
    );
  }
  if (Array.isArray(value)) value.forEach((item, i) => refuseFunctions(item, `${where}[${i}]`));
  else if (isYamlObject(value)) {
    for (const [key, item] of Object.entries(value)) refuseFunctions(item, `${where}.${key}`);
  }
}

/** Checks keys one by one, so that each fault has the words of its key. */
function check<S extends z.ZodObject>(schema: S, values: YamlObject, where: string): z.output<S> {
  const shape: Record<string, z.ZodType> = schema.shape;
  const known = Object.keys(shape);
  const checked: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(values)) {
    if (value === null || value === undefined) continue;
    const why = REFUSED[key];
    if (why !== undefined) {
      throw new UserError(`${where}: ${key} is not supported: ${why}`);
    }
    if (!known.includes(key)) {
      throw new UserError(
        `${where}: unknown key ${
          JSON.stringify(key)
        }; expected keys of lm-evaluation-harness's tasks` +
          didYouMean(key, known),
      );
    }
    if (key !== "metadata") refuseFunctions(value, `${where}: ${key}`);
  }
  for (const [key, of] of Object.entries(shape)) {
    const given = values[key] ?? undefined;
    const value = given === undefined ? undefined : plain(given);
    const result = of.safeParse(value);
    if (result.success) {
      checked[key] = result.data;
      continue;
    }
    const { expected } = describeKey(key, of);
    throw new UserError(
      value === undefined
        ? `${where}: ${key} is missing; expected ${expected}`
        : `${where}: ${key} is ${shown(value)}; expected ${expected}`,
    );
  }
  return checked as z.output<S>;
}

/**
 * The keys of a task with their defaults.
 *
 * @param where The file, and the task in it, for messages.
 * @throws {UserError} for the first that is unknown, not supported or wrong.
 */
export function checkTask(
  values: YamlObject,
  where: string,
): TaskKeys & { fewshot: FewshotKeys; samples: YamlObject[] | undefined } {
  const keys = check(taskSchema, values, where);
  if (keys.unsafe_code) {
    throw new UserError(`${where}: unsafe_code is true, but no code is run here; expected false`);
  }
  const own = isYamlObject(values.fewshot_config) ? values.fewshot_config : {};
  const fewshot = check(fewshotSchema, own, `${where}: fewshot_config`);
  // As they are in the file: whole numbers, and those with a fraction, are two kinds of values.
  const samples = Array.isArray(own.samples) ? own.samples.filter(isYamlObject) : undefined;
  return { ...keys, fewshot, samples };
}
