/**
 * The few settings that decide how a program is started, from its arguments, its YAML file and the
 * environment.
 *
 * @module
 */
import type { System } from "./system.ts";

/** The value of `--name value` or `--name=value`, the last one where there are several. */
export function readFlag(name: string, args: readonly string[]): string | undefined {
  const flag = `--${name}`;
  let value: string | undefined;
  for (const [i, argument] of args.entries()) {
    if (argument.startsWith(`${flag}=`)) value = argument.slice(flag.length + 1);
    else if (args[i - 1] === flag) value = argument;
  }
  return value;
}

/** Whether the arguments ask for help, which computes nothing. */
export function asksForHelp(args: readonly string[]): boolean {
  return args.includes("--help") || args.includes("-h");
}

/** Whether there are flags among the arguments on which a plan rests; the launcher's `find_kept` has the same list. */
export function decidesByFlag(args: readonly string[]): boolean {
  return args.some((argument) =>
    /^(--gpu(?!$|=)|--python|--watch|--server|--help$|-h$)/.test(argument)
  );
}

/** The WebGPUs that a plan is kept for each, where a flag names them. */
const GPUS: readonly string[] = ["auto", "deno", "dawn"];

/** The name of the kept plan for a command; undefined where flags decide otherwise. The launcher's `find_kept` has the same. */
export function keptPlan(command: string, args: readonly string[]): string | undefined {
  if (decidesByFlag(args)) return undefined;
  const gpu = readFlag("gpu", args);
  if (gpu === undefined) return args.at(-1) === "--gpu" ? undefined : command;
  return GPUS.includes(gpu) ? `${command}-${gpu}` : undefined;
}

/** A line of a YAML file with the key `gpu`, or the key inside of brackets. */
const GPU_KEY = /^(?:\{[^\n]*\b)?["']?gpu["']?[ \t]*:[ \t]*["']?([\w-]+)/m;

/**
 * The value of `gpu` in the YAML file among a command's arguments. The line with it is looked for: the program reads the
 * whole file, and tells what is wrong with it. An argument after a flag is taken for the flag's value, unless it is named
 * as a YAML file.
 */
export function gpuOfYaml(
  args: readonly string[],
  system: Pick<System, "read">,
): string | undefined {
  for (const [i, argument] of args.entries()) {
    const isValue = args[i - 1]?.startsWith("--") && !args[i - 1].includes("=");
    if (argument.startsWith("-") || (isValue && !/\.ya?ml$/i.test(argument))) continue;
    const gpu = GPU_KEY.exec(system.read(argument) ?? "")?.[1];
    if (gpu !== undefined) return gpu;
  }
  return undefined;
}

/**
 * The WebGPU that a command asks for: `auto`, `deno`, `dawn` or what else the user wrote. A flag wins over the
 * YAML file; where they say nothing or `auto`, LORIKEET_GPU decides.
 */
export function requestedGpu(
  args: readonly string[],
  system: Pick<System, "read" | "env">,
  { readsYaml = false }: { readsYaml?: boolean } = {},
): string {
  const said = readFlag("gpu", args) ?? (readsYaml ? gpuOfYaml(args, system) : undefined);
  return (said === "auto" ? undefined : said) ?? system.env("LORIKEET_GPU") ?? "auto";
}
