/**
 * A task of an evaluation: where its data lies, how a row becomes requests, and what is measured.
 *
 * @module
 */
import { dirname, isAbsolute, join } from "node:path";
import { UserError } from "../../kernels/errors.ts";
import { exists, isFolder, namesIn } from "../../model/files/whole_file.ts";
import { brief } from "../../model/files/json_file.ts";
import { DATA_FORMATS, type DataFormat } from "./documents.ts";
import { type FilterChain, filterChains } from "./filters.ts";
import { type Generation, generationOf } from "./generation_settings.ts";
import { type Metric, metricsOf } from "./metrics.ts";
import { checkTask, type FewshotKeys, type TaskKeys } from "./task_schema.ts";
import { isYamlObject, type YamlObject } from "./yaml_file.ts";

/** What lies where: files of the splits. */
export interface TaskData {
  format: DataFormat;
  /** Files by the names of splits. */
  files: ReadonlyMap<string, readonly string[]>;
}

/** A task. */
export interface Task {
  /** Its file, and its name there, for messages. */
  where: string;
  name: string;
  keys: TaskKeys;
  fewshot: FewshotKeys;
  /** Examples that the task itself holds. */
  samples: YamlObject[] | undefined;
  data: TaskData;
  metrics: readonly Metric[];
  filters: readonly FilterChain[];
  generation: Generation | undefined;
}

/** Files that a name with `*` or `?` stands for. */
function expanded(path: string): string[] {
  const folder = dirname(path), name = path.slice(path.lastIndexOf("/") + 1);
  if (!/[*?]/.test(path)) return [path];
  if (/[*?]/.test(folder) || !exists(folder) || !isFolder(folder)) return [];
  const pattern = name.replaceAll(/[.+^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*")
    .replaceAll("?", ".");
  const wanted = new RegExp(`^${pattern}$`);
  return namesIn(folder).filter((entry) => wanted.test(entry)).map((entry) => join(folder, entry));
}

/** The data files that a name stands for: from the current folder, or else beside the task file. */
function dataFiles(name: string, folder: string, where: string): string[] {
  if (/^\w+:\/\//.test(name)) {
    throw new UserError(
      `${where}: data_files has ${
        JSON.stringify(name)
      }, and nothing is downloaded; expected files on disk`,
    );
  }
  const places = isAbsolute(name) ? [name] : [name, join(folder, name)];
  const found = places.map((place) => expanded(place).filter(exists)).find(({ length }) => length);
  if (found !== undefined) return found;
  throw new UserError(
    `${where}: data file ${
      JSON.stringify(name)
    } is neither in the current folder nor in ${folder}; ` +
      "expected a JSON, JSON Lines, CSV, Parquet or text file",
  );
}

/** `data_files` of `dataset_kwargs`, as Python's `datasets` takes them. */
function readData(keys: TaskKeys, folder: string, where: string): TaskData {
  const { dataset_path, dataset_kwargs: { data_files, data_dir, trust_remote_code: _, ...more } } =
    keys;
  const format = DATA_FORMATS.find((format) => format === dataset_path);
  if (format === undefined) {
    throw new UserError(
      `${where}: dataset_path is ${
        JSON.stringify(dataset_path)
      }, and nothing is downloaded; expected ` +
        `${DATA_FORMATS.join(", ")}, with data_files in dataset_kwargs`,
    );
  }
  const [other] = Object.keys(more);
  if (other !== undefined) {
    throw new UserError(
      `${where}: dataset_kwargs.${other} is not supported; expected data_files and data_dir`,
    );
  }
  const base = typeof data_dir === "string" ? `${data_dir}/` : "";
  const lists = isYamlObject(data_files) ? Object.entries(data_files) : [["train", data_files]];
  const files = new Map(lists.map(([split, names]) => {
    const all = [names].flat();
    if (all.length > 0 && all.every((name) => typeof name === "string")) {
      return [String(split), all.flatMap((name) => dataFiles(base + name, folder, where))];
    }
    throw new UserError(
      `${where}: dataset_kwargs.data_files is ${
        brief(data_files)
      }; expected a file's name, a list of ` +
        "them, or such by the names of splits",
    );
  }));
  return { format, files };
}

/** Splits that a task names and has no file of, and other keys that need each other. */
function checkParts({ keys, fewshot, data, where }: Task): void {
  const names = ["training_split", "validation_split", "test_split", "fewshot_split"] as const;
  const named = [
    ...names.map((key) => [key, keys[key]] as const),
    ["fewshot_config.split", fewshot.split] as const,
  ];
  for (const [key, split] of named) {
    if (split === undefined || data.files.has(split)) continue;
    throw new UserError(
      `${where}: ${key} is ${JSON.stringify(split)}, which data_files has not; expected one of ` +
        [...data.files.keys()].join(", "),
    );
  }
  if (keys.test_split === undefined && keys.validation_split === undefined) {
    throw new UserError(`${where}: test_split is missing; expected it, or validation_split`);
  }
  const required = ["doc_to_text", "doc_to_target"] as const;
  for (const key of required) {
    if (keys[key] === undefined) throw new UserError(`${where}: ${key} is missing`);
  }
  if (keys.output_type === "multiple_choice" && keys.doc_to_choice === undefined) {
    throw new UserError(`${where}: doc_to_choice is missing, which multiple_choice needs`);
  }
}

/**
 * The task that keys of a file describe.
 *
 * @param file Where they are from: files are looked for beside it, too.
 * @throws {UserError} for what is wrong, missing or not supported, with the file and the key.
 */
export function makeTask(values: YamlObject, file: string): Task {
  const called = typeof values.task === "string" ? ` (task ${values.task})` : "";
  const where = `${file}${called}`;
  const { fewshot, samples, ...keys } = checkTask(values, where);
  const task: Task = {
    where,
    name: keys.task,
    keys,
    fewshot,
    samples,
    data: readData(keys, dirname(file), where),
    metrics: metricsOf(keys, where),
    filters: filterChains(keys.filter_list, where),
    generation: keys.output_type === "generate_until" ? generationOf(keys, where) : undefined,
  };
  checkParts(task);
  return task;
}
