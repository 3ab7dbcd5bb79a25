/**
 * The launcher's second half, which runs once Deno was found. For `lorikeet` it prints the lines that the shell
 * evaluates to run a command; for `lorikeet.cmd` it runs the command. Its modules import nothing heavy, as starts wait
 * for them.
 *
 * @module
 */
import { keptPlan } from "./launch/flags.ts";
import { cachedPlan, noting } from "./launch/cached_plan.ts";
import { isWindows, withSlashes } from "./launch/paths.ts";
import { type Launch, planStart } from "./launch/plan.ts";
import { isProgram, type ProgramCommand, PROGRAMS } from "./launch/permissions.ts";
import { shellLines } from "./launch/shell.ts";
import { startPlan } from "./launch/start.ts";
import { Refused, type System, thisSystem } from "./launch/system.ts";

/** The name of the plan that the next start of this command with other plain arguments would have, too. */
function steadyPlan({ command, args }: Launch): string | undefined {
  if (!isProgram(command)) return undefined;
  const { variants, permissions }: ProgramCommand = PROGRAMS[command];
  const { runs, serves, writesTo } = permissions;
  const isSteady = variants === undefined && !runs && !writesTo && serves !== "address";
  return isSteady ? keptPlan(command, args) : undefined;
}

/** A plan to be kept. */
interface KeptPlan {
  name: string;
  lines: string[];
  facts: readonly string[];
}

/** Keeps a plan in the project's folder, where that can be written. */
function keep(launch: Launch, system: System, plan: KeptPlan) {
  const { root } = launch;
  const folder = `${root}/.deno/plans`, file = `${folder}/${plan.name}`;
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
  const lines = shellLines(await planStart(launch, system));
  const name = steadyPlan(launch), restsOn = facts();
  if (restsOn !== undefined && name !== undefined) {
    keep(launch, machine, { name, lines, facts: restsOn });
  }
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
