/** A machine made of a list of files, for tests of the launch. */
import assert from "node:assert/strict";
import type { System } from "../scripts/launch/system.ts";

/** What there is on it. */
export interface Machine {
  name?: string;
  files?: Record<string, string>;
  env?: Record<string, string>;
  programs?: string[];
}

/** A machine that can be asked and not changed; `said` is what the user was told. */
export function machine(
  { name = "Linux x86_64", files = {}, env = {}, programs = [] }: Machine,
): System & { said: string[] } {
  const refuse = () => assert.fail("a plan changes nothing here");
  const said: string[] = [];
  return {
    name,
    said,
    exists: (path) =>
      Object.keys(files).some((file) => file === path || file.startsWith(`${path}/`)),
    names: (folder) =>
      Object.keys(files).filter((file) => file.startsWith(`${folder}/`))
        .map((file) => file.slice(folder.length + 1).split("/")[0]).sort(),
    read: (path) => files[path],
    opens: (path) => Object.hasOwn(files, path),
    realPath: (path) => Object.hasOwn(files, path) ? path : undefined,
    makeFolder: () => true,
    makeOwnFolder: () => true,
    makeScratch: refuse,
    write: refuse,
    move: refuse,
    remove: refuse,
    env: (variable) => env[variable],
    has: (program) => programs.includes(program),
    run: () => ({ success: false, stdout: "", written: "" }),
    say: (line) => said.push(line),
  };
}
