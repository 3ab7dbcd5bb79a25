/**
 * Signals that ask a command to end, and whether SIGHUP is one of them.
 *
 * @module
 */
import { environment } from "../kernels/gpu/providers/environment.ts";
import { SIGNAL_EXIT, type StopSignal } from "./exit_codes.ts";

/** Those of Windows: Ctrl-C, Ctrl-Break, and that the window is closed. */
const WINDOWS: readonly StopSignal[] = ["SIGINT", "SIGBREAK", "SIGHUP"];

/** Those that a program can hear on this system. */
export const STOP_SIGNALS: readonly StopSignal[] = Deno.build.os === "windows"
  ? WINDOWS
  : (Object.keys(SIGNAL_EXIT) as StopSignal[]).filter((signal) => signal !== "SIGBREAK");

/** Those that a person sends: asked twice, it wants more than once. */
export const PERSONAL: readonly StopSignal[] = ["SIGINT", "SIGQUIT", "SIGBREAK"];

/**
 * The environment variable by which the launcher says whether SIGHUP was `ignored` when it was started, as `nohup`
 * does, or is to be `heard`. Deno puts a handler of its own on that signal, and may not look at /proc.
 */
const HANG_UP = "LORIKEET_HANGUP";

/**
 * Whether this program goes on when its terminal is closed: where it was started by `nohup`, or, started without the
 * launcher, where nothing of it is connected with a terminal.
 */
export function outlivesHangUp(): boolean {
  const said = environment(HANG_UP);
  if (said !== undefined) return said === "ignored";
  return ![Deno.stdin, Deno.stdout, Deno.stderr].some((stream) => stream.isTerminal());
}

/** Those that this program is to end at. */
export function stopSignals(): StopSignal[] {
  const outlives = outlivesHangUp();
  return STOP_SIGNALS.filter((signal) => signal !== "SIGHUP" || !outlives);
}

/** Makes the program go on after SIGHUP, where it is to: only a listener keeps Deno from ending it. */
export function outliveHangUp(): void {
  if (outlivesHangUp()) Deno.addSignalListener("SIGHUP", () => {});
}
