/**
 * Work that has to end before the program may exit with an error: a driver whose threads still work when the process
 * exits may crash it.
 *
 * @module
 */

const atWork = new Set<() => Promise<unknown>>();

/**
 * Makes {@linkcode allAtRest} wait for `rest`.
 *
 * @returns what takes it back.
 */
export function restBeforeExit(rest: () => Promise<unknown>): () => void {
  atWork.add(rest);
  return () => void atWork.delete(rest);
}

/** Brings everything to rest; waits no longer than so many milliseconds. */
export async function allAtRest(longest: number): Promise<void> {
  const resting = Promise.allSettled([...atWork].map((rest) => rest()));
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise((resolve) => timer = setTimeout(resolve, longest));
  await Promise.race([resting, late]);
  clearTimeout(timer);
}
