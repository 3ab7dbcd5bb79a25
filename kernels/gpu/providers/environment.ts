/**
 * Environment variables that programs may or may not be allowed to read.
 *
 * @module
 */

/** An environment variable; undefined where it is unset, empty or not for this program to read. */
export function environment(variable: string): string | undefined {
  const { state } = Deno.permissions.querySync({ name: "env", variable });
  return (state === "granted" && Deno.env.get(variable)) || undefined;
}
