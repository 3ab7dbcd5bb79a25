/**
 * Entry point of `lorikeet doctor`: what a run would find on this machine, and what to do where something is missing.
 *
 * @module
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { command, parseFlags } from "../cli/command_line.ts";
import { gpu } from "../cli/common_settings.ts";
import { LORIKEET } from "../cli/launcher.ts";
import { runMain } from "../cli/run_main.ts";
import { flag, text } from "../cli/settings.ts";
import { UserError } from "../kernels/errors.ts";
import { environment } from "../kernels/gpu/providers/environment.ts";
import { hostMemory } from "../kernels/measure/host_memory.ts";
import { printJson, printLine } from "../kernels/terminal.ts";
import { nvidiaGpus } from "../kernels/measure/nvidia_smi.ts";
import type { Survey } from "../scripts/launch/survey.ts";
import { canTrain, type Check, reportLines } from "./check.ts";
import { checkDeno, denoVersions } from "./deno.ts";
import { checkAbilities, checkDawn, checkDrivers, checkGpu, checkLoader } from "./graphics.ts";
import { checkDeviceMemory, checkHostMemory } from "./memory.ts";
import { probe } from "./probe.ts";
import { type Probed, probing, type RunProbe } from "./processes.ts";
import { checkSpeed } from "./speed.ts";
import { checkCaches, checkRunFolder } from "./storage.ts";

const ROOT = fileURLToPath(new URL("../", import.meta.url));

const DOCTOR = command(
  "doctor",
  "[--flag value ...]",
  "Tells what a run finds on this machine, and the remedy of what is missing. Exit code 0: training can run.",
  z.strictObject({
    gpu,
    output: text("folder", "a folder").default("runs").describe(
      "Folder that runs are to be written to.",
    ),
    json: flag().default(false).describe("Print one JSON object."),
  }),
);

/** What the launcher saw of the machine. */
function readSurvey(): Survey {
  const told = environment("LORIKEET_SURVEY");
  if (told === undefined) {
    throw new UserError(
      "the doctor was started without the launcher; expected `./lorikeet doctor`",
    );
  }
  return JSON.parse(told);
}

/** All that is asked of the GPU. */
async function checkGraphics(
  { vulkan, dawn }: Survey,
  usual: Probed,
  run: RunProbe,
): Promise<Check[]> {
  const checks = vulkan === undefined ? [] : [checkLoader(vulkan), await checkDrivers(vulkan, run)];
  checks.push(checkGpu(usual, checks.at(-1)));
  if ("found" in usual) {
    const { found } = usual, { speed } = found;
    checks.push(...checkAbilities(found, dawn));
    checks.push(checkDeviceMemory(found, await nvidiaGpus()));
    if (speed !== undefined) checks.push(checkSpeed(found, speed));
  }
  checks.push(await checkDawn(dawn, usual, run));
  return checks;
}

/** `lorikeet doctor`. @returns 0 where training can run. */
async function doctor(args: string[]): Promise<number> {
  const flags = parseFlags(DOCTOR, args);
  const seen = readSurvey(), { cache, store, denoDir } = seen;
  const run = probing(LORIKEET);
  // Measured while nothing else is at work.
  const usual = await run({ gpu: flags.gpu, measure: true });
  const memory = hostMemory();
  const checks = [
    checkDeno(Deno.version.deno, denoVersions(ROOT), seen.system),
    ...await checkGraphics(seen, usual, run),
    ...(memory === undefined ? [] : [checkHostMemory(Deno.systemMemoryInfo().total, memory)]),
    checkRunFolder(flags.output),
    checkCaches({
      "Deno's": denoDir ?? join(cache, "deno"),
      "launcher's": store,
      "tiles": join(cache, "lorikeet"),
    }),
  ];
  const able = canTrain(checks);
  if (flags.json) printJson({ can_train: able, checks }, 2);
  else printLine(reportLines(checks).join("\n"));
  return able ? 0 : 1;
}

/** The doctor, or one of its probes. */
export async function main([first, ...rest]: string[]): Promise<number | void> {
  if (first === "probe") return await probe(rest);
  return await doctor(first === undefined ? [] : [first, ...rest]);
}

if (import.meta.main) await runMain(main);
