/**
 * The YAML configuration file.
 *
 * @module
 */

import { CST, type Document, isMap, isScalar, Lexer, LineCounter, parseDocument } from "yaml";
import { UsageError, UserError } from "../../kernels/errors.ts";
import { regularFileSize } from "../../kernels/regular_file.ts";
import { type Givens, suggestion } from "../../cli/settings.ts";
import { readText } from "../../model/files/whole_file.ts";
import { KEYS } from "./schema.ts";

/** Bytes of a file at most; a configuration has a few thousand. */
const MAX_BYTES = 50_000;
/** Brackets in brackets, and signs of YAML that a configuration hardly needs and that cost a parser the most. */
const MAX_NESTED = 16, MAX_SIGNS = 100;
/** Unknown keys that are named; of more, only the number is told. */
const MOST_UNKNOWN = 20;

const SIGNS: readonly (CST.TokenType | null)[] = [
  "explicit-key-ind",
  "anchor",
  "alias",
  "tag",
  "doc-start",
  "doc-end",
];

/** Refuses what would take a parser long, however short the text is. */
function refuseTangled(text: string, file: string): void {
  let nested = 0, signs = 0;
  for (const token of new Lexer().lex(text)) {
    const type = CST.tokenType(token);
    if (type === "flow-seq-start" || type === "flow-map-start") nested++;
    if (type === "flow-seq-end" || type === "flow-map-end") nested--;
    if (SIGNS.includes(type)) signs++;
    if (nested > MAX_NESTED) throw tooDeep(file);
    if (signs > MAX_SIGNS) {
      throw new UsageError(
        `${file} has more than ${MAX_SIGNS} anchors, aliases, tags, keys with "?" and marks of documents; ` +
          'expected lines such as "learning_rate: 1e-5"',
      );
    }
  }
}

function tooDeep(file: string): UsageError {
  return new UsageError(`${file} is nested too deep; expected keys with plain values and lists`);
}

/** A node's value; refused where an alias makes it endless, or names nothing. */
function plain(node: unknown, document: unknown, where: string): unknown {
  try {
    const value = (node as { toJS(document: unknown): unknown } | null)?.toJS(document);
    JSON.stringify(value); // as every message and summary.json will
    return value;
  } catch {
    throw new UsageError(
      `${where}: an alias leads nowhere, back to itself, or to too much; expected a value`,
    );
  }
}

function parse(text: string, file: string, lineCounter: LineCounter): Document {
  refuseTangled(text, file);
  // Keys that are there twice are looked for below: here the time for that is the square of their number.
  const options = { lineCounter, prettyErrors: false, uniqueKeys: false };
  const document = parseDocument(text, options);
  const [fault] = document.errors;
  if (fault === undefined) return document;
  if (/call stack/.test(fault.message)) throw tooDeep(file);
  const { line } = lineCounter.linePos(fault.pos[0]);
  throw new UsageError(`${file}, line ${line}: not valid YAML: ${fault.message}`);
}

/**
 * Reads a configuration file's text into dotted keys. Unknown keys are added to `problems`.
 *
 * @throws {UsageError} where the text is no YAML mapping of plain values.
 */
export function readYaml(text: string, file: string, problems: string[]): Givens {
  const lineCounter = new LineCounter(), document = parse(text, file, lineCounter);
  const givens: Givens = new Map(), seen = new Set<string>();
  const known = new Set(KEYS.map(({ name }) => name));
  let unknown = 0;
  const walk = (map: unknown, prefix: string) => {
    if (!isMap(map)) return;
    for (const pair of map.items) {
      const key = isScalar(pair.key) ? pair.key : undefined;
      const name = `${prefix}${key?.value ?? pair.key}`;
      const place = `${file}, line ${lineCounter.linePos(key?.range?.[0] ?? 0).line}`;
      if (!known.has(name)) {
        if (++unknown <= MOST_UNKNOWN) {
          problems.push(`unknown key ${name} (${place})${suggestion(name, KEYS)}`);
        }
        continue;
      }
      if (seen.has(name)) {
        throw new UsageError(
          `${place}: not valid YAML: ${name} is there twice; expected unique keys`,
        );
      }
      seen.add(name);
      const where = `${name} (${place})`;
      if (name === "lora" && isMap(pair.value)) {
        givens.set(name, { value: true, where, place });
        walk(pair.value, "lora.");
      } else givens.set(name, { value: plain(pair.value, document, place), where, place });
    }
  };
  if (document.contents !== null && !isMap(document.contents)) {
    throw new UsageError(`${file} is no mapping; expected lines such as "learning_rate: 1e-5"`);
  }
  walk(document.contents, "");
  if (unknown > MOST_UNKNOWN) {
    problems.push(`${unknown - MOST_UNKNOWN} more unknown keys in ${file}`);
  }
  return givens;
}

/** Reads the configuration file at `path` as {@linkcode readYaml} does its text. */
export function readConfigFile(path: string, problems: string[]): Givens {
  let text = "";
  try {
    // An empty file is a configuration of defaults.
    if (regularFileSize(path) > 0) {
      text = readText(path, { what: "a configuration", maxBytes: MAX_BYTES });
    }
  } catch (error) {
    if (error instanceof UserError) {
      const { message } = error;
      throw new UsageError(message.includes("expected") ? message : `${message}; expected YAML`);
    }
    const reason = error instanceof Deno.errors.NotFound
      ? "does not exist"
      : `can't be read (${(error as Error).message})`;
    throw new UsageError(`configuration file "${path}" ${reason}; expected a YAML file`);
  }
  return readYaml(text, path, problems);
}
