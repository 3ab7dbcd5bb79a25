/** The project's source files, for tests that look at all of them. */
import { join } from "node:path";

/** Every TypeScript file below a folder. */
export function sources(folder: string): string[] {
  return [...Deno.readDirSync(folder)].flatMap(({ name, isDirectory }) => {
    const path = join(folder, name);
    return isDirectory ? sources(path) : name.endsWith(".ts") ? [path] : [];
  });
}
