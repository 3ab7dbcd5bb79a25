/**
 * A command line made from a command's keys: a flag is its key with dashes.
 *
 * @module
 */

import { Command as Parser, CommanderError, Option } from "commander";
import type { z } from "zod";
import { UsageError } from "../kernels/errors.ts";
import { printLine } from "../kernels/terminal.ts";
import { HelpShown } from "./run_main.ts";
import {
  asFlag,
  checkValues,
  describeKey,
  type Givens,
  type Key,
  suggestion,
  type ValueKind,
} from "./settings.ts";

/** One command of the program. */
export interface CommandLine {
  /** As it is called: `lorikeet train`. */
  name: string;
  /** What comes after the name, for the help. */
  usage: string;
  description: string;
  keys: readonly Key[];
}

/** A default as one would type it. */
function show(value: unknown): string {
  if (Array.isArray(value)) return value.join(",");
  const small = typeof value === "number" && value > 0 && value < 1e-3;
  return small ? value.toExponential() : String(value);
}

/** What the help says about a value that is not given. */
function defaultOf(key: Key): string {
  if (key.optional || key.default === "") return "";
  return key.default === undefined ? " (required)" : ` (default: ${show(key.default)})`;
}

const isSwitch = (key: Key) => key.kind === "boolean" || key.kind === "group";

/** The option parser, made from the keys; it only takes the command line apart. */
function parser(line: CommandLine): { command: Parser; keys: Map<string, Key> } {
  const keys = new Map<string, Key>();
  const command = new Parser(line.name)
    .usage(line.usage)
    .description(line.description)
    .helpOption("--help", "Show this.")
    .exitOverride()
    .configureOutput({
      // The terminal and its environment variables need not be asked about.
      getOutHelpWidth: () => 100,
      getOutHasColors: () => false,
      writeErr: () => {},
    })
    .configureHelp({
      optionTerm(option) {
        const key = keys.get(option.attributeName());
        return key ? `${option.long} <${key.value}>` : option.flags;
      },
    });
  for (const key of line.keys) {
    const option = new Option(
      `${asFlag(key.name)} ${isSwitch(key) ? "[value]" : "<value>"}`,
      key.description + defaultOf(key),
    );
    if (key.kind === "repeated") {
      option.argParser((text: string, before?: string[]) => [...(before ?? []), text]);
    }
    keys.set(option.attributeName(), key);
    command.addOption(option);
    if (isSwitch(key)) {
      command.addOption(new Option(`--no-${asFlag(key.name).slice(2)}`).hideHelp());
    }
  }
  command.addOption(new Option("--debug", "Show the stack of an unexpected error."));
  return { command, keys };
}

/** What `--help` prints: every flag with its default and meaning. */
export function helpText(line: CommandLine): string {
  return parser(line).command.helpInformation();
}

/**
 * Prints the help where it is asked for.
 *
 * @throws {HelpShown} then: there is nothing else to do.
 */
export function helpIfAsked(line: CommandLine, args: readonly string[]): void {
  if (!args.includes("--help") && !args.includes("-h")) return;
  printLine(helpText(line).trimEnd());
  throw new HelpShown();
}

/** A flag's text as the value it would be in a YAML file; what doesn't convert stays text. */
function fromFlag(text: string | string[] | boolean, kind: ValueKind): unknown {
  if (typeof text !== "string") return text;
  const number = (word: string) => word.trim() === "" || isNaN(Number(word)) ? word : Number(word);
  const words = () => text.split(",").map((word) => word.trim());
  switch (kind) {
    case "string":
    case "repeated":
      return text;
    case "number":
      return number(text);
    case "boolean":
    case "group":
      return ({ true: true, on: true, false: false, off: false } as Record<string, boolean>)[
        text
      ] ??
        text;
    case "strings":
      return words();
    case "numbers":
      return words().map(number);
  }
}

/**
 * Takes the arguments apart: values by key, and what is no flag. Unknown flags are reported.
 *
 * @throws {UserError} where a flag lacks its value.
 */
export function readFlags(
  line: CommandLine,
  args: readonly string[],
  problems: string[],
): { givens: Givens; operands: string[] } {
  const { command, keys } = parser(line);
  const switches = line.keys.filter(isSwitch).map((key) => asFlag(key.name));
  const known = new Set(command.options.map(({ long }) => long));
  const dashed = args
    .map((arg) => {
      const name = /^--[^=]+/.exec(arg)?.[0] ?? "";
      const flag = name.replaceAll("_", "-");
      return known.has(flag) ? flag + arg.slice(name.length) : arg;
    })
    // A switch's value may be left out: a file's name after it is not its value.
    .map((arg, i) =>
      switches.includes(arg) && /\.ya?ml$/i.test(args[i + 1] ?? "") ? `${arg}=true` : arg
    );
  let parsed: { operands: string[]; unknown: string[] };
  try {
    parsed = command.parseOptions(dashed);
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    const flag = /--[a-z.-]+/.exec(error.message)?.[0] ?? "a flag";
    const key = line.keys.find((key) => asFlag(key.name) === flag);
    throw new UsageError(
      key
        ? `${flag} needs a value: expected ${key.expected}`
        : error.message.replace("error: ", ""),
    );
  }
  for (const arg of parsed.unknown.filter((arg) => arg.startsWith("-"))) {
    const flag = arg.split("=")[0].replaceAll("_", "-");
    const no = flag.startsWith("--no-") ? "no-" : "";
    const word = flag.replace(/^-+(no-)?/, "").replaceAll("-", "_");
    problems.push(
      `unknown flag ${flag}${suggestion(word, line.keys, (name) => asFlag(no + name))}`,
    );
  }
  const givens: Givens = new Map();
  for (const [attribute, value] of Object.entries(command.opts())) {
    const key = keys.get(attribute);
    if (key === undefined) continue;
    const flag = asFlag(key.name);
    givens.set(key.name, { value: fromFlag(value, key.kind), where: flag, place: flag });
  }
  return { givens, operands: parsed.operands };
}

/** The one error for all problems of a command line, one a line. */
export function refuse(problems: readonly string[]): void {
  if (problems.length > 0) {
    throw new UsageError([...new Set(problems)].join("\n       "));
  }
}

/** What one command takes. */
export interface Command<S extends z.ZodObject> {
  line: CommandLine;
  schema: S;
}

/** A command with the flags of its schema. */
export function command<S extends z.ZodObject>(
  name: string,
  usage: string,
  description: string,
  schema: S,
): Command<S> {
  const keys = Object.entries(schema.shape).map(([name, key]) =>
    describeKey(name, key as z.ZodType)
  );
  return { line: { name: `lorikeet ${name}`, usage, description, keys }, schema };
}

/**
 * The flags of a command, with every default filled in. `--help` prints the help and ends the program.
 *
 * @param conflicts What is wrong with flags that are right by themselves; those that aren't are left out.
 *   `given` are the names of those that were given.
 * @throws {UsageError} of all problems, one a line.
 */
export function parseFlags<S extends z.ZodObject>(
  { line, schema }: Command<S>,
  args: string[],
  conflicts: (
    flags: Partial<z.output<S>>,
    given: ReadonlySet<string>,
  ) => string[] = () => [],
): z.output<S> {
  helpIfAsked(line, args);
  const problems: string[] = [];
  const { givens, operands } = readFlags(line, args, problems);
  if (operands.length > 0) {
    problems.push(
      `got ${JSON.stringify(operands[0])}; expected only flags (quote a text of several words)`,
    );
  }
  const checked = Object.fromEntries(checkValues(line.keys, givens, problems));
  problems.push(...conflicts(checked as Partial<z.output<S>>, new Set(givens.keys())));
  refuse(problems);
  return schema.parse(checked);
}
