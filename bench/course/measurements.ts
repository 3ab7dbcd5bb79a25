/**
 * A folder of measurements, one JSON file each. Every one is the result of a command in a process of its own,
 * so that nothing of one is left when the next begins. What was measured is not measured again: a series
 * that was interrupted goes on where it was.
 *
 * @module
 */
import { join } from "node:path";
import { z } from "zod";
import { LORIKEET } from "../../cli/launcher.ts";
import project from "../../deno.json" with { type: "json" };
import { UserError } from "../../kernels/errors.ts";
import { environment } from "../../kernels/gpu/providers/environment.ts";
import { readJson } from "../../model/files/json_file.ts";
import { exists } from "../../model/files/whole_file.ts";
import { replaceFile } from "../replace_file.ts";
import type { DeviceInfo } from "../device.ts";
import { type Outcome, runProcess } from "./processes.ts";
import { lorikeetSources } from "./sources.ts";

/** Lorikeet's version. */
export const VERSION: string = project.version;

const bytes = z.number().nonnegative();

/** A run that was refused for memory: by whom, what it needs and what there is, in bytes. */
const refusalSchema = z.object({
  by: z.enum(["plan", "driver"]),
  needed: z.object({
    parameter: bytes,
    activation: bytes,
    gradient: bytes,
    optimizer: bytes,
    workspace: bytes,
  }),
  total: bytes,
  available: bytes.optional(),
});

const measuredSchema = z.strictObject({
  command: z.array(z.string()),
  /** What it was measured with: see {@linkcode Program}. */
  sources: z.string(),
  /** The name of the GPU that it is of. */
  gpu: z.string(),
  /** When it ended, in ISO 8601. */
  measured_at: z.string(),
  /** What the command printed, one JSON object; or why it was refused. */
  result: z.record(z.string(), z.unknown()).optional(),
  refused: refusalSchema.optional(),
  /** See {@linkcode Outcome}. */
  nvidia_smi_mb: z.number().optional(),
}).refine(({ result, refused }) => (result === undefined) !== (refused === undefined));

/** One measurement: either `result` or `refused` is there. */
export type Measured = z.output<typeof measuredSchema>;

/** A file's measurement, or undefined where there is none or it is damaged. */
function read(path: string): Measured | undefined {
  if (!exists(path)) return undefined;
  try {
    return measuredSchema.safeParse(readJson(path)).data;
  } catch (error) {
    if (error instanceof UserError) return undefined;
    throw error;
  }
}

const same = (a: readonly string[], b: readonly string[]) =>
  a.length === b.length && a.every((word, i) => word === b[i]);

/** The JSON object that a process printed, or undefined. */
export function printed({ stdout }: Pick<Outcome, "stdout">): Record<string, unknown> | undefined {
  try {
    return z.record(z.string(), z.unknown()).safeParse(JSON.parse(stdout)).data;
  } catch {
    return undefined;
  }
}

/** A program that prints one JSON object. */
export interface Program {
  /** Runs it with these arguments to its end. */
  run: (args: readonly string[]) => Promise<Outcome>;
  /** The arguments that come before a measurement's own. */
  args: readonly string[];
  /** The hash of the sources that decide what it measures, and the variables that decide on which device. */
  sources: string;
}

/** Variables that decide what a run gets of a GPU; the flag `--gpu` is among its arguments. */
const DEVICE_VARIABLES = ["LORIKEET_GPU", "LORIKEET_LIMITS"];

/** The variables that are set, as a shell would set them. */
function deviceVariables(): string[] {
  return DEVICE_VARIABLES.flatMap((name) => {
    const value = environment(name);
    return value === undefined ? [] : [`${name}=${value}`];
  });
}

/** Lorikeet's own commands, started by the launcher or by another program. */
export const lorikeetProgram = (
  path: string = LORIKEET,
  args: readonly string[] = [],
): Program => ({
  run: (words) => runProcess(path, words),
  args,
  sources: [lorikeetSources(), ...deviceVariables()].join(" "),
});

/**
 * What a command's process left behind: one JSON object, so Lorikeet's get `--json`.
 *
 * @throws {UserError} where it fails other than for want of memory, or prints something else.
 */
async function run(
  program: Program,
  command: readonly string[],
): Promise<Pick<Measured, "result" | "refused" | "nvidia_smi_mb">> {
  const words = [...program.args, ...command];
  const outcome = await program.run(words), { nvidia_smi_mb } = outcome;
  const object = printed(outcome), refused = refusalSchema.safeParse(object?.refused).data;
  if (refused !== undefined) return { refused, nvidia_smi_mb };
  if (object !== undefined && outcome.code === 0) return { result: object, nvidia_smi_mb };
  const said = outcome.stderr.slice(Math.max(0, outcome.stderr.search(/^error: /m))).trim();
  throw new UserError(
    `${words.join(" ")} failed (exit code ${outcome.code}): ` +
      (said || "it printed no JSON object"),
  );
}

/** A folder of measurements of one GPU. */
export class Measurements {
  /**
   * @param folder Made where it does not exist.
   * @param device What measurements are of.
   * @param program What is run; without it, Lorikeet's launcher.
   */
  constructor(
    readonly folder: string,
    readonly device: DeviceInfo,
    readonly program: Program = lorikeetProgram(),
  ) {}

  /** A folder of measurements of the GPU that runs get. @throws {UserError} where there is none. */
  static async open(
    folder: string,
    gpu: string,
    program = lorikeetProgram(),
  ): Promise<Measurements> {
    const { result } = await run(program, ["bench", "device", "--gpu", gpu, "--json"]);
    return new Measurements(folder, result as unknown as DeviceInfo, program);
  }

  /**
   * The result of a command, which prints one JSON object (so Lorikeet's get `--json`): from the folder, or
   * measured now and kept.
   *
   * @param name The file's name, without `.json`.
   * @throws {UserError} where the command fails other than for want of memory, or prints something else, and where
   * the folder has the result of another GPU.
   */
  async measure(name: string, command: readonly string[]): Promise<Measured> {
    const kept = this.#kept(name, command);
    if (kept !== undefined) return kept;
    const outcome = await run(this.program, command);
    const measured = {
      command: [...command],
      sources: this.program.sources,
      gpu: this.device.gpu,
      measured_at: new Date().toISOString(),
      ...outcome,
    };
    replaceFile(this.#path(name), JSON.stringify(measured, null, 2) + "\n");
    return measured;
  }

  #path(name: string): string {
    return join(this.folder, `${name}.json`);
  }

  #kept(name: string, command: readonly string[]): Measured | undefined {
    const kept = read(this.#path(name));
    if (kept?.sources !== this.program.sources || !same(kept.command, command)) return undefined;
    if (kept.gpu === this.device.gpu) return kept;
    throw new UserError(
      `folder ${this.folder} holds measurements of ${kept.gpu}, and this machine's GPU is ` +
        `${this.device.gpu}; expected another --folder`,
    );
  }
}
