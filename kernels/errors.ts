/**
 * What a user may be told: one sentence that names the file, field or flag and what was expected.
 *
 * @module
 */

/** A mistake in the input, reported as one sentence without a stack trace. */
export class UserError extends Error {
  override name = "UserError";
  /**
   * @param message One sentence (or a short table) for the user.
   * @param exitCode 2 for a wrong command line or configuration, 1 for everything else.
   */
  constructor(message: string, readonly exitCode: 1 | 2 = 1) {
    super(message);
  }
}

/** Levenshtein distance of two words. */
function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = previous[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min(substitution, previous[j] + 1, row[j - 1] + 1));
    }
    previous = row;
  }
  return previous[b.length];
}

/** The candidate closest to `word`, or undefined where none shares at least about half of it. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  let best: string | undefined, bestDistance = Infinity;
  for (const candidate of candidates) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return bestDistance <= Math.max(2, Math.ceil(word.length / 2)) ? best : undefined;
}

/** `did you mean "x"?` for messages, or an empty string where nothing is near. */
export function didYouMean(word: string, candidates: readonly string[]): string {
  const near = nearest(word, candidates);
  return near === undefined ? "" : `; did you mean "${near}"?`;
}

/** What has to come to rest before the program may end with an error. */
const atWork = new Set<() => Promise<unknown>>();
/** Longest wait for it, in milliseconds. */
const LONGEST_REST = 10_000;

/**
 * Makes {@linkcode runMain} wait for `rest` before it ends the program with an error: a driver whose threads
 * are still at work when the process exits may crash it.
 *
 * @returns what takes it back.
 */
export function restBeforeExit(rest: () => Promise<unknown>): () => void {
  atWork.add(rest);
  return () => void atWork.delete(rest);
}

async function exitWithError(code: number): Promise<never> {
  const resting = Promise.allSettled([...atWork].map((rest) => rest()));
  await Promise.race([resting, new Promise((resolve) => setTimeout(resolve, LONGEST_REST))]);
  Deno.exit(code);
}

/**
 * Runs a program's entry point and exits with its status: 0, a `UserError`'s own code, or 1.
 * Stack traces are shown with `--debug` only.
 */
export async function runMain(main: () => Promise<number | void>): Promise<never> {
  try {
    Deno.exit((await main()) ?? 0);
  } catch (error) {
    const debug = Deno.args.includes("--debug");
    if (debug && error instanceof Error) console.error(error.stack);
    if (error instanceof UserError) {
      console.error(`error: ${error.message}`);
      return await exitWithError(error.exitCode);
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
