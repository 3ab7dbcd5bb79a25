/**
 * Parts of a plan that a specification decides about.
 *
 * @module
 */

/** What is there where the specification asked for it. @throws {Error} where it is not. */
export function present<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new Error(`the plan has no ${what}`);
  return value;
}
