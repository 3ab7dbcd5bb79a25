/**
 * Which tokens of a sample are targets of the loss.
 *
 * @module
 */

/** Positions from `begin` on and before `end`. */
export type Span = readonly [begin: number, end: number];

/**
 * The targets of ids whose first so many are only read, up to their end. The first id, which nothing
 * precedes, is no target.
 */
export function targetsAfter(promptLength: number, ids: { readonly length: number }): Span[] {
  const begin = Math.max(1, promptLength);
  return begin < ids.length ? [[begin, ids.length]] : [];
}

/** How many targets there are. */
export function countTargets(targets: readonly Span[]): number {
  return targets.reduce((sum, [begin, end]) => sum + end - begin, 0);
}

/** Ids before the first target. */
export function promptLengthOf(
  { ids, targets }: {
    readonly ids: { readonly length: number };
    readonly targets: readonly Span[];
  },
): number {
  return targets.length > 0 ? targets[0][0] : ids.length;
}
