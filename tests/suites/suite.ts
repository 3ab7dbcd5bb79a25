/**
 * Test files that run in one worker, so that they share modules, a device and the programs that it compiled: beside
 * each other they take about a third less time. `./lorikeet test` runs these suites instead of their files, and
 * `./lorikeet test FILE` runs a file by itself.
 */
import { join } from "node:path";
import { pathToFileURL } from "node:url";

/** Paths of the test files in a folder and its folders, in order. */
function testFiles(folder: string): string[] {
  return [...Deno.readDirSync(folder)].flatMap(({ name, isDirectory }) => {
    const path = join(folder, name);
    return isDirectory ? testFiles(path) : name.endsWith("_test.ts") ? [path] : [];
  }).sort();
}

/** Registers the tests of all files of a folder beside this one. */
export async function runSuite(name: string): Promise<void> {
  const files = testFiles(join(import.meta.dirname!, "..", name));
  for (const file of files) await import(pathToFileURL(file).href);
}
