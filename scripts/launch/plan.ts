/**
 * From a command to how it is started: the environment, and the program with its arguments.
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
import { isWindows, pathWith } from "./paths.ts";
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

/** How a command is started. */
export interface Plan {
  /** Changes of the environment: new values, or undefined where a variable is to be unset. */
  readonly changes: ReadonlyMap<string, string | undefined>;
  /** What is printed. */
  readonly prints?: string;
  /** The folder to go to. */
  readonly folder?: string;
  /** Programs that have to succeed first. */
  readonly steps?: readonly (readonly string[])[];
  /** The program and its first arguments, which the user's follow. Absent where all is done. */
  readonly program?: readonly string[];
  /** Arguments after the user's. */
  readonly last?: readonly string[];
}

/** What the project's folder keeps of what was fetched. */
function storeOf({ root }: Launch): string {
  return `${root}/.deno`;
}

/** Deno's flags that every program and test is run with. */
function commonFlags({ root }: Launch): string[] {
  return ["--frozen", "--config", `${root}/deno.json`];
}

/** Deno's flags for a library, which it looks for where it lies once links are followed. */
function nativeFlags(system: System, library: string | undefined): string[] {
  return library === undefined ? [] : [`--allow-ffi=${system.realPath(library) ?? library}`];
}

/** Where older drivers of NVIDIA have `nvidia-smi` on Windows: in no folder of the PATH. */
function nvidiaSmiFolder(system: System): string | undefined {
  if (!isWindows(system) || system.has("nvidia-smi")) return undefined;
  const folder = `${system.env("ProgramFiles") ?? "C:/Program Files"}/NVIDIA Corporation/NVSMI`;
  return system.exists(`${folder}/nvidia-smi.exe`) ? folder : undefined;
}

function programPlan(
  launch: Launch & { command: ProgramName },
  system: System,
  environment: Environment,
): Plan {
  const { root, cache, deno, args } = launch;
  const { program, computes, permissions, readsYaml, surveys, v8Flags = [] } = programCommand(
    launch.command,
    args,
  );
  if (surveys) {
    const seen = survey(system, environment, { store: storeOf(launch), cache });
    environment.set("LORIKEET_SURVEY", JSON.stringify(seen));
  }
  const needsGpu = computes && !asksForHelp(args);
  const gpu = needsGpu ? requestedGpu(args, system, { readsYaml }) : "deno";
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
  const smi = nvidiaSmiFolder(system);
  if (smi !== undefined) {
    const path = environment.get("PATH") ?? "";
    environment.set("PATH", pathWith(path, smi, { windows: true, last: true }));
  }
  const words = [
    deno,
    "run",
    "--quiet",
    ...commonFlags(launch),
    ...permissionFlags(permissions, {
      lorikeet: `${root}/${isWindows(system) ? "lorikeet.cmd" : "lorikeet"}`,
      python: readFlag("python", args) ?? "python3",
      args,
      has: (name) => system.has(name) || (name === "nvidia-smi" && smi !== undefined),
    }),
    ...nativeFlags(system, native),
    ...v8Flags,
    `${root}/${program}`,
  ];
  return { changes: environment.changes, program: words };
}

/** Developers' commands, which may start Deno again by its name. */
function putDenoFirst({ deno }: Launch, system: System, environment: Environment): void {
  const folder = deno.slice(0, deno.lastIndexOf("/")), windows = isWindows(system);
  environment.set("PATH", pathWith(environment.get("PATH") ?? "", folder, { windows }));
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

function testPlan(
  launch: Launch,
  system: System,
  environment: Environment,
): Plan {
  const { root, deno, args } = launch;
  const gpu = requestedGpu([], system);
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
    ...nativeFlags(system, native),
  ];
  const all = args.some((argument) => system.exists(argument)) ? [] : allTests(root, system);
  return { changes: environment.changes, program: words, last: all };
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

function toolPlan(
  launch: Launch,
  system: System,
  environment: Environment,
): Plan {
  const { root, deno, command, args } = launch;
  putDenoFirst(launch, system, environment);
  const { changes } = environment;
  const checkTypes = [deno, "check", "--frozen"];
  switch (command) {
    case "deno":
      return { changes, program: [deno] };
    case "test":
      return testPlan(launch, system, environment);
    case "check":
      return { changes, folder: root, program: [...checkTypes, ...(args.length > 0 ? [] : ["."])] };
    case "compile":
      return {
        changes,
        folder: root,
        program: [deno, "run", ...COMPILE_FLAGS, "scripts/compile.ts"],
      };
    case "bundle": {
      const flags = [...commonFlags(launch), ...BUNDLE_FLAGS];
      return { changes, program: [deno, "run", ...flags, `${root}/scripts/bundle.ts`] };
    }
    default: {
      const steps = [[deno, "fmt", "--check"], [deno, "lint"], [...checkTypes, "."]];
      return { ...testPlan(launch, system, environment), folder: root, steps };
    }
  }
}

/** Characters of an unknown command that are told. */
const LONGEST_NAME = 100;

async function refuseUnknown(command: string): Promise<never> {
  const { didYouMean } = await import("../../kernels/suggestion.ts");
  const { printable, shortened } = await import("../../kernels/terminal.ts");
  const named = printable(shortened(command, LONGEST_NAME));
  throw new Refused(
    `unknown command "${named}"${didYouMean(named, COMMANDS)} ` +
      `(the commands are ${COMMANDS.join(", ")})`,
    2,
  );
}

/** What `--version` prints. */
function versions({ root, deno }: Launch, system: System): string {
  const version = /"version": *"(.*)"/.exec(system.read(`${root}/deno.json`) ?? "")?.[1];
  const said = system.run(deno, ["--version"]).stdout;
  return `lorikeet ${version}\ndeno ${/^deno (\S+)/.exec(said)?.[1]}`;
}

/**
 * How a command is started.
 *
 * @throws {Refused} where it can't be.
 */
export async function planStart(launch: Launch, system: System): Promise<Plan> {
  const { root, command, args } = launch;
  const environment = new Environment(system), { changes } = environment;
  environment.rename("LORIKEET_LIBRARY_PATH", "LD_LIBRARY_PATH");
  switch (command) {
    // The shell answers these by itself, where there is one.
    case "--help":
    case "-h":
    case "help":
      return { changes, prints: system.read(`${root}/scripts/launch/help.txt`)?.trimEnd() };
    case "--version":
    case "-V":
      return { changes, prints: versions(launch, system) };
    case "--install":
      if (system.name.startsWith("Linux")) {
        prepareVulkan(system, environment, { store: storeOf(launch), install: true });
      }
      return { changes };
    case "permissions": { // for those who want to see what a command may do
      const [name = "", ...rest] = args;
      if (!COMMANDS.includes(name)) return await refuseUnknown(name);
      return { changes, prints: flagsAnywhere(name, rest, `${root}/lorikeet`).join(" ") };
    }
  }
  // A bundle has Deno beside the launcher.
  if (!isBundled(command) && COMMANDS.includes(command) && system.exists(`${root}/deno`)) {
    throw new Refused(`${command} is not part of a bundle: run it in the project's folder`);
  }
  if (isProgram(command)) return programPlan({ ...launch, command }, system, environment);
  if (!COMMANDS.includes(command)) return await refuseUnknown(command);
  return toolPlan(launch, system, environment);
}
