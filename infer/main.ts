/**
 * Entry point of `lorikeet generate` and `lorikeet score`, which of them being the first argument.
 *
 * @module
 */
import { didYouMean, runMain, UserError } from "../kernels/errors.ts";
import { generate } from "./generate.ts";
import { score } from "./score.ts";

const COMMANDS: Record<string, (args: string[]) => Promise<void>> = { generate, score };

const HELP = `lorikeet generate   answers a prompt
lorikeet score      measures how likely a model finds the answers of a data set

Each tells its flags with --help.`;

async function main(): Promise<void> {
  const [name, ...args] = Deno.args;
  if (name === undefined || name === "--help" || name === "-h") {
    console.log(HELP);
    return;
  }
  if (!Object.hasOwn(COMMANDS, name)) {
    const names = Object.keys(COMMANDS);
    throw new UserError(
      `unknown command "${name}"; expected ${names.join(" or ")}${didYouMean(name, names)}`,
      2,
    );
  }
  await COMMANDS[name](args);
}

if (import.meta.main) await runMain(main);
