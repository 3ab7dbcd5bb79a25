/**
 * The command line of training.
 *
 * @module
 */

import { z } from "zod";
import { type CommandLine, helpText } from "../../cli/command_line.ts";
import {
  checkValues,
  describeKey,
  flag,
  type Givens,
  type Key,
  whole,
} from "../../cli/settings.ts";
import { KEYS } from "./schema.ts";

/** Flags that are no keys of a configuration: what is to be done with it. */
const runSchema = z.strictObject({
  dry_run: flag().default(false).describe(
    "Plan the run and measure a few of its steps, and write nothing.",
  ),
  schema: flag().default(false).describe(
    "Print the configuration file's JSON Schema, for editors, and end.",
  ),
  watch: flag().default(false).describe(
    "Show the run on a page for a browser on this machine; its address is printed.",
  ),
  watch_port: whole(0, 65535).default(0).describe("That page's port; 0 is any that is free."),
});

/** What is to be done with a configuration. */
export type RunOptions = z.output<typeof runSchema>;

/** {@linkcode RunOptions} as messages, flags and the help need them. */
export const RUN_KEYS: readonly Key[] = Object.entries(runSchema.shape).map(([name, schema]) =>
  describeKey(name, schema)
);

/** The flags that are no keys. */
export function runOptions(flags: Givens, problems: string[]): RunOptions {
  const options = Object.fromEntries(checkValues(RUN_KEYS, flags, problems)) as RunOptions;
  if (flags.has("watch_port") && options.watch === false) {
    problems.push("--watch-port is given, but --watch is not; expected both, or neither");
  }
  return options;
}

/** `lorikeet train`. */
export const TRAIN: CommandLine = {
  name: "lorikeet train",
  usage: "[CONFIG.yaml] [--flag value ...]",
  description:
    "Fine-tunes a model. A flag is the configuration file's key with dashes, and wins over the file;\n" +
    "--no-<flag> switches off; none (or all) takes back an optional value of the file. Without a\n" +
    "file, --model and --data, the settings of examples/builtin.yaml are the start.",
  keys: [...KEYS, ...RUN_KEYS],
};

/** What `--help` prints. */
export function trainHelp(): string {
  return helpText(TRAIN);
}
