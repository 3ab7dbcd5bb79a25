/**
 * The command line of training.
 *
 * @module
 */

import { z } from "zod";
import { type CommandLine, helpText } from "../cli/command_line.ts";
import { describeKey, flag, type Key, whole } from "../cli/settings.ts";
import { KEYS } from "./schema.ts";

/** Flags that are no keys of a configuration: they are about this start of a run, and not about the run. */
const startSchema = z.object({
  watch: flag().default(false).describe(
    "Show the run on a page for a browser on this machine; its address is printed.",
  ),
  watch_port: whole(0, 65535).default(0).describe("That page's port; 0 is any that is free."),
});

/** Their values. */
export type StartFlags = z.output<typeof startSchema>;

/** Them as keys. */
export const START_KEYS: readonly Key[] = Object.entries(startSchema.shape).map(([name, schema]) =>
  describeKey(name, schema)
);

/** `lorikeet train`. */
export const TRAIN: CommandLine = {
  name: "lorikeet train",
  usage: "[CONFIG.yaml] [--flag value ...]",
  description:
    "Fine-tunes a model. A flag is the configuration file's key with dashes, and wins over the file;\n" +
    "--no-<flag> switches off; none (or all) takes back an optional value of the file. Without a\n" +
    "file, --model and --data, the settings of examples/builtin.yaml are the start.",
  keys: [...KEYS, ...START_KEYS],
};

/** What `--help` prints. */
export function trainHelp(): string {
  return helpText(TRAIN);
}
