/**
 * PyTorch's side of `bench peers`: torch_rows.py in a process of its own for every row.
 *
 * @module
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { UserError } from "../../../kernels/errors.ts";
import { configJson } from "../../../model/families/config.ts";
import { fileError } from "../../../model/files/whole_file.ts";
import { makeTrainConfig } from "../../../train/config/config.ts";
import { epochOrder } from "../../../train/data.ts";
import { loraSchema } from "../../../train/config/schema.ts";
import { Measurements, printed } from "../measurements.ts";
import { hashOf } from "../sources.ts";
import { runProcess } from "../processes.ts";
import { type Combination, courseData, nameOf, techniqueFlags } from "../table2.ts";
import type { Table2Plan, Table2Settings } from "../table2.ts";
import { openSamples } from "../../train_samples.ts";
import { lossEnds, sum } from "../../train_run.ts";
import { promptLengthOf } from "../../../model/text/targets.ts";

const SCRIPT = fileURLToPath(new URL("torch_rows.py", import.meta.url));

/** Where the computation runs, as torch_rows.py is told. */
export type TorchDevice = "cuda" | "cpu";

const infoSchema = z.object({
  /** Whose model is trained: `transformers and peft`, or `plain PyTorch`. */
  implementation: z.string(),
  /** Versions; null where it can't be imported. */
  torch: z.string(),
  transformers: z.string().nullable(),
  peft: z.string().nullable(),
  /** Name of the GPU that PyTorch sees, or null. */
  cuda: z.string().nullable(),
});

/** What PyTorch's rows are computed by, and on which GPU. */
export type TorchInfo = z.output<typeof infoSchema>;

const megabytes = z.number().nonnegative();

const rowSchema = z.union([
  infoSchema.extend({ fits: z.literal(false) }),
  infoSchema.extend({
    fits: z.literal(true),
    peak_memory_mb: megabytes,
    reserved_mb: megabytes.optional(),
    losses: z.array(z.number()).min(1),
    step_seconds: z.array(z.number().positive()).min(1),
  }),
]);

/** A row of PyTorch's; memory in MB (2^20 bytes). What a run did is absent where it did not fit. */
export interface TorchRow {
  fits: boolean;
  /** All tensors on a GPU; on a CPU by how much the process grew. */
  peak_memory_mb?: number;
  /** What PyTorch's allocator took from a GPU's driver. */
  reserved_mb?: number;
  /** What `nvidia-smi` saw at most, where it is there. */
  nvidia_smi_mb?: number;
  runtime_s?: number;
  first_loss?: number;
  last_loss?: number;
  /** Of each sample, in their order. */
  losses?: number[];
  step_seconds?: number[];
}

const EXPECTED = "expected a Python 3 that can import torch: name it with --python PROGRAM";

/** A Python with PyTorch. */
export class Torch {
  readonly #measurements: Measurements;

  private constructor(
    readonly python: string,
    readonly info: TorchInfo,
    readonly device: TorchDevice,
    { folder, device: gpu }: Measurements,
  ) {
    this.#measurements = new Measurements(folder, gpu, {
      run: (words) => runProcess(python, words),
      args: [SCRIPT],
      sources: hashOf(
        ["torch_rows.py", "plain_llama.py"].map((name) => `bench/course/peers/${name}`),
      ),
    });
  }

  /**
   * Asks a Python for its PyTorch.
   *
   * @param measurements Lorikeet's, in whose folder PyTorch's go too.
   * @throws {UserError} where it can't be run, has no PyTorch, or has none for the GPU that Lorikeet runs on.
   */
  static async find(python: string, measurements: Measurements): Promise<Torch> {
    const { gpu, software } = measurements.device;
    const outcome = await runProcess(python, [SCRIPT, "--versions"]).catch((error) => {
      if (!(error instanceof UserError)) throw error;
      throw new UserError(`${python} can't be run; ${EXPECTED}`);
    });
    const info = infoSchema.safeParse(printed(outcome)).data;
    if (outcome.code !== 0 || info === undefined) {
      const said = /^error: (.*)/m.exec(outcome.stderr)?.[1] ?? "it does not tell its versions";
      throw new UserError(`${python} is of no use here (${said}); ${EXPECTED}`);
    }
    if (!software && info.cuda === null) {
      throw new UserError(
        `${python}'s PyTorch ${info.torch} finds no CUDA GPU, and Lorikeet runs on ${gpu}; expected a ` +
          "PyTorch that computes on it: name its Python with --python PROGRAM",
      );
    }
    return new Torch(python, info, software ? "cpu" : "cuda", measurements);
  }

  /**
   * A row: from the folder, or measured now and kept.
   *
   * @param subject The file that {@linkcode writeSubject} wrote.
   * @throws {UserError} where it fails other than for want of memory, or the folder has another PyTorch's.
   */
  async row(subject: string, combination: Combination): Promise<TorchRow> {
    const { folder } = this.#measurements, command = [subject, ...techniqueFlags(combination)];
    const name = `torch-${nameOf(combination)}`;
    const { result, nvidia_smi_mb } = await this.#measurements.measure(name, command);
    const row = rowSchema.safeParse(result).data;
    if (row === undefined) {
      throw new UserError(
        `${
          join(folder, `${name}.json`)
        } holds no row of PyTorch's; expected what torch_rows.py prints`,
      );
    }
    for (const key of ["torch", "transformers", "peft", "cuda"] as const) {
      if (row[key] === this.info[key]) continue;
      throw new UserError(
        `folder ${folder} holds measurements with ${key} ${row[key]}, and ${this.python} has ` +
          `${this.info[key]}; expected another --folder`,
      );
    }
    if (!row.fits) return { fits: false };
    const { peak_memory_mb, reserved_mb, losses, step_seconds } = row;
    return {
      fits: true,
      peak_memory_mb,
      reserved_mb,
      nvidia_smi_mb,
      runtime_s: sum(step_seconds),
      ...lossEnds(losses, 1),
      losses,
      step_seconds,
    };
  }
}

async function digest(text: string): Promise<string> {
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return new Uint8Array(hash).toHex().slice(0, 16);
}

/**
 * Writes what all rows share: the model's shape, the samples in the order in which Lorikeet's rows see them, and the
 * settings. The file is named after its content, so that a row's command says all of what was measured.
 *
 * @throws {UserError} where there is no such model or data, or the file can't be written.
 */
export async function writeSubject(
  folder: string,
  settings: Table2Settings,
  { model }: Table2Plan,
  device: TorchDevice,
): Promise<string> {
  const config = makeTrainConfig({ model }), { seed, max_length } = config;
  const { rank, alpha, dropout, targets } = loraSchema.parse({});
  const data = courseData(settings.data, model);
  const { source, samples } = await openSamples(
    { ...settings, model, data, max_length },
    () => {},
  );
  const order = epochOrder(samples.length, 0, seed, config.shuffle);
  const text = JSON.stringify({
    config: configJson(source.config),
    samples: Array.from(order, (i) => {
      return { ids: [...samples[i].ids], prompt_length: promptLengthOf(samples[i]) };
    }),
    device,
    seed,
    learning_rate: settings.learning_rate,
    lora: { rank, alpha, dropout, targets },
    betas: config.betas,
    eps: config.eps,
    weight_decay: config.weight_decay,
  });
  const path = join(folder, `torch-subject-${await digest(text)}.json`);
  try {
    Deno.mkdirSync(folder, { recursive: true });
    Deno.writeTextFileSync(path, text);
  } catch (error) {
    throw fileError(path, "write", error);
  }
  return path;
}
