/**
 * What was checked, what was found, and the remedy where something is wrong.
 *
 * @module
 */

/** `warning`: training runs, but not as it could. `problem`: it can't run. */
export type Status = "ok" | "warning" | "problem";

/** One check. */
export interface Check {
  readonly name: string;
  readonly status: Status;
  /** What was found, in a line. */
  readonly found: string;
  /** One sentence that says what to do; absent where all is well. */
  readonly remedy?: string;
  /** The same as `found` for programs. */
  readonly details?: Readonly<Record<string, unknown>>;
}

/** What programs read of a check. */
type Details = Check["details"];

/** A check of something that is as it should be. */
export function ok(name: string, found: string, details?: Details): Check {
  return { name, status: "ok", found, details };
}

/** A check of something that could be better. */
export function warning(name: string, found: string, remedy: string, details?: Details): Check {
  return { name, status: "warning", found, remedy, details };
}

/** A check of something that training can't run with. */
export function problem(name: string, found: string, remedy: string, details?: Details): Check {
  return { name, status: "problem", found, remedy, details };
}

/** Whether training can run. */
export function canTrain(checks: readonly Check[]): boolean {
  return checks.every(({ status }) => status !== "problem");
}

/** The checks for a person, a line each, with the remedies below. */
export function reportLines(checks: readonly Check[]): string[] {
  const width = Math.max(...checks.map(({ name }) => name.length));
  const lines = checks.flatMap(({ name, status, found, remedy }) => [
    `${status.padEnd(8)} ${name.padEnd(width)}  ${found}`,
    ...(remedy === undefined ? [] : [`${" ".repeat(width + 11)}→ ${remedy}`]),
  ]);
  const count = checks.filter(({ status }) => status === "problem").length;
  const problems = count === 1 ? "1 problem" : `${count} problems`;
  return [...lines, "", count === 0 ? "Training can run." : `Training can't run: ${problems}.`];
}
