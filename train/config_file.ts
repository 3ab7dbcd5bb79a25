/**
 * The YAML configuration file.
 *
 * @module
 */

import { isMap, isScalar, LineCounter, parseDocument } from "yaml";
import { UsageError } from "../kernels/errors.ts";
import { type Givens, suggestion } from "../cli/settings.ts";
import { KEYS } from "./schema.ts";

/** A node's value; refused where an alias makes it endless, or names nothing. */
function plain(node: unknown, document: unknown, where: string): unknown {
  try {
    const value = (node as { toJS(document: unknown): unknown } | null)?.toJS(document);
    JSON.stringify(value); // as every message and summary.json will
    return value;
  } catch {
    throw new UsageError(`${where}: an alias leads nowhere or back to itself; expected a value`);
  }
}

/**
 * Reads a configuration file's text into dotted keys. Unknown keys are added to `problems`.
 *
 * @throws {UsageError} where the text is no YAML mapping of plain values.
 */
export function readYaml(text: string, file: string, problems: string[]): Givens {
  const lineCounter = new LineCounter();
  const document = parseDocument(text, { lineCounter, prettyErrors: false });
  const [fault] = document.errors;
  if (fault) {
    const { line } = lineCounter.linePos(fault.pos[0]);
    throw new UsageError(`${file}, line ${line}: not valid YAML: ${fault.message}`);
  }
  const givens: Givens = new Map();
  const walk = (map: unknown, prefix: string) => {
    if (!isMap(map)) return;
    for (const pair of map.items) {
      const key = isScalar(pair.key) ? pair.key : undefined;
      const name = `${prefix}${key?.value ?? pair.key}`;
      const where = `${file}, line ${lineCounter.linePos(key?.range?.[0] ?? 0).line}`;
      if (!KEYS.some((key) => key.name === name)) {
        const hint = suggestion(name, KEYS);
        problems.push(`unknown key ${name} (${where})${hint}`);
      } else if (name === "lora" && isMap(pair.value)) {
        givens.set(name, { value: true, where: `lora (${where})` });
        walk(pair.value, "lora.");
      } else {
        givens.set(name, {
          value: plain(pair.value, document, where),
          where: `${name} (${where})`,
        });
      }
    }
  };
  if (document.contents !== null && !isMap(document.contents)) {
    throw new UsageError(`${file} is no mapping; expected lines such as "learning_rate: 1e-5"`);
  }
  walk(document.contents, "");
  return givens;
}

/** Reads the configuration file at `path` as {@linkcode readYaml} does its text. */
export function readConfigFile(path: string, problems: string[]): Givens {
  let text: string;
  try {
    text = Deno.readTextFileSync(path);
  } catch (error) {
    const reason = error instanceof Deno.errors.NotFound
      ? "does not exist"
      : `can't be read (${(error as Error).message})`;
    throw new UsageError(`configuration file "${path}" ${reason}; expected a YAML file`);
  }
  return readYaml(text, path, problems);
}
