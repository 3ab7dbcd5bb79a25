/**
 * Words and plans as a POSIX shell reads them.
 *
 * @module
 */
import type { Plan } from "./plan.ts";

/** A word that the shell takes literally. */
export function quote(word: string): string {
  return `'${word.replaceAll("'", String.raw`'\''`)}'`;
}

/** Words with spaces between them. */
export function quoted(words: readonly string[]): string {
  return words.map(quote).join(" ");
}

/**
 * A plan as lines for the launcher's shell, of which the last ends it: the program takes its place, and so has its
 * process, terminal and signals.
 */
export function shellLines(
  { changes, prints, folder, steps = [], program, last = [] }: Plan,
): string[] {
  return [
    ...[...changes].map(([name, value]) =>
      value === undefined ? `unset ${name}` : `export ${name}=${quote(value)}`
    ),
    ...(prints === undefined ? [] : [`printf '%s\\n' ${quote(prints)}`]),
    ...(folder === undefined ? [] : [`cd -- ${quote(folder)}`]),
    ...steps.map((step) => `${quoted(step)} || exit`),
    program === undefined ? "exit 0" : `exec ${quoted(program)} "$@" ${quoted(last)}`.trimEnd(),
  ];
}
