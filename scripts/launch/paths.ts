/**
 * Paths and lists of them on Windows and elsewhere.
 *
 * @module
 */
import { win32 } from "node:path";

/** Whether a system is native Windows. @param system Its name as `System` has it. */
export function isWindows({ name }: { name: string }): boolean {
  return name.startsWith("Windows");
}

/** A path as the launch writes it: with slashes, which Windows takes, too, and none at the end. */
export function withSlashes(path: string): string {
  return win32.normalize(path).replaceAll("\\", "/").replace(/(?<=[^:/])\/$/, "");
}

/** A path of {@linkcode withSlashes} as Windows' own programs write it. */
export function withBackslashes(path: string): string {
  return path.replaceAll("/", "\\");
}

/** What stands between the folders of a PATH. */
function separator(windows: boolean): string {
  return windows ? ";" : ":";
}

/** A PATH with one more folder at its beginning or end. */
export function pathWith(
  path: string,
  folder: string,
  { windows, last = false }: { windows: boolean; last?: boolean },
): string {
  const native = windows ? withBackslashes(folder) : folder;
  return (last ? [path, native] : [native, path]).filter((part) => part !== "")
    .join(separator(windows));
}

/** What Windows runs where a program is named without an extension. */
const EXTENSIONS = ".COM;.EXE;.BAT;.CMD";

/**
 * The files that a program's name may stand for, in the order in which they are looked for.
 *
 * @param path The PATH, and on Windows the PATHEXT.
 */
export function programFiles(
  program: string,
  { path, extensions = EXTENSIONS, windows }: {
    path: string;
    extensions?: string;
    windows: boolean;
  },
): string[] {
  const isPath = windows ? /[\\/]/.test(program) : program.includes("/");
  const named = windows && !/\.[^.\\/]+$/.test(program)
    ? extensions.split(";").map((extension) => program + extension.toLowerCase())
    : [program];
  if (isPath) return named;
  const folders = path.split(separator(windows));
  return folders.flatMap((folder) =>
    named.map((name) => `${folder === "" ? "." : folder.replace(/[\\/]$/, "")}/${name}`)
  );
}
