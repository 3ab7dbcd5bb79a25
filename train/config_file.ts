/**
 * The YAML configuration file.
 *
 * @module
 */

import { isMap, isScalar, LineCounter, parseDocument } from "yaml";
import { UserError } from "../kernels/errors.ts";
import { type Givens, suggestion } from "../model/settings.ts";
import { KEYS } from "./schema.ts";

/** Reads a configuration file's text into dotted keys. */
export function readYaml(text: string, file: string, problems: string[]): Givens {
  const lineCounter = new LineCounter();
  const document = parseDocument(text, { lineCounter, prettyErrors: false });
  const [fault] = document.errors;
  if (fault) {
    const { line } = lineCounter.linePos(fault.pos[0]);
    throw new UserError(`${file}, line ${line}: not valid YAML: ${fault.message}`, 2);
  }
  const givens: Givens = new Map();
  const walk = (map: unknown, prefix: string) => {
    if (!isMap(map)) return;
    for (const pair of map.items) {
      const key = isScalar(pair.key) ? pair.key : undefined;
      const name = `${prefix}${key?.value}`;
      const where = `${file}, line ${lineCounter.linePos(key?.range?.[0] ?? 0).line}`;
      if (!KEYS.some((key) => key.name === name)) {
        const hint = suggestion(name, KEYS);
        problems.push(`unknown key ${name} (${where})${hint}`);
      } else if (name === "lora" && isMap(pair.value)) {
        givens.set(name, { value: true, where: `lora (${where})` });
        walk(pair.value, "lora.");
      } else {
        const node = pair.value as { toJS(document: unknown): unknown } | null;
        givens.set(name, { value: node?.toJS(document), where: `${name} (${where})` });
      }
    }
  };
  if (document.contents !== null && !isMap(document.contents)) {
    throw new UserError(`${file} is no mapping; expected lines such as "learning_rate: 1e-5"`, 2);
  }
  walk(document.contents, "");
  return givens;
}

/** Reads the configuration file at `path`. */
export function readConfigFile(path: string, problems: string[]): Givens {
  let text: string;
  try {
    text = Deno.readTextFileSync(path);
  } catch (error) {
    const reason = error instanceof Deno.errors.NotFound
      ? "does not exist"
      : `can't be read (${(error as Error).message})`;
    throw new UserError(`configuration file "${path}" ${reason}; expected a YAML file`, 2);
  }
  return readYaml(text, path, problems);
}
