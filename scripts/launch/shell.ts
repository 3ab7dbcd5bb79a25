/**
 * Words as a POSIX shell reads them.
 *
 * @module
 */

/** A word that the shell takes literally. */
export function quote(word: string): string {
  return `'${word.replaceAll("'", String.raw`'\''`)}'`;
}

/** Words with spaces between them. */
export function quoted(words: readonly string[]): string {
  return words.map(quote).join(" ");
}
