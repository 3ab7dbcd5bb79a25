/**
 * What each command is and what it may do: the one place where this is stated.
 *
 * @module
 */

import { serverUrl } from "../../cli/server_url.ts";
import { readFlag } from "./flags.ts";
import { Refused } from "./system.ts";

/** What Deno lets a program do. */
export interface Permissions {
  /** Whether it may write files. */
  readonly write: boolean;
  /** Flags that name the only files which it may write, where it may not write all. */
  readonly writesTo?: readonly string[];
  /** Programs that it may run, by name or, for the launcher, by `./lorikeet`. */
  readonly programs: readonly string[];
  /** Whether the user may name one more program, a Python, by `--python`. */
  readonly python?: boolean;
  /**
   * Whether it serves a page to this machine, always or where it is given `--watch`, or the `address` that `--host` and
   * `--port` name.
   */
  readonly serves?: "always" | "--watch" | "address";
  /**
   * Whether its arguments name folders of runs: of files, it reads only theirs. One that `watches` has a page to read as
   * well, and writes `stop` in them.
   */
  readonly runs?: "reads" | "watches";
  /** Whether it asks the server that `--server` names: it reads no file but that of `--api-key-file`. */
  readonly asks?: true;
  /** Whether it measures the server that `--url` names, or one of this machine. */
  readonly measures?: true;
}

/** A command that is a program of the project. */
export interface ProgramCommand {
  /** The file that is run, from the project's folder. */
  readonly program: string;
  /** Whether it needs a GPU or a software driver. */
  readonly computes: boolean;
  /** Whether its arguments may name a YAML file with keys of the same names as its flags. */
  readonly readsYaml?: boolean;
  readonly permissions: Permissions;
  /** Whether the launcher tells it what it sees of the machine (survey.ts). */
  readonly surveys?: boolean;
  /** Deno's flags about V8 for it. */
  readonly v8Flags?: readonly string[];
  /** Where the first argument names a variant: what is different for it. */
  readonly variants?: Readonly<
    Record<string, Pick<ProgramCommand, "computes" | "permissions" | "surveys">>
  >;
  /** What is different where `--server` names one to ask. */
  readonly remote?: Pick<ProgramCommand, "computes" | "permissions">;
}

const READS: Permissions = { write: false, programs: [] };
const WRITES: Permissions = { write: true, programs: [] };
const EVALUATES: Permissions = { ...READS, writesTo: ["--output", "--log-samples"] };
/** `nvidia-smi` tells the free memory of GPUs. */
const MERGES: Permissions = { write: true, programs: ["nvidia-smi"] };
const TRAINS: Permissions = { ...MERGES, serves: "--watch" };
const WATCHES: Permissions = { write: false, programs: [], serves: "always", runs: "watches" };
const SERVES: Permissions = { ...READS, serves: "address" };
const ASKS: Permissions = { ...WRITES, asks: true };
const COMPARES: Permissions = { write: false, programs: [], runs: "reads" };

/** A process of `doctor` for each thing that may crash or hang. */
const PROBE = {
  computes: true,
  surveys: false,
  permissions: { write: false, programs: ["nvidia-smi"] },
} as const;

/** A series only starts other commands, which compute. */
const SERIES = {
  computes: false,
  permissions: { write: true, programs: ["nvidia-smi", "./lorikeet"] },
} as const;

/**
 * V8 waits until a heap has grown to several times of what is alive in it, so that a server under load grows for minutes. With
 * these it collects at 1.5 times; what is new has 4 MB, not 16. That takes a server's thread some 10 % more time.
 */
const STEADY = ["--v8-flags=--heap-growing-percent=50,--max-semi-space-size=4"] as const;

/** The commands that are programs. */
export const PROGRAMS = {
  train: { program: "train/main.ts", computes: true, readsYaml: true, permissions: TRAINS },
  compare: { program: "train/compare/main.ts", computes: false, permissions: COMPARES },
  generate: { program: "infer/generate.ts", computes: true, permissions: READS },
  chat: {
    program: "infer/chat.ts",
    computes: true,
    permissions: WRITES,
    remote: { computes: false, permissions: ASKS },
  },
  serve: {
    program: "infer/serve/main.ts",
    computes: true,
    permissions: SERVES,
    v8Flags: STEADY,
  },
  score: { program: "infer/score.ts", computes: true, permissions: READS },
  evaluate: { program: "infer/evaluate.ts", computes: true, permissions: EVALUATES },
  merge: { program: "infer/merge.ts", computes: true, permissions: MERGES },
  convert: { program: "infer/convert.ts", computes: false, permissions: WRITES },
  doctor: {
    program: "doctor/main.ts",
    computes: false,
    surveys: true,
    permissions: { write: true, programs: ["nvidia-smi", "./lorikeet"] },
    variants: { probe: PROBE },
  },
  watch: { program: "train/watch/main.ts", computes: false, permissions: WATCHES },
  bench: {
    program: "bench/main.ts",
    computes: true,
    // Loading is compared with `cat`; `dd` drops a file from the page cache.
    permissions: { write: true, programs: ["nvidia-smi", "cat", "dd"] },
    variants: {
      serve: { ...SERIES, permissions: { ...SERIES.permissions, measures: true } },
      table1: SERIES,
      table2: SERIES,
      peers: { ...SERIES, permissions: { ...SERIES.permissions, python: true } },
    },
  },
  report: { program: "bench/course/report.ts", ...SERIES },
} as const satisfies Record<string, ProgramCommand>;

/** A command that is a program. */
export type ProgramName = keyof typeof PROGRAMS;

/** The commands that are not programs of the project. */
export const TOOLS = ["test", "check", "ok", "compile", "bundle", "deno"] as const;

/** Every command, as the help lists them. */
export const COMMANDS: readonly string[] = [...Object.keys(PROGRAMS), ...TOOLS];

/** Whether a command is a program of the project. */
export function isProgram(command: string): command is ProgramName {
  return Object.hasOwn(PROGRAMS, command);
}

/** Whether a bundle has the command. Measurements draw and print with packages that are twice as large as all else. */
export function isBundled(command: string): boolean {
  return isProgram(command) && !PROGRAMS[command].program.startsWith("bench/");
}

/** What the command `name` is with these arguments. */
export function programCommand(name: ProgramName, args: readonly string[]): ProgramCommand {
  const command: ProgramCommand = PROGRAMS[name];
  const variant = Object.hasOwn(command.variants ?? {}, args[0] ?? "")
    ? command.variants?.[args[0]]
    : undefined;
  const remote = readFlag("server", args) === undefined ? undefined : command.remote;
  return { ...command, ...variant, ...remote };
}

/** Variables that programs may see. Others read as unset, which npm packages take better than a refusal. */
const VARIABLES = [
  "NO_COLOR",
  "FORCE_COLOR",
  "CLICOLOR",
  "CLICOLOR_FORCE",
  "TERM",
  "COLUMNS",
  "LORIKEET_GPU",
  "LORIKEET_LIMITS",
  "LORIKEET_TILES",
  "DAWN_NODE",
  // What memory the launcher found the job to have.
  "LORIKEET_JOB_MEMORY",
  // By this the launcher tells `doctor` what it sees of the machine.
  "LORIKEET_SURVEY",
  // By this a series tells its runs its process, with which they end.
  "LORIKEET_PARENT",
  // By this the launcher says whether it was started by `nohup`.
  "LORIKEET_HANGUP",
];

/** Deno's flags for tests, which write to temporary folders, run the launcher and Deno, and ask the page's server. */
export const TEST_FLAGS: readonly string[] = [
  "--no-prompt",
  "--allow-read",
  "--allow-write",
  "--allow-run",
  "--allow-env",
  "--allow-sys",
  "--allow-net=127.0.0.1",
];

/** The folders of runs among the arguments. */
function runFolders(args: readonly string[]): string[] {
  const runs = args.filter((argument, i) => !argument.startsWith("-") && args[i - 1] !== "--port");
  for (const run of runs) {
    // Deno would take it for two folders.
    if (run.includes(",")) {
      throw new Refused(`${run}: a run's folder can't have a comma in its path here`, 1);
    }
  }
  return runs;
}

/**
 * The files among the arguments that are values of these flags, which may be spelt with underscores.
 *
 * @param doing What is done with them, for messages.
 */
function namedFiles(
  args: readonly string[],
  flags: readonly string[],
  doing: "read" | "write",
): string[] {
  const flagOf = (argument = "") => argument.split("=")[0].replaceAll("_", "-");
  const files = args.flatMap((argument, i) => {
    if (argument.includes("=") && flags.includes(flagOf(argument))) {
      return [argument.slice(argument.indexOf("=") + 1)];
    }
    return flags.includes(flagOf(args[i - 1])) && !args[i - 1].includes("=") ? [argument] : [];
  }).filter((file) => file !== "");
  for (const file of files) {
    // Deno would take it for two files.
    if (file.includes(",")) {
      throw new Refused(`${file}: a file to ${doing} can't have a comma in its path here`, 1);
    }
  }
  return files;
}

/** Deno's flags for files. */
function fileFlags(
  { write, writesTo, runs, asks }: Permissions,
  { lorikeet, args }: { lorikeet: string; args: readonly string[] },
): string[] {
  if (asks) {
    const files = namedFiles(args, ["--api-key-file"], "read");
    return [...(files.length > 0 ? [`--allow-read=${files}`] : []), "--allow-write"];
  }
  if (writesTo !== undefined) {
    const files = namedFiles(args, writesTo, "write");
    return ["--allow-read", ...(files.length > 0 ? [`--allow-write=${files}`] : [])];
  }
  if (!runs) return ["--allow-read", ...(write ? ["--allow-write"] : [])];
  const folders = runFolders(args), root = lorikeet.slice(0, lorikeet.lastIndexOf("/"));
  if (runs === "reads") return folders.length > 0 ? [`--allow-read=${folders}`] : [];
  const stops = folders.map((folder) => `${folder}/stop`);
  return [
    `--allow-read=${[...folders, `${root}/train/watch/page`, `${root}/http/page`]}`,
    ...(stops.length > 0 ? [`--allow-write=${stops}`] : []),
  ];
}

/** The address that a command serves, as its arguments have it. */
function servedAddress(args: readonly string[]): string {
  const host = readFlag("host", args) ?? "127.0.0.1", port = readFlag("port", args) ?? "8080";
  // Whatever else it is, the command refuses: then it needs no socket.
  if (!/^[\da-f.:]+$/i.test(host) || !/^\d{1,5}$/.test(port)) return "127.0.0.1";
  const name = host.includes(":") ? `[${host}]` : host;
  return Number(port) === 0 ? name : `${name}:${Number(port)}`;
}

/** The server that a command asks; undefined where it asks none. What is no server's URL, the command refuses. */
function askedBy({ asks, measures }: Permissions, args: readonly string[]): string | undefined {
  if (asks) return serverUrl(readFlag("server", args) ?? "")?.address;
  if (!measures) return undefined;
  return serverUrl(readFlag("url", args) ?? "")?.address ?? "127.0.0.1";
}

/** What a command may serve; undefined where it serves nothing. */
function servedBy({ serves }: Permissions, args: readonly string[]): string | undefined {
  if (serves === "address") return servedAddress(args);
  const isServed = serves === "always" ||
    serves !== undefined && args.some((argument) => argument.startsWith(serves));
  return isServed ? "127.0.0.1" : undefined;
}

/**
 * Deno's flags for these permissions.
 *
 * @param lorikeet The launcher's path.
 * @param args The command's arguments, which may ask for a page or name the runs.
 * @param python What `--python` names, where the permissions allow one.
 * @param has Whether the machine has a program: Deno warns about those that it can't find.
 */
export function permissionFlags(
  permissions: Permissions,
  { lorikeet, python, args, has }: {
    lorikeet: string;
    python: string;
    args: readonly string[];
    has: (program: string) => boolean;
  },
): string[] {
  const { programs, python: anyPython } = permissions;
  const named = anyPython ? [...programs, python] : programs;
  // A comma would name two programs.
  const there = named.map((name) => name === "./lorikeet" ? lorikeet : name)
    .filter((name) => name === lorikeet || (!name.includes(",") && has(name)));
  const net = askedBy(permissions, args) ?? servedBy(permissions, args);
  return [
    "--no-prompt",
    ...fileFlags(permissions, { lorikeet, args }),
    // What memory and what room on a disk is free, and who holds a lock.
    "--allow-sys=systemMemoryInfo,statfs,hostname",
    "--ignore-env",
    `--allow-env=${VARIABLES}`,
    ...(there.length > 0 ? [`--allow-run=${there}`] : []),
    ...(net === undefined ? [] : [`--allow-net=${net}`]),
  ];
}

/** Deno's flags for a command on a machine that has all programs, as a compiled program takes along. */
export function flagsAnywhere(
  name: string,
  args: readonly string[],
  lorikeet: string,
): readonly string[] {
  if (name === "test") return TEST_FLAGS;
  const permissions = isProgram(name) ? programCommand(name, args).permissions : READS;
  return permissionFlags(permissions, { lorikeet, python: "python3", args, has: () => true });
}
