/**
 * How a command ends: its exit status, and its errors on standard error.
 *
 * @module
 */
import { UsageError, UserError } from "../kernels/errors.ts";
import { allAtRest } from "../kernels/gpu/rest.ts";
import { EXIT, ExitError } from "./exit_codes.ts";
import { endWithParent } from "./parent.ts";
import { outliveHangUp } from "./signals.ts";
import { tolerateStderr } from "./tolerant_output.ts";
import { noteError, noteLine } from "../kernels/terminal.ts";

/** Longest wait for a GPU that is still at work when an error ends the program, in milliseconds. */
const LONGEST_REST = 10_000;

/** A program's entry point: what it returns is its exit status. */
export type Main = (args: string[]) => Promise<number | void>;

/** Thrown where a command ends well before its work is done: it was asked for help. */
export class HelpShown extends Error {}

/** The status of a command that ends with an error. */
function errorStatus(error: UserError): number {
  if (error instanceof ExitError) return error.code;
  return error instanceof UsageError ? EXIT.usage : EXIT.error;
}

/**
 * Runs a program's entry point, tells its error on standard error, and returns its status, one of {@linkcode EXIT} or
 * what the entry point returns. Stack traces are shown with `--debug` only.
 */
export async function statusOf(main: Main, args: string[]): Promise<number> {
  try {
    return (await main(args)) ?? EXIT.done;
  } catch (error) {
    if (error instanceof HelpShown) return EXIT.done;
    const debug = args.includes("--debug");
    if (debug && error instanceof Error) noteLine(error.stack ?? "");
    if (error instanceof UserError) {
      noteError(error.message);
      return errorStatus(error);
    }
    if (error instanceof Deno.errors.BrokenPipe) {
      noteError("the output was closed before all of it was written");
      return EXIT.error;
    }
    const message = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    noteError(`${message}${debug ? "" : " (run again with --debug for the stack)"}`);
    return EXIT.error;
  }
}

/**
 * Runs a program's entry point with the program's arguments and exits with its status, or with its parent. What can't
 * be written to standard error ends nothing.
 */
export async function runMain(main: Main): Promise<never> {
  outliveHangUp();
  tolerateStderr();
  endWithParent();
  const status = await statusOf(main, Deno.args);
  if (status !== EXIT.done) await allAtRest(LONGEST_REST);
  Deno.exit(status);
}
