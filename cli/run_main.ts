/**
 * How a command ends: its exit status, and its errors on standard error.
 *
 * @module
 */
import { UsageError, UserError } from "../kernels/errors.ts";
import { allAtRest } from "../kernels/gpu/rest.ts";

/** Longest wait for a GPU that is still at work when an error ends the program, in milliseconds. */
const LONGEST_REST = 10_000;

async function exitWithError(code: number): Promise<never> {
  await allAtRest(LONGEST_REST);
  Deno.exit(code);
}

/**
 * Runs a program's entry point and exits with its status: 0; 2 for a wrong command line or configuration
 * ({@linkcode UsageError}); 1 for every other error. Stack traces are shown with `--debug` only.
 */
export async function runMain(main: () => Promise<number | void>): Promise<never> {
  try {
    Deno.exit((await main()) ?? 0);
  } catch (error) {
    const debug = Deno.args.includes("--debug");
    if (debug && error instanceof Error) console.error(error.stack);
    if (error instanceof UserError) {
      console.error(`error: ${error.message}`);
      return await exitWithError(error instanceof UsageError ? 2 : 1);
    }
    if (error instanceof Deno.errors.BrokenPipe) {
      console.error("error: the output was closed before all of it was written");
      return await exitWithError(1);
    }
    const message = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    console.error(`error: ${message}${debug ? "" : " (run again with --debug for the stack)"}`);
    return await exitWithError(1);
  }
}
