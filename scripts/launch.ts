/**
 * The launcher's second half, which runs once Deno was found. For `lorikeet` it prints the lines that the shell
 * evaluates to run a command; for `lorikeet.cmd` it runs the command. Its modules import nothing heavy, as starts wait
 * for them.
 *
 * @module
 */
import { decidesByFlag } from "./launch/flags.ts";
import { cachedPlan, noting } from "./launch/cached_plan.ts";
import { isWindows, withSlashes } from "./launch/paths.ts";
import { type Launch, planStart } from "./launch/plan.ts";
import { isProgram, type ProgramCommand, PROGRAMS } from "./launch/permissions.ts";
import { shellLines } from "./launch/shell.ts";
import { startPlan } from "./launch/start.ts";
import { Refused, type System, thisSystem } from "./launch/system.ts";

/** Whether the next start of this command with other plain arguments would have the same plan. */
function isSteady({ command, args }: Launch): boolean {
  if (!isProgram(command)) return false;
  const { variants, permissions }: ProgramCommand = PROGRAMS[command];
  const { runs, serves, writesTo } = permissions;
  return variants === undefined && !runs && !writesTo && serves !== "address" &&
    !decidesByFlag(args);
}

/** Keeps a plan in the project's folder, where that can be written. */
function keep(launch: Launch, system: System, plan: { lines: string[]; facts: readonly string[] }) {
  const { root, command } = launch;
  const folder = `${root}/.deno/plans`, file = `${folder}/${command}`;
  if (!system.makeFolder(folder)) return;
  const parts = `${root}/scripts/launch`;
  const modules = [parts, `${parts}.ts`, ...system.names(parts).map((name) => `${parts}/${name}`)];
  const text = cachedPlan(launch, plan.lines, { facts: plan.facts, modules, file });
  const scratch = system.makeScratch(folder);
  system.write(`${scratch}/plan`, text);
  system.move(`${scratch}/plan`, file);
  system.remove(scratch);
}

/** Plans a start for the shell, and prints its lines. */
async function planForShell(launch: Launch, machine: System): Promise<void> {
  const { system, facts } = noting(machine);
  const lines = shellLines(await planStart(launch, system)), restsOn = facts();
  if (restsOn !== undefined && isSteady(launch)) keep(launch, machine, { lines, facts: restsOn });
  console.log(lines.join("\n"));
}

/** Starts a command on Windows, whose cmd can't evaluate lines. @returns its exit status. */
async function startOnWindows(launch: Launch, machine: System): Promise<number> {
  const root = withSlashes(launch.root), cache = withSlashes(launch.cache);
  const plan = await planStart({ ...launch, root, cache, deno: withSlashes(launch.deno) }, machine);
  return await startPlan(plan, launch.args);
}

if (import.meta.main) {
  const [root, name, cache, deno, command = "--help", ...args] = Deno.args;
  const launch: Launch = { root, cache, deno, command, args };
  const machine = thisSystem(name), windows = isWindows(machine);
  try {
    if (windows) Deno.exit(await startOnWindows(launch, machine));
    else await planForShell(launch, machine);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    machine.say(`error: ${error.message}`);
    if (windows) Deno.exit(error.status);
    console.log(`exit ${error.status}`);
  }
}
