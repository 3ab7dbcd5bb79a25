/**
 * From a command to the shell's last lines: the environment, and the program that takes the shell's place.
 *
 * The launcher's shell evaluates them, so that the program has its process, terminal and signals.
 *
 * @module
 */
import { prepareDawn } from "./dawn.ts";
import { Environment } from "./environment.ts";
import { asksForHelp, readFlag, requestedGpu } from "./flags.ts";
import {
  COMMANDS,
  flagsAnywhere,
  isBundled,
  isProgram,
  permissionFlags,
  programCommand,
  type ProgramName,
  TEST_FLAGS,
} from "./permissions.ts";
import { quote, quoted } from "./shell.ts";
import { Refused, type System } from "./system.ts";
import { survey } from "./survey.ts";
import { prepareVulkan } from "./vulkan.ts";

/** What the shell knows. */
export interface Launch {
  /** The project's folder. */
  readonly root: string;
  /** The folder of the user's caches. */
  readonly cache: string;
  /** The Deno program. */
  readonly deno: string;
  readonly command: string;
  /** The user's arguments after the command: the shell's `"$@"`. */
  readonly args: readonly string[];
}

/** The shell's lines for changes of the environment. */
function environmentLines({ changes }: Environment): string[] {
  return [...changes].map(([name, value]) =>
    value === undefined ? `unset ${name}` : `export ${name}=${quote(value)}`
  );
}

/** What the project's folder keeps of what was fetched. */
function storeOf({ root }: Launch): string {
  return `${root}/.deno`;
}

/** Deno's flags that every program and test is run with. */
function commonFlags({ root }: Launch): string[] {
  return ["--frozen", "--config", `${root}/deno.json`];
}

async function programLines(
  launch: Launch & { command: ProgramName },
  system: System,
  environment: Environment,
): Promise<string[]> {
  const { root, cache, deno, args } = launch;
  const { program, computes, permissions, readsYaml, surveys } = programCommand(
    launch.command,
    args,
  );
  if (surveys) {
    const seen = survey(system, environment, { store: storeOf(launch), cache });
    environment.set("LORIKEET_SURVEY", JSON.stringify(seen));
  }
  const needsGpu = computes && !asksForHelp(args);
  const gpu = needsGpu ? await requestedGpu(args, system, { readsYaml }) : "deno";
  const native = prepareDawn(system, environment, { gpu, deno, store: storeOf(launch) });
  if (needsGpu && system.name.startsWith("Linux")) {
    prepareVulkan(system, environment, { store: storeOf(launch) });
  }
  // Deno starts no program with LD_LIBRARY_PATH in the environment unless it may start all. A command that
  // starts others hands it on to them under another name.
  if (permissions.programs.includes("./lorikeet")) {
    environment.rename("LD_LIBRARY_PATH", "LORIKEET_LIBRARY_PATH");
  }
  // What `bench tune` measures on a GPU, every command finds there.
  environment.setDefault("LORIKEET_TILES", `${cache}/lorikeet/tiles.json`);
  const words = [
    deno,
    "run",
    "--quiet",
    ...commonFlags(launch),
    ...permissionFlags(permissions, {
      lorikeet: `${root}/lorikeet`,
      python: readFlag("python", args) ?? "python3",
      has: system.has,
    }),
    ...(native === undefined ? [] : [`--allow-ffi=${native}`]),
    `${root}/${program}`,
  ];
  return [...environmentLines(environment), `exec ${quoted(words)} "$@"`];
}

/** Developers' commands, which may start Deno again by its name. */
function putDenoFirst({ deno }: Launch, environment: Environment): void {
  const folder = deno.slice(0, deno.lastIndexOf("/"));
  environment.set("PATH", `${folder}:${environment.get("PATH") ?? ""}`);
}

/** Folders of tests that run as one suite each (tests/suites/suite.ts). */
const SUITES = ["kernels", "model", "train"];

/** All tests, as arguments of `deno test`: the suites, and whatever else lies in tests/. */
function allTests(root: string, system: System): string[] {
  const folder = `${root}/tests`;
  const others = system.names(folder).filter((name) =>
    !SUITES.includes(name) && (!name.includes(".") || name.endsWith("_test.ts"))
  );
  return [...SUITES.map((name) => `suites/${name}.ts`), ...others].map((name) =>
    `${folder}/${name}`
  );
}

async function testLines(
  launch: Launch,
  system: System,
  environment: Environment,
): Promise<string[]> {
  const { root, deno, args } = launch;
  const gpu = await requestedGpu([], system);
  const native = prepareDawn(system, environment, { gpu, deno, store: storeOf(launch) });
  if (system.name.startsWith("Linux")) {
    prepareVulkan(system, environment, { store: storeOf(launch) });
  }
  // Two files at a time: more would wait for the same GPU.
  environment.setDefault("DENO_JOBS", "2");
  // Two files keep two cores busy: a software driver's threads would only wake each other.
  environment.setDefault("LP_NUM_THREADS", "0");
  const words = [
    // Types are checked by `check`; checking them here again would only make the tests start later.
    deno,
    "test",
    "--parallel",
    "--no-check",
    ...commonFlags(launch),
    ...TEST_FLAGS,
    ...(native === undefined ? [] : [`--allow-ffi=${native}`]),
  ];
  const all = args.some((argument) => system.exists(argument)) ? [] : allTests(root, system);
  return [
    ...environmentLines(environment),
    `exec ${quoted(words)} "$@" ${quoted(all)}`.trimEnd(),
  ];
}

/** What `compile` may do. */
const COMPILE_FLAGS = [
  "--no-prompt",
  "--frozen",
  "--allow-read",
  "--allow-write=dist",
  "--allow-run",
  "--allow-env=DENORT_BIN",
];

/** What `bundle` may do: it also asks Deno, which is first on the PATH, what the programs import. */
const BUNDLE_FLAGS = [
  "--quiet",
  "--no-prompt",
  "--allow-read",
  "--allow-write",
  "--allow-run=tar,gzip,xz,deno",
  "--ignore-env",
  "--allow-env=NO_COLOR,TERM,COLUMNS",
];

async function toolLines(
  launch: Launch,
  system: System,
  environment: Environment,
): Promise<string[]> {
  const { root, deno, command, args } = launch;
  putDenoFirst(launch, environment);
  const enter = `cd -- ${quote(root)}`;
  const checkTypes = [deno, "check", "--frozen"];
  switch (command) {
    case "test":
      return await testLines(launch, system, environment);
    case "check":
      return [
        ...environmentLines(environment),
        enter,
        `exec ${quoted([...checkTypes, ...(args.length > 0 ? [] : ["."])])} "$@"`,
      ];
    case "compile":
      return [
        ...environmentLines(environment),
        enter,
        `exec ${quoted([deno, "run", ...COMPILE_FLAGS, "scripts/compile.ts"])} "$@"`,
      ];
    case "bundle":
      return [
        ...environmentLines(environment),
        `exec ${
          quoted([
            deno,
            "run",
            ...commonFlags(launch),
            ...BUNDLE_FLAGS,
            `${root}/scripts/bundle.ts`,
          ])
        } "$@"`,
      ];
    default: {
      const steps = [[deno, "fmt", "--check"], [deno, "lint"], [...checkTypes, "."]];
      return [
        enter,
        ...steps.map((step) => `${quoted(step)} || exit`),
        ...await testLines(launch, system, environment),
      ];
    }
  }
}

async function refuseUnknown(command: string): Promise<never> {
  const { didYouMean } = await import("../../kernels/suggestion.ts");
  throw new Refused(
    `unknown command "${command}"${didYouMean(command, COMMANDS)} ` +
      `(the commands are ${COMMANDS.join(", ")})`,
    2,
  );
}

/**
 * The shell's lines that run a command.
 *
 * @throws {Refused} where it can't be run.
 */
export async function planLines(launch: Launch, system: System): Promise<string[]> {
  const { root, command, args } = launch;
  const environment = new Environment(system);
  environment.rename("LORIKEET_LIBRARY_PATH", "LD_LIBRARY_PATH");
  if (command === "permissions") { // for those who want to see what a command may do
    const [name = "", ...rest] = args;
    if (!COMMANDS.includes(name)) return await refuseUnknown(name);
    return [`printf '%s\\n' ${quote(flagsAnywhere(name, rest, `${root}/lorikeet`).join(" "))}`];
  }
  if (command === "--install") {
    if (system.name.startsWith("Linux")) {
      prepareVulkan(system, environment, { store: storeOf(launch), install: true });
    }
    return ["exit 0"];
  }
  // A bundle has Deno beside the launcher.
  if (!isBundled(command) && COMMANDS.includes(command) && system.exists(`${root}/deno`)) {
    throw new Refused(`${command} is not part of a bundle: run it in the project's folder`);
  }
  if (isProgram(command)) return await programLines({ ...launch, command }, system, environment);
  if (!COMMANDS.includes(command)) return await refuseUnknown(command);
  return await toolLines(launch, system, environment);
}
