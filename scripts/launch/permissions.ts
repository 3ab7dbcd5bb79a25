/**
 * What each command is and what it may do: the one place where this is stated.
 *
 * @module
 */

/** What Deno lets a program do. */
export interface Permissions {
  /** Whether it may write files. */
  readonly write: boolean;
  /** Programs that it may run, by name or, for the launcher, by `./lorikeet`. */
  readonly programs: readonly string[];
  /** Whether the user may name one more program, a Python, by `--python`. */
  readonly python?: boolean;
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
  /** Where the first argument names a variant: what is different for it. */
  readonly variants?: Readonly<
    Record<string, Pick<ProgramCommand, "computes" | "permissions" | "surveys">>
  >;
}

const READS: Permissions = { write: false, programs: [] };
const WRITES: Permissions = { write: true, programs: [] };
/** `nvidia-smi` tells the free memory of GPUs. */
const TRAINS: Permissions = { write: true, programs: ["nvidia-smi"] };

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

/** The commands that are programs. */
export const PROGRAMS = {
  train: { program: "train/main.ts", computes: true, readsYaml: true, permissions: TRAINS },
  generate: { program: "infer/generate.ts", computes: true, permissions: READS },
  chat: { program: "infer/chat.ts", computes: true, permissions: WRITES },
  score: { program: "infer/score.ts", computes: true, permissions: READS },
  merge: { program: "infer/merge.ts", computes: true, permissions: TRAINS },
  convert: { program: "infer/convert.ts", computes: false, permissions: WRITES },
  doctor: {
    program: "doctor/main.ts",
    computes: false,
    surveys: true,
    permissions: { write: true, programs: ["nvidia-smi", "./lorikeet"] },
    variants: { probe: PROBE },
  },
  bench: {
    program: "bench/main.ts",
    computes: true,
    // Loading is compared with `cat`; `dd` drops a file from the page cache.
    permissions: { write: true, programs: ["nvidia-smi", "cat", "dd"] },
    variants: {
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
  return { ...command, ...variant };
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

/** Deno's flags for tests, which write to temporary folders and run the launcher and Deno. */
export const TEST_FLAGS: readonly string[] = [
  "--no-prompt",
  "--allow-read",
  "--allow-write",
  "--allow-run",
  "--allow-env",
  "--allow-sys",
];

/**
 * Deno's flags for these permissions.
 *
 * @param lorikeet The launcher's path.
 * @param python What `--python` names, where the permissions allow one.
 * @param has Whether the machine has a program: Deno warns about those that it can't find.
 */
export function permissionFlags(
  { write, programs, python: anyPython }: Permissions,
  { lorikeet, python, has }: {
    lorikeet: string;
    python: string;
    has: (program: string) => boolean;
  },
): string[] {
  const named = anyPython ? [...programs, python] : programs;
  // A comma would name two programs.
  const there = named.map((name) => name === "./lorikeet" ? lorikeet : name)
    .filter((name) => name === lorikeet || (!name.includes(",") && has(name)));
  return [
    "--no-prompt",
    "--allow-read",
    // What memory and what room on a disk is free, and who holds a lock.
    "--allow-sys=systemMemoryInfo,statfs,hostname",
    "--ignore-env",
    `--allow-env=${VARIABLES}`,
    ...(write ? ["--allow-write"] : []),
    ...(there.length > 0 ? [`--allow-run=${there}`] : []),
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
  return permissionFlags(permissions, { lorikeet, python: "python3", has: () => true });
}
