/**
 * The tasks that files name: a file of a task, or of a group of tasks in itself or in files beside it, as
 * lm_eval/tasks/_factory.py and _index.py have them.
 *
 * @module
 */
import { dirname, join } from "node:path";
import { UserError } from "../../kernels/errors.ts";
import { brief } from "../../model/files/json_file.ts";
import { isFolder, namesIn } from "../../model/files/whole_file.ts";
import { type AggregatedMetric, groupMetrics } from "./group_metrics.ts";
import { makeTask, type Task } from "./task.ts";
import { isYamlObject, readTaskYaml, type YamlObject, type YamlValue } from "./yaml_file.ts";

/** Tasks that are told together. */
export interface Group {
  name: string;
  alias: string;
  version: YamlValue | undefined;
  /** Its tasks and groups, by name. */
  children: readonly string[];
  /** The tasks in it and in its groups. */
  tasks: readonly string[];
  /** What is told of all of them. */
  metrics: readonly AggregatedMetric[];
}

/** What is evaluated. */
export interface LoadedTasks {
  tasks: readonly Task[];
  /** Groups, each after those in it. */
  groups: readonly Group[];
}

/** Keys of a group itself; others are those of all its tasks. */
const GROUP_KEYS = ["group", "group_alias", "task", "aggregate_metric_list", "metadata"];
/** Folders in folders that are searched. */
const MOST_DEEP = 8;

/** A file by the name that it gives its task or group. */
interface Entry {
  file: string;
  values: YamlObject;
}

/** YAML files in a folder and the folders in it. */
function yamlFiles(folder: string, depth = 0): string[] {
  return namesIn(folder).flatMap((name) => {
    const path = join(folder, name);
    if (name.endsWith(".yaml") || name.endsWith(".yml")) return [path];
    const isSkipped = name.startsWith(".") || name === "__pycache__" || depth >= MOST_DEEP;
    return !isSkipped && isFolder(path) ? yamlFiles(path, depth + 1) : [];
  });
}

const nameOf = (value: YamlValue | undefined) => typeof value === "string" ? value : undefined;

/** The keys of the tasks of a group that the group gives them. */
function taskKeysOf(values: YamlObject): YamlObject {
  return Object.fromEntries(Object.entries(values).filter(([key]) => !GROUP_KEYS.includes(key)));
}

class Loader {
  readonly tasks = new Map<string, Task>();
  readonly groups = new Map<string, Group>();
  #folder: string;
  /** What the files of the folder define; read where a name is looked up. */
  #index: { entries: Map<string, Entry>; tags: Map<string, string[]> } | undefined;

  constructor(readonly file: string) {
    this.#folder = dirname(file);
  }

  #lookup() {
    if (this.#index !== undefined) return this.#index;
    const entries = new Map<string, Entry>(), tags = new Map<string, string[]>();
    for (const file of yamlFiles(this.#folder)) {
      let values: YamlObject;
      try {
        values = readTaskYaml(file);
      } catch (error) {
        // It may be no task at all; one that is asked for is then missing by its name.
        if (error instanceof UserError) continue;
        throw error;
      }
      const name = nameOf(values.group) ?? nameOf(values.task);
      if (name === undefined || entries.has(name)) continue;
      entries.set(name, { file, values });
      for (const tag of [values.tag ?? []].flat()) {
        if (typeof tag === "string") tags.set(tag, [...tags.get(tag) ?? [], name]);
      }
    }
    return this.#index = { entries, tags };
  }

  #task(values: YamlObject, file: string): string[] {
    const task = makeTask(values, file);
    if (this.tasks.has(task.name)) {
      const known = this.tasks.get(task.name)?.where;
      throw new UserError(
        `${file}: task ${task.name} is there twice, also in ${known}; expected one`,
      );
    }
    this.tasks.set(task.name, task);
    return [task.name];
  }

  /** What a file or an entry of a group defines. @returns the names of its tasks and groups. */
  define(values: YamlObject, file: string, overrides: YamlObject): string[] {
    const name = values.group === undefined ? undefined : nameOf(values.group) ?? "";
    if (name === undefined) return this.#task({ ...values, ...overrides }, file);
    return this.#group(name, values, file, overrides);
  }

  #group(name: string, values: YamlObject, file: string, overrides: YamlObject): string[] {
    const where = `${file} (group ${name})`;
    if (name === "" || this.groups.has(name)) {
      throw new UserError(`${where}: group is ${brief(name)}; expected a name that no other has`);
    }
    const members = Array.isArray(values.task) ? values.task : [];
    if (members.length === 0) {
      throw new UserError(`${where}: task is no list; expected the tasks of the group`);
    }
    const given = { ...taskKeysOf(values), ...overrides };
    const children = members.flatMap((member) => this.#member(member, name, file, given));
    const { metadata, group_alias } = values;
    const group: Group = {
      name,
      alias: nameOf(group_alias) ?? name,
      version: isYamlObject(metadata) ? metadata.version : undefined,
      children,
      tasks: [...new Set(children.flatMap((child) => this.groups.get(child)?.tasks ?? [child]))],
      metrics: groupMetrics(values.aggregate_metric_list, where),
    };
    this.groups.set(name, group);
    return [name];
  }

  /** An entry of a group's list: a name, or keys. */
  #member(member: YamlValue, group: string, file: string, given: YamlObject): string[] {
    const where = `${file} (group ${group})`;
    if (typeof member === "string") return this.#named(member, where, given);
    if (!isYamlObject(member)) {
      throw new UserError(`${where}: task has an entry that is neither a name nor a mapping`);
    }
    const { group: inner, task, ...more } = member;
    if (inner !== undefined) {
      const known = this.#lookup().entries.get(nameOf(inner) ?? "");
      const name = nameOf(inner);
      if (known !== undefined && !Array.isArray(task)) {
        return this.#named(name ?? "", where, { ...given, ...more });
      }
      return this.#group(`${group}::${name ?? ""}`, member, file, given);
    }
    const name = nameOf(task);
    if (name === undefined) {
      throw new UserError(`${where}: an entry of task has no task and no group; expected a name`);
    }
    const { entries, tags } = this.#lookup();
    if (entries.has(name) || tags.has(name)) return this.#named(name, where, { ...given, ...more });
    return this.#task({ ...given, ...more, task: `${group}::${name}` }, file);
  }

  /** What a name stands for in the files beside the first. */
  #named(name: string, where: string, overrides: YamlObject): string[] {
    const { entries, tags } = this.#lookup();
    const entry = entries.get(name);
    if (entry !== undefined) return this.define(entry.values, entry.file, overrides);
    const tagged = tags.get(name);
    if (tagged !== undefined) {
      return [...tagged].sort().flatMap((each) => this.#named(each, where, overrides));
    }
    throw new UserError(
      `${where}: there is no task, group or tag ${
        JSON.stringify(name)
      } in the YAML files of ${this.#folder}, and ` +
        "nothing is downloaded; expected a name from there, or a task's keys",
    );
  }
}

/**
 * Loads tasks.
 *
 * @param files Files of a task or a group each.
 * @throws {UserError} for the first that is wrong, with its file.
 */
export function loadTasks(files: readonly string[]): LoadedTasks {
  const tasks = new Map<string, Task>(), groups = new Map<string, Group>();
  for (const file of files) {
    const loader = new Loader(file);
    loader.define(readTaskYaml(file), file, {});
    for (const [name, task] of loader.tasks) {
      const known = tasks.get(name);
      if (known !== undefined) {
        throw new UserError(
          `${file}: task ${name} is there twice, also in ${known.where}; expected one`,
        );
      }
      tasks.set(name, task);
    }
    for (const [name, group] of loader.groups) groups.set(name, group);
  }
  return { tasks: [...tasks.values()], groups: [...groups.values()] };
}
