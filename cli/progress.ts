/**
 * What a command shows on stderr while it works: one line that is redrawn on a terminal, or a line
 * now and then where output goes to a file.
 *
 * @module
 */
import { printable } from "../kernels/terminal.ts";
import { writeToStderr } from "./tolerant_output.ts";

const BAR = 20;
/** Seconds between lines where there is no terminal. */
const QUIET_SECONDS = 10;

/** `1:05` or `2:03:10`. */
export function clock(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const two = (n: number) => String(n).padStart(2, "0");
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** Columns of the terminal, which may be gone by now. */
function columns(): number {
  try {
    return Deno.consoleSize().columns;
  } catch {
    return 80;
  }
}

/** A progress bar on stderr. */
export class ProgressBar {
  readonly #start = performance.now();
  readonly #terminal = Deno.stderr.isTerminal();
  #lastLine = -Infinity;
  /** Whether the bar's line on the terminal has no end yet. */
  #open = false;

  /** @param total Units of work in all; @param done Units done before this run. */
  constructor(readonly label: string, readonly total: number, readonly done = 0) {}

  /** Seconds since the bar was made. */
  get seconds(): number {
    return (performance.now() - this.#start) / 1000;
  }

  /** Shows that `now` units are done, with a few words about how it goes. */
  update(now: number, words: string): void {
    const { seconds, total, done } = this;
    const last = now >= total;
    if (!this.#terminal && !last && seconds - this.#lastLine < QUIET_SECONDS) return;
    this.#lastLine = seconds;
    const left = now > done ? seconds / (now - done) * (total - now) : 0;
    const filled = Math.round(BAR * now / total);
    const bar = "█".repeat(filled) + "░".repeat(BAR - filled);
    const line = printable(
      `${this.label} ${bar} ${now}/${total}  ${words}  ` +
        (last ? `took ${clock(seconds)}` : `${clock(left)} left`),
    );
    this.#open = this.#terminal && !last;
    // A line that wraps could not be drawn over.
    writeToStderr(
      this.#terminal ? `\r\x1b[2K${line.slice(0, columns() - 1)}${last ? "\n" : ""}` : `${line}\n`,
    );
  }

  /** Ends the line on a terminal, for something else that is to be printed. */
  endLine(): void {
    if (this.#open) writeToStderr("\n");
    this.#open = false;
  }
}

/** Models whose weights take less than this are there before a bar could be read. */
const QUICK_BYTES = 2 ** 28;

/** A bar for bytes of weights: of `loadWeights`, or of those that are written. */
export function loadingBar(label = "Loading"): (done: number, total: number) => void {
  const bar = new ProgressBar(label, 100);
  return (done, total) => {
    if (total > QUICK_BYTES) bar.update(Math.floor(100 * done / total), "% of the weights");
  };
}
