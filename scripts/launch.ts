/**
 * The launcher's second half, which `lorikeet` runs once it has found Deno: prints the lines that the shell
 * evaluates to run a command. Its modules import nothing heavy, as starts wait for them.
 *
 * @module
 */
import { decidesByFlag } from "./launch/flags.ts";
import { cachedPlan, noting } from "./launch/cached_plan.ts";
import { type Launch, planLines } from "./launch/plan.ts";
import { isProgram, type ProgramCommand, PROGRAMS } from "./launch/permissions.ts";
import { Refused, type System, thisSystem } from "./launch/system.ts";

/** Whether the next start of this command with other plain arguments would have the same plan. */
function isSteady({ command, args }: Launch): boolean {
  if (!isProgram(command)) return false;
  const { variants }: ProgramCommand = PROGRAMS[command];
  return variants === undefined && !decidesByFlag(args);
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

if (import.meta.main) {
  const [root, name, cache, deno, command, ...args] = Deno.args;
  const launch: Launch = { root, cache, deno, command, args };
  const machine = thisSystem(name);
  const { system, facts } = noting(machine);
  try {
    const lines = await planLines(launch, system);
    const restsOn = facts();
    if (restsOn !== undefined && isSteady(launch)) keep(launch, machine, { lines, facts: restsOn });
    console.log(lines.join("\n"));
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    machine.say(`error: ${error.message}`);
    console.log(`exit ${error.status}`);
  }
}
