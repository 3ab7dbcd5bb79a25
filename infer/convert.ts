/**
 * `lorikeet convert`: a model of any layout that can be read, as a Hugging Face folder.
 *
 * @module
 */
import { z } from "zod";
import { megabytes } from "../kernels/gpu/memory.ts";
import { command, parseFlags } from "../cli/command_line.ts";
import { runKeys } from "./flags.ts";
import {
  fileKeys,
  noteMissingTokenizer,
  openFiles,
  writeModel,
  type Written,
} from "./write_model.ts";

const schema = z.strictObject({ ...fileKeys, json: runKeys.json });

const CONVERT = command(
  "convert",
  "--model M --output DIR [--flag value ...]",
  "Writes a Hugging Face folder of a model in Meta's layout or a GGUF file, or of another in a different dtype.",
  schema,
);

/** What `--json` prints. */
export interface ConvertResult extends Written {
  seconds: number;
}

/** Runs the command; 130 where it was stopped. */
export async function convert(args: string[]): Promise<number | void> {
  const flags = parseFlags(CONVERT, args);
  const source = await openFiles(flags);
  const began = performance.now();
  const written = await writeModel(source, flags, "Converting");
  source.weights.close();
  if (written === undefined) return 130;
  noteMissingTokenizer(source);
  const seconds = (performance.now() - began) / 1000;
  const result: ConvertResult = { ...written, seconds: Number(seconds.toFixed(3)) };
  if (flags.json) console.log(JSON.stringify(result));
  else {
    const { output, tensors, bytes } = result;
    const size = megabytes(bytes).toFixed(1);
    console.log(`Wrote ${output}: ${tensors} tensors, ${size} MB, in ${seconds.toFixed(1)} s`);
  }
}
