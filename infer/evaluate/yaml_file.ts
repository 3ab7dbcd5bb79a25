/**
 * YAML files of tasks, as lm-evaluation-harness reads them with PyYAML: YAML 1.1, in which a file may include others.
 *
 * @module
 */
import { dirname, isAbsolute, join, resolve } from "node:path";
import { isMap, LineCounter, parseDocument, type ScalarTag } from "yaml";
import { UserError } from "../../kernels/errors.ts";
import { exists, readText } from "../../model/files/whole_file.ts";

/** What `!function module.name` stands for. */
export class PythonFunction {
  constructor(readonly name: string) {}
}

/** A value of YAML; whole numbers are bigint. */
export type YamlValue =
  | string
  | number
  | bigint
  | boolean
  | null
  | PythonFunction
  | YamlValue[]
  | YamlObject;

/** A mapping. */
export interface YamlObject {
  [key: string]: YamlValue;
}

const FUNCTION: ScalarTag = {
  tag: "!function",
  resolve: (name) => new PythonFunction(name),
};

/** Bytes of a file at most. */
const MAX_BYTES = 1_000_000;

/** Whether a value is a mapping. */
export function isYamlObject(value: unknown): value is YamlObject {
  return typeof value === "object" && value !== null && !Array.isArray(value) &&
    !(value instanceof PythonFunction) && !(value instanceof Date);
}

/** The mapping that a text holds. */
function parse(source: string, file: string): YamlObject {
  const lineCounter = new LineCounter();
  let value: unknown;
  try {
    const document = parseDocument(source, {
      version: "1.1",
      intAsBigInt: true,
      merge: true,
      prettyErrors: false,
      // As PyYAML reads them: of keys that are there twice the last counts, and lines of a quoted text begin anywhere.
      uniqueKeys: false,
      strict: false,
      customTags: (tags) => [...tags.filter((tag) => !isTimestamp(tag)), FUNCTION],
      lineCounter,
    });
    const [fault] = [...document.errors, ...document.warnings];
    if (fault !== undefined) {
      const { line } = lineCounter.linePos(fault.pos[0]);
      throw new UserError(`${file}, line ${line}: not valid YAML: ${fault.message}`);
    }
    if (!isMap(document.contents)) {
      throw new UserError(`${file} is no mapping; expected a task's keys, such as "task: name"`);
    }
    value = document.toJS({ mapAsMap: false });
  } catch (error) {
    if (error instanceof UserError) throw error;
    const message = error instanceof Error ? error.message : String(error);
    throw new UserError(`${file}: can't be read as YAML (${message.replaceAll(/\s+/g, " ")})`);
  }
  return value as YamlObject;
}

/** Texts that look like dates stay texts. */
function isTimestamp(tag: unknown): boolean {
  return typeof tag === "object" && tag !== null && "tag" in tag &&
    tag.tag === "tag:yaml.org,2002:timestamp";
}

function included(value: YamlValue | undefined, file: string): string[] {
  const names = Array.isArray(value) ? value : value === undefined || value === null ? [] : [value];
  return names.map((name) => {
    if (typeof name === "string") return name;
    throw new UserError(
      `${file}: include holds something other than text; expected names of files`,
    );
  });
}

/**
 * The keys of a file and of those that it includes; its own come before theirs.
 *
 * @param trail The files that include it.
 * @throws {UserError} where one is missing, no YAML mapping, or includes itself.
 */
export function readTaskYaml(file: string, trail: readonly string[] = []): YamlObject {
  const path = resolve(file);
  if (trail.includes(path)) {
    throw new UserError(`${file} includes itself; expected includes without a circle`);
  }
  if (!exists(path)) {
    const by = trail.length > 0 ? `, which ${trail.at(-1)} includes,` : "";
    throw new UserError(`task file "${file}"${by} does not exist; expected a YAML file`);
  }
  const { include, ...own } = parse(readText(path, { what: "a task", maxBytes: MAX_BYTES }), file);
  let merged: YamlObject = {};
  for (const name of included(include, file)) {
    const other = isAbsolute(name) ? name : join(dirname(file), name);
    merged = { ...merged, ...readTaskYaml(other, [...trail, path]) };
  }
  return { ...merged, ...own };
}
