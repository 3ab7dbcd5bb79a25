/**
 * What must be there.
 *
 * @module
 */

/** A value that is there by what was decided before, where a type can't say so. @throws {Error} where it is not. */
export function present<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new Error(`there is no ${what}`);
  return value;
}
