/**
 * The command line of training, made from the schema.
 *
 * @module
 */

import { Command, CommanderError, Option } from "commander";
import { UserError } from "../kernels/errors.ts";
import { asFlag, type Givens, suggestion } from "./given.ts";
import { type Key, KEYS } from "./schema.ts";

/** A default as one would type it. */
function show(value: unknown): string {
  if (Array.isArray(value)) return value.join(",");
  const small = typeof value === "number" && value > 0 && value < 1e-3;
  return small ? value.toExponential() : String(value);
}

const isSwitch = (key: Key) => key.kind === "boolean" || key.kind === "lora";

/** The option parser, made from the schema; it only takes the command line apart. */
function commandLine(): { command: Command; keys: Map<string, Key> } {
  const keys = new Map<string, Key>();
  const command = new Command("lorikeet train")
    .usage("[CONFIG.yaml] [--flag value ...]")
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
  for (const key of KEYS) {
    const shown = key.optional ? "" : ` (default: ${show(key.default)})`;
    const option = new Option(
      `${asFlag(key.name)} ${isSwitch(key) ? "[value]" : "<value>"}`,
      key.description + shown,
    );
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
export function trainHelp(): string {
  const { command } = commandLine();
  command.description(
    "Fine-tunes a model. A flag is the configuration file's key with dashes, and wins over the file;\n" +
      "--no-<flag> switches off; none (or all) takes back an optional value of the file. Without a\n" +
      "file, --model and --data, the settings of examples/builtin.yaml are the start.",
  );
  return command.helpInformation();
}

/** A flag's text as the value it would be in a YAML file; what doesn't convert stays text. */
function fromFlag(text: string | boolean, kind: Key["kind"]): unknown {
  if (typeof text === "boolean") return text;
  const number = (word: string) => word.trim() === "" || isNaN(Number(word)) ? word : Number(word);
  const words = () => text.split(",").map((word) => word.trim());
  switch (kind) {
    case "string":
      return text;
    case "number":
      return number(text);
    case "boolean":
    case "lora":
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

/** Takes the arguments apart: values by key, and the configuration files named. */
export function readFlags(
  args: readonly string[],
  problems: string[],
): { givens: Givens; files: string[] } {
  const { command, keys } = commandLine();
  const switches = [...keys.values()].filter(isSwitch).map((key) => asFlag(key.name));
  const dashed = args
    .map((arg) => arg.replace(/^--[^=]+/, (name) => name.replaceAll("_", "-")))
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
    const key = KEYS.find((key) => asFlag(key.name) === flag);
    throw new UserError(
      key
        ? `${flag} needs a value: expected ${key.expected}`
        : error.message.replace("error: ", ""),
      2,
    );
  }
  for (const arg of parsed.unknown.filter((arg) => arg.startsWith("-"))) {
    const flag = arg.split("=")[0];
    const no = flag.startsWith("--no-") ? "no-" : "";
    const word = flag.replace(/^-+(no-)?/, "").replaceAll("-", "_");
    problems.push(`unknown flag ${flag}${suggestion(word, (name) => asFlag(no + name))}`);
  }
  const givens: Givens = new Map();
  for (const [attribute, value] of Object.entries(command.opts())) {
    const key = keys.get(attribute);
    if (key) givens.set(key.name, { value: fromFlag(value, key.kind), where: asFlag(key.name) });
  }
  return { givens, files: parsed.operands };
}
