/**
 * Exit codes of every command, as docs/commands.md lists them.
 *
 * @module
 */
import { UserError } from "../kernels/errors.ts";

/** How a command ends that no signal stopped. */
export const EXIT = {
  /** All was done. */
  done: 0,
  /** Bad input, a file that can't be written, no memory, a mistake of the program. */
  error: 1,
  /** A wrong command line or configuration. */
  usage: 2,
  /** A training run that diverged, or in which no step took effect. */
  diverged: 3,
} as const;

/** How a command ends that was stopped by a signal: 128 and the signal's number on Linux, or on Windows. */
export const SIGNAL_EXIT = {
  SIGHUP: 129,
  SIGINT: 130,
  SIGQUIT: 131,
  SIGUSR2: 140,
  SIGTERM: 143,
  SIGBREAK: 149,
  SIGXCPU: 152,
} as const;

/** A signal that asks a command to end. */
export type StopSignal = keyof typeof SIGNAL_EXIT;

/** An error with an exit code of its own. */
export class ExitError extends UserError {
  /** @param code A value of {@linkcode EXIT}. */
  constructor(message: string, readonly code: number) {
    super(message);
  }
}
