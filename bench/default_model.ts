/**
 * The model that a bench takes where none is named.
 *
 * @module
 */
import type { z } from "zod";
import type { Gpu } from "../kernels/gpu/gpu.ts";
import { availableBytes } from "../model/transformer/capacity.ts";
import { text } from "../cli/settings.ts";

/** Free memory from which on the course's model is the default. */
const ROOMY = 24e9;

/** The flag that names another. */
export const modelFlag: z.ZodOptional<z.ZodString> = text(
  "path",
  "a model folder, random:<size>, or builtin",
).optional().describe(
  "Model; without it random:llama2-7b on a GPU with 24 GB or more, else builtin.",
);

/** `random:llama2-7b` where it fits with room to spare, else `builtin`. */
export async function defaultModel(gpu: Gpu): Promise<string> {
  const roomy = !gpu.software && (await availableBytes(gpu) ?? 0) > ROOMY;
  return roomy ? "random:llama2-7b" : "builtin";
}
