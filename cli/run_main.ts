/**
 * How a command ends: its exit status, and its errors on standard error.
 *
 * @module
 */
import { UsageError, UserError } from "../kernels/errors.ts";
import { endWithParent } from "./parent.ts";
import { allAtRest } from "../kernels/gpu/rest.ts";
import { noteError, noteLine } from "../kernels/terminal.ts";

/** Longest wait for a GPU that is still at work when an error ends the program, in milliseconds. */
const LONGEST_REST = 10_000;

/** A program's entry point: what it returns is its exit status. */
export type Main = (args: string[]) => Promise<number | void>;

/** Thrown where a command ends well before its work is done: it was asked for help. */
export class HelpShown extends Error {}

/**
 * Runs a program's entry point, tells its error on standard error, and returns its status: 0; 2 for a wrong command
 * line or configuration ({@linkcode UsageError}); 1 for every other error. Stack traces are shown with `--debug` only.
 */
export async function statusOf(main: Main, args: string[]): Promise<number> {
  try {
    return (await main(args)) ?? 0;
  } catch (error) {
    if (error instanceof HelpShown) return 0;
    const debug = args.includes("--debug");
    if (debug && error instanceof Error) noteLine(error.stack ?? "");
    if (error instanceof UserError) {
      noteError(error.message);
      return error instanceof UsageError ? 2 : 1;
    }
    if (error instanceof Deno.errors.BrokenPipe) {
      noteError("the output was closed before all of it was written");
      return 1;
    }
    const message = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    noteError(`${message}${debug ? "" : " (run again with --debug for the stack)"}`);
    return 1;
  }
}

/** Runs a program's entry point with the program's arguments and exits with its status, or with its parent. */
export async function runMain(main: Main): Promise<never> {
  endWithParent();
  const status = await statusOf(main, Deno.args);
  if (status !== 0) await allAtRest(LONGEST_REST);
  Deno.exit(status);
}
