/**
 * Starts a plan where no shell makes way for the program: on Windows.
 *
 * @module
 */
import type { Plan } from "./plan.ts";

/** What a terminal sends to every process that it shows; the launcher waits for the program's answer. */
const HEARD: readonly Deno.Signal[] = Deno.build.os === "windows"
  ? ["SIGINT", "SIGBREAK"]
  : ["SIGINT"];

/** Waits for a program. @returns its exit status. */
async function run(
  [program, ...args]: readonly string[],
  env: Record<string, string>,
): Promise<number> {
  const ignore = () => {};
  for (const signal of HEARD) Deno.addSignalListener(signal, ignore);
  try {
    const child = new Deno.Command(program, {
      args,
      clearEnv: true,
      env,
      stdin: "inherit",
      stdout: "inherit",
      stderr: "inherit",
    }).spawn();
    return (await child.status).code;
  } finally {
    for (const signal of HEARD) Deno.removeSignalListener(signal, ignore);
  }
}

/** The environment of the program. */
function environmentOf({ changes }: Plan): Record<string, string> {
  const variables = new Map(Object.entries(Deno.env.toObject()));
  // A program that ends with its parent has this process for one.
  if (variables.has("LORIKEET_PARENT")) variables.set("LORIKEET_PARENT", `${Deno.pid}`);
  for (const [name, value] of changes) {
    // Names differ in more than their case.
    for (const key of [...variables.keys()]) {
      if (key.toUpperCase() === name.toUpperCase()) variables.delete(key);
    }
    if (value !== undefined) variables.set(name, value);
  }
  return Object.fromEntries(variables);
}

/**
 * Does what a plan says.
 *
 * @param args The user's arguments.
 * @returns the exit status.
 */
export async function startPlan(plan: Plan, args: readonly string[]): Promise<number> {
  const { prints, folder, steps = [], program, last = [] } = plan, env = environmentOf(plan);
  if (prints !== undefined) console.log(prints);
  if (folder !== undefined) Deno.chdir(folder);
  for (const step of steps) {
    const code = await run(step, env);
    if (code !== 0) return code;
  }
  return program === undefined ? 0 : await run([...program, ...args, ...last], env);
}
