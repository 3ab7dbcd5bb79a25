/**
 * Plans that the shell may use again without asking Deno: each is cached with all that it depends on, but for the
 * arguments, which the shell looks at (`find_kept` in the launcher).
 *
 * @module
 */
import type { Launch } from "./plan.ts";
import { quote } from "./shell.ts";
import type { System } from "./system.ts";

/** A machine that notes what it is asked, as tests of the shell that hold as long as the answers would be the same. */
export interface NotingSystem {
  readonly system: System;
  /** The tests; undefined where something was asked or done that the shell can't test. */
  readonly facts: () => readonly string[] | undefined;
}

/** Notes what `system` is asked. */
export function noting(system: System): NotingSystem {
  const facts = new Set<string>();
  let testable = true;
  const once = <Args extends unknown[], T>(action: (...args: Args) => T) => (...args: Args): T => {
    testable = false;
    return action(...args);
  };
  return {
    facts: () => testable ? [...facts] : undefined,
    system: {
      ...system,
      exists(path) {
        const there = system.exists(path);
        facts.add(`[ ${there ? "" : "! "}-e ${quote(path)} ]`);
        return there;
      },
      names(folder) {
        const names = system.names(folder);
        const visible = names.filter((name) => !name.startsWith("."));
        const paths = visible.length > 0
          ? visible.map((name) => `${folder}/${name}`)
          : [`${folder}/*`];
        facts.add(`holds ${quote(folder)} ${quote(paths.join(" "))}`);
        return names;
      },
      opens(path) {
        const opens = system.opens(path);
        if (opens) facts.add(`[ -r ${quote(path)} ] && [ -w ${quote(path)} ]`);
        else if (system.exists(path)) testable = false;
        else facts.add(`[ ! -e ${quote(path)} ]`);
        return opens;
      },
      realPath(path) {
        const real = system.realPath(path);
        if (real === undefined) testable = false;
        else facts.add(`[ ${quote(path)} -ef ${quote(real)} ]`);
        return real;
      },
      makeFolder(path) {
        const made = system.makeFolder(path);
        if (made) facts.add(`[ -d ${quote(path)} ] && [ -w ${quote(path)} ]`);
        else testable = false;
        return made;
      },
      makeOwnFolder(path) {
        const made = system.makeOwnFolder(path);
        if (made) {
          facts.add(`[ -d ${quote(path)} ] && [ -w ${quote(path)} ] && [ -O ${quote(path)} ]`);
        } else testable = false;
        return made;
      },
      env(name) {
        const value = system.env(name);
        facts.add(`[ "\${${name}:-}" = ${quote(value ?? "")} ]`);
        return value;
      },
      has(program) {
        const has = system.has(program);
        facts.add(`${has ? "" : "! "}command -v ${quote(program)} >/dev/null`);
        return has;
      },
      read: once(system.read),
      makeScratch: once(system.makeScratch),
      write: once(system.write),
      move: once(system.move),
      remove: once(system.remove),
      run: once(system.run),
      say: once(system.say),
    },
  };
}

/**
 * A plan as the file that the shell reads at the next start: runs the program where every fact still holds.
 *
 * @param lines The plan's lines, of which the last takes the shell's place.
 */
export function cachedPlan(
  { root, cache, deno }: Pick<Launch, "root" | "cache" | "deno">,
  lines: readonly string[],
  { facts, modules, file }: {
    facts: readonly string[];
    /** The launch's own modules: where one is newer than the file, the plan is made again. */
    modules: readonly string[];
    file: string;
  },
): string {
  const tests = [
    ...Object.entries({ root, cache, deno }).map(([name, value]) =>
      `[ "$${name}" = ${quote(value)} ]`
    ),
    ...modules.map((module) => `! [ ${quote(module)} -nt ${quote(file)} ]`),
    ...facts,
  ];
  return [
    `if ${tests.join(" &&\n  ")}`,
    "then",
    ...lines.map((line) => `  ${line}`),
    "fi",
    "",
  ].join("\n");
}
