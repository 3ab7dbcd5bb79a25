/**
 * The command line of training.
 *
 * @module
 */

import { type CommandLine, helpText } from "../cli/command_line.ts";
import { KEYS } from "./schema.ts";

/** `lorikeet train`. */
export const TRAIN: CommandLine = {
  name: "lorikeet train",
  usage: "[CONFIG.yaml] [--flag value ...]",
  description:
    "Fine-tunes a model. A flag is the configuration file's key with dashes, and wins over the file;\n" +
    "--no-<flag> switches off; none (or all) takes back an optional value of the file. Without a\n" +
    "file, --model and --data, the settings of examples/builtin.yaml are the start.",
  keys: KEYS,
};

/** What `--help` prints. */
export function trainHelp(): string {
  return helpText(TRAIN);
}
