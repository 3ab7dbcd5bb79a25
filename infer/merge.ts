/**
 * `lorikeet merge`: an adapter merged into its model, as a Hugging Face folder or a GGUF file, and what that changed.
 *
 * @module
 */
import { z } from "zod";
import { UserError } from "../kernels/errors.ts";
import { openGpu } from "../kernels/gpu/gpu.ts";
import { megabytes } from "../kernels/gpu/memory.ts";
import { noteLine, printJson, printLine } from "../kernels/terminal.ts";
import { command, parseFlags } from "../cli/command_line.ts";
import { runMain } from "../cli/run_main.ts";
import { flag, text } from "../cli/settings.ts";
import { type Adapter, checkAdapter, readAdapter } from "../model/adapter/adapter_folder.ts";
import { AdapterMerge } from "../model/checkpoint/merge.ts";
import { quantizedTypes } from "../model/formats/weights.ts";
import {
  type BaseQuantization,
  baseQuantization,
  describeBase,
} from "../model/transformer/base_quantization.ts";
import { type ModelFlags, runKeys } from "./flags.ts";
import { compareLogits, type LogitDifference } from "./merge_check.ts";
import {
  fileKeys,
  type FileModel,
  noteMissingTokenizer,
  openFiles,
  writeModel,
  type Written,
} from "./write_model.ts";

const schema = z.strictObject({
  ...fileKeys,
  adapter: text("folder", "a PEFT adapter folder").describe("PEFT adapter folder to merge."),
  check: flag().default(true).describe(
    "Compare the logits of the merged model with those of model and adapter.",
  ),
  gpu: runKeys.gpu,
  json: runKeys.json,
});

const MERGE = command(
  "merge",
  "--model M --adapter A --output DIR|FILE.gguf [--flag value ...]",
  "Writes a Hugging Face folder or a GGUF file of the model with the adapter merged into its weights,\n" +
    "and tells how far its logits are from those of model and adapter.",
  schema,
);

/** What `--json` prints. */
export interface MergeResult extends Written {
  /** Tensors that the adapter changed. */
  merged_tensors: number;
  /** Largest difference between a logit of the merged model and one of model and adapter. */
  max_logit_difference: number | null;
  /** Largest logit by magnitude; null, as the one above, where they were not compared. */
  max_logit: number | null;
  /** What the adapter was trained beside, where it is merged into other weights: `nf4`, `int8`, a type of files; else null. */
  trained_on: string | null;
  /** Largest difference between a logit of the merged model and one of what was trained; null where not compared. */
  max_logit_difference_trained: number | null;
  /** Of the merging, not of the comparison. */
  seconds: number;
}

/** Runs the command. @returns The exit code where it was stopped. */
export async function merge(args: string[]): Promise<number | void> {
  const flags = parseFlags(MERGE, args);
  const source = await openFiles(flags);
  const adapter = readAdapter(flags.adapter);
  checkAdapter(adapter, source.config, flags.adapter);
  const gpu = await openGpu({ provider: flags.gpu });
  const began = performance.now();
  const change = new AdapterMerge(gpu, adapter, source.config, flags.adapter);
  const trained = otherBase(adapter, source);
  if (trained !== undefined) noteOtherBase(trained, flags.model);
  const written = await writeModel(source, flags, "Merging", change);
  gpu.close();
  source.weights.close();
  if ("code" in written) return written.code;
  noteMissingTokenizer(source);
  const seconds = (performance.now() - began) / 1000;
  const difference = flags.check ? await compare(flags, adapter, trained) : undefined;
  if (flags.check && difference?.precision !== "fp32") {
    const instead = difference ? "compared in mixed precision" : "not compared";
    noteLine(`The model does not fit the GPU in fp32: merged and unmerged were ${instead}.`);
  }
  const result: MergeResult = {
    output: written.output,
    tensors: written.tensors,
    merged_tensors: change.count,
    max_logit_difference: difference?.largest ?? null,
    max_logit: difference?.largestLogit ?? null,
    trained_on: trained ? describeBase(trained) : null,
    max_logit_difference_trained: difference?.trained?.largest ?? null,
    bytes: written.bytes,
    seconds: Number(seconds.toFixed(3)),
  };
  if (flags.json) printJson(result);
  else report(result, difference);
}

/** How the weights were quantised that an adapter was trained beside, where the model's files don't have them so. */
function otherBase({ metadata }: Adapter, { weights }: FileModel): BaseQuantization | undefined {
  const trained = baseQuantization(metadata);
  if (trained === undefined || trained.quantization !== "none") return trained;
  const own = quantizedTypes(weights).map(([type]) => type);
  return trained.stored.every((type) => own.includes(type)) ? undefined : trained;
}

/** Says that an adapter is not merged into the weights that it was trained beside. */
function noteOtherBase(trained: BaseQuantization, model: string): void {
  const beside = describeBase(trained);
  noteLine(
    `The adapter was trained beside weights in ${beside}, whose rounding it makes up for, too. It is merged into ` +
      `those of "${model}" as they are: the merged model's answers differ from those in training.`,
  );
}

/**
 * Compares the folder that was written with model and adapter. It stays, whatever comes out.
 *
 * @throws {UserError} where that can't be told, or their logits are no finite numbers.
 */
async function compare(
  flags: { model: string; output: string; gpu: ModelFlags["gpu"] },
  adapter: Adapter,
  trained: BaseQuantization | undefined,
): Promise<LogitDifference | undefined> {
  // What only other files have can't be run.
  const quantization = trained?.quantization === "none" ? undefined : trained;
  const written = `${flags.output} was written, but is not shown to be what model and adapter are`;
  let difference: LogitDifference | undefined;
  try {
    difference = await compareLogits(flags, adapter, quantization);
  } catch (error) {
    if (error instanceof UserError) error.message = `${written}: ${error.message}`;
    throw error;
  }
  const { notFinite = 0, logits } = difference ?? {};
  if (notFinite === 0) return difference;
  throw new UserError(
    `${written}: ${notFinite} of ${logits} logits are NaN or infinite in ${difference?.precision}; ` +
      "expected weights of a model, and of an adapter, that give finite ones",
  );
}

/** Says on stdout how it went. */
function report(result: MergeResult, difference?: LogitDifference): void {
  const { output, tensors, merged_tensors, bytes, seconds } = result;
  printLine(
    `Wrote ${output}: ${tensors} tensors, ${merged_tensors} of them merged, ` +
      `${megabytes(bytes).toFixed(1)} MB, in ${seconds.toFixed(1)} s`,
  );
  if (difference === undefined) return;
  const { largest, largestLogit, rows, precision } = difference;
  printLine(
    `Largest logit difference between merged and unmerged: ${largest.toPrecision(3)} ` +
      `(largest logit ${largestLogit.toPrecision(3)}; ${rows} positions, ${precision})`,
  );
  const { trained } = difference;
  if (trained === undefined) return;
  printLine(
    `Beside the model in ${result.trained_on}, as it was trained: largest logit difference ` +
      `${
        trained.largest.toPrecision(3)
      }, the same likeliest token at ${trained.sameToken} of ${rows} positions`,
  );
}

if (import.meta.main) await runMain(merge);
