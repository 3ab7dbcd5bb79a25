/**
 * A folder of measurements, one JSON file each. Every one is the result of a command in a process of its own,
 * so that nothing of one is left when the next begins. What was measured is not measured again: a series
 * that was interrupted goes on where it was.
 *
 * @module
 */
import { join } from "node:path";
import { z } from "zod";
import project from "../deno.json" with { type: "json" };
import { UserError } from "../kernels/errors.ts";
import { exists, fileError, readJson, temporaryName, writeJson } from "../model/files/weights.ts";
import { LORIKEET, type Outcome, runProcess } from "./processes.ts";

/** Lorikeet's version. */
export const VERSION: string = project.version;

const bytes = z.number().nonnegative();

const refusalSchema = z.object({
  gpu: z.string(),
  by: z.enum(["plan", "driver"]),
  needed: z.object({
    ...{ parameter: bytes, activation: bytes, gradient: bytes, optimizer: bytes },
    workspace: bytes,
  }),
  total: bytes,
  available: bytes.optional(),
});

/** A run that was refused for memory: on which GPU and by whom, what it needs and what there is, in bytes. */
export type Refusal = z.output<typeof refusalSchema>;

const measuredSchema = z.strictObject({
  command: z.array(z.string()),
  version: z.string(),
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

/** A program that prints one JSON object, and the arguments that come before a measurement's own. */
export interface Program {
  path: string;
  args: readonly string[];
}

/** A folder of measurements. */
export class Measurements {
  /**
   * @param folder Made where it does not exist.
   * @param program What is run; without it, Lorikeet's launcher.
   */
  constructor(
    readonly folder: string,
    readonly program: Program = { path: LORIKEET, args: [] },
  ) {}

  /** Whether `name` is there, measured with this command. */
  has(name: string, command: readonly string[]): boolean {
    return this.#kept(name, command) !== undefined;
  }

  /**
   * The result of a command, which prints one JSON object (so Lorikeet's get `--json`): from the folder, or
   * measured now and kept.
   *
   * @param name The file's name, without `.json`.
   * @throws {UserError} where the command fails other than for want of memory, or prints something else.
   */
  async measure(name: string, command: readonly string[]): Promise<Measured> {
    const kept = this.#kept(name, command);
    if (kept !== undefined) return kept;
    const measured = await this.run(command);
    this.#write(name, measured);
    return measured;
  }

  /** The result of a command, measured now and not kept. @throws as {@linkcode measure} does. */
  async run(command: readonly string[]): Promise<Measured> {
    const words = [...this.program.args, ...command];
    const outcome = await runProcess(this.program.path, words);
    const object = printed(outcome), refused = refusalSchema.safeParse(object?.refused).data;
    if (refused === undefined && (object === undefined || outcome.code !== 0)) {
      const said = outcome.stderr.slice(Math.max(0, outcome.stderr.search(/^error: /m))).trim();
      throw new UserError(
        `${words.join(" ")} failed (exit code ${outcome.code}): ` +
          (said || "it printed no JSON object"),
      );
    }
    return {
      ...{ command: [...command], version: VERSION, measured_at: new Date().toISOString() },
      ...(refused === undefined ? { result: object } : { refused }),
      nvidia_smi_mb: outcome.nvidia_smi_mb,
    };
  }

  #path(name: string): string {
    return join(this.folder, `${name}.json`);
  }

  #kept(name: string, command: readonly string[]): Measured | undefined {
    const kept = read(this.#path(name));
    return kept?.version === VERSION && same(kept.command, command) ? kept : undefined;
  }

  /** Under its own name a file is whole, whenever the program is killed. */
  #write(name: string, measured: Measured): void {
    const path = this.#path(name), temporary = temporaryName(path);
    try {
      Deno.mkdirSync(this.folder, { recursive: true });
      writeJson(temporary, measured);
      Deno.renameSync(temporary, path);
    } catch (error) {
      throw fileError(path, "write", error);
    }
  }
}
