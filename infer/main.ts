/**
 * Entry point of the compiled inference program: `generate`, `chat`, `serve`, `score`, `evaluate`, `merge` or `convert`, as
 * the first argument says. `./lorikeet` runs the commands' own files.
 *
 * @module
 */
import { UsageError } from "../kernels/errors.ts";
import { didYouMean } from "../kernels/suggestion.ts";
import { printLine } from "../kernels/terminal.ts";
import { runMain } from "../cli/run_main.ts";

/** The commands, each imported when it is called; what one returns is its exit status. */
const COMMANDS: Record<string, (args: string[]) => Promise<number | void>> = {
  generate: async (args) => (await import("./generate.ts")).generate(args),
  chat: async (args) => (await import("./chat.ts")).chat(args),
  serve: async (args) => (await import("./serve/main.ts")).serve(args),
  score: async (args) => (await import("./score.ts")).score(args),
  evaluate: async (args) => (await import("./evaluate.ts")).evaluate(args),
  merge: async (args) => (await import("./merge.ts")).merge(args),
  convert: async (args) => (await import("./convert.ts")).convert(args),
};

const HELP = `lorikeet generate   answers prompts
lorikeet chat       is a conversation in the terminal
lorikeet serve      answers requests as OpenAI's API does
lorikeet score      measures how likely a model finds the answers of a data set
lorikeet evaluate   measures a model on tasks of lm-evaluation-harness
lorikeet merge      writes a model with an adapter merged into it
lorikeet convert    writes a model of Meta's layout, a GGUF file, or another dtype, as a Hugging Face folder

Each tells its flags with --help.`;

/** One of the commands, which the first argument names. */
export async function main([name, ...args]: string[]): Promise<number | void> {
  if (name === undefined || name === "--help" || name === "-h") {
    printLine(HELP);
    return;
  }
  if (!Object.hasOwn(COMMANDS, name)) {
    const names = Object.keys(COMMANDS);
    throw new UsageError(
      `unknown command "${name}"; expected ${names.join(", ")}${didYouMean(name, names)}`,
    );
  }
  return await COMMANDS[name](args);
}

if (import.meta.main) await runMain(main);
