/**
 * `lorikeet convert`: a model of any layout that can be read, as a Hugging Face folder or a GGUF file; or an adapter as a
 * GGUF file.
 *
 * @module
 */
import { basename } from "node:path";
import { z } from "zod";
import { UserError } from "../kernels/errors.ts";
import { megabytes } from "../kernels/gpu/memory.ts";
import { printJson, printLine } from "../kernels/terminal.ts";
import { command, parseFlags } from "../cli/command_line.ts";
import { runMain } from "../cli/run_main.ts";
import { text } from "../cli/settings.ts";
import { readAdapter } from "../model/adapter/adapter_folder.ts";
import { writeGgufAdapter } from "../model/adapter/gguf_adapter.ts";
import { isBlocks } from "../model/formats/gguf/quantization_mix.ts";
import { runKeys } from "./flags.ts";
import {
  fileKeys,
  type FileModel,
  ggufFormat,
  isGgufName,
  noteMissingTokenizer,
  openFiles,
  writeModel,
  type Written,
} from "./write_model.ts";

const schema = z.strictObject({
  ...fileKeys,
  adapter: text("folder", "a PEFT adapter folder").optional().describe(
    "PEFT adapter folder to write, instead of its model, as a GGUF file.",
  ),
  json: runKeys.json,
});

const CONVERT = command(
  "convert",
  "--model M --output DIR|FILE.gguf [--adapter A] [--flag value ...]",
  "Writes a model as a Hugging Face folder, or as a GGUF file with its tokenizer; or an adapter as a GGUF file.",
  schema,
);

/** What `--json` prints. */
export interface ConvertResult extends Written {
  seconds: number;
}

/** Writes an adapter as llama.cpp reads it. @throws {UserError} where a GGUF file can't hold it. */
async function convertAdapter(
  folder: string,
  { config }: FileModel,
  { output, dtype }: { output: string; dtype?: string },
): Promise<Written> {
  const format = ggufFormat(dtype);
  if (!isGgufName(output)) {
    throw new UserError(
      `output ${output}: an adapter is written as a GGUF file, expected a name that ends in .gguf; merge ` +
        "writes a folder",
    );
  }
  if (isBlocks(format)) {
    throw new UserError(`--dtype ${dtype} is not for adapters; expected f32, f16 or bf16`);
  }
  const adapter = readAdapter(folder);
  const of = { model: config, name: basename(output, ".gguf"), what: folder, dtype: format };
  return { output, ...await writeGgufAdapter(output, adapter, of) };
}

/** Runs the command. @returns The exit code where it was stopped. */
export async function convert(args: string[]): Promise<number | void> {
  const flags = parseFlags(CONVERT, args);
  const source = await openFiles(flags);
  const began = performance.now();
  const written = flags.adapter === undefined
    ? await writeModel(source, flags, "Converting")
    : await convertAdapter(flags.adapter, source, flags);
  source.weights.close();
  if ("code" in written) return written.code;
  if (flags.adapter === undefined) noteMissingTokenizer(source);
  const seconds = (performance.now() - began) / 1000;
  const result: ConvertResult = { ...written, seconds: Number(seconds.toFixed(3)) };
  if (flags.json) printJson(result);
  else {
    const { output, tensors, bytes } = result;
    const size = megabytes(bytes).toFixed(1);
    printLine(`Wrote ${output}: ${tensors} tensors, ${size} MB, in ${seconds.toFixed(1)} s`);
  }
}

if (import.meta.main) await runMain(convert);
