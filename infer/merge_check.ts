/**
 * Whether a merged model still says what model and adapter said: their logits on fixed prompts.
 *
 * @module
 */
import { BufferTooLarge, type Memory } from "../kernels/gpu/memory.ts";
import { openSession } from "../model/session.ts";
import { DoesNotFit } from "../model/transformer/capacity.ts";
import { type Gpu } from "../kernels/gpu/gpu.ts";
import { type Batch, makeBatch } from "../model/transformer/batch.ts";
import { loadingBar } from "../cli/progress.ts";
import { archSpec, contextLength, type ModelConfig } from "../model/families/config.ts";
import { widestWindow } from "../model/transformer/layers.ts";
import { type Adapter, checkAdapter } from "../model/adapter/adapter_folder.ts";
import { Llama } from "../model/transformer/llama.ts";
import { numericsOf, scoreMode } from "../model/transformer/modes.ts";
import { openModel } from "../model/checkpoint/source.ts";
import type { ModelFlags } from "./flags.ts";

/** Tokens of the prompts, where the model's context allows them; few enough for one pass of logits. */
const PROMPT_TOKENS = [32, 20];

/** Logits of two models compared. */
export interface LogitDifference {
  /** Largest difference; NaN where a logit of either is NaN or infinite. */
  largest: number;
  /** Largest logit by magnitude. */
  largestLogit: number;
  /** Logits of either that are NaN or infinite, out of how many. */
  notFinite: number;
  logits: number;
  /** Positions compared; each has a logit for every id. */
  rows: number;
  precision: "fp32" | "mixed";
}

/** Prompts of BOS and ids from all over the vocabulary, with logits asked of every position. */
function checkPrompts(config: ModelConfig): Batch {
  const documents = PROMPT_TOKENS.map((tokens, prompt) => {
    const length = Math.min(tokens, contextLength(config));
    const ids = Uint32Array.from(
      { length },
      (_, i) =>
        i === 0 ? config.bos_token_id ?? 0 : (7919 * i + 104729 * prompt) % config.vocab_size,
    );
    return { ids, promptLength: length, weight: 0 };
  });
  const batch = makeBatch(documents, widestWindow(archSpec(config)));
  const targetRows = Uint32Array.from({ length: batch.tokens }, (_, i) => i);
  return { ...batch, targetRows, targetCount: batch.tokens };
}

/** Gives the weights' memory back now: closing the device alone leaves that to the garbage collector. */
async function freeWeights(gpu: Gpu, { weights }: Llama): Promise<void> {
  for (const { operand: { tensors } } of weights) tensors.forEach((tensor) => gpu.free(tensor));
  gpu.send(); // What is destroyed is freed with the next submission.
  await gpu.finish();
}

/** The model's logits `[positions, vocabulary]`, row by row; undefined where it does not fit the GPU. */
async function promptLogits(
  name: string,
  adapter: Adapter | undefined,
  { precision, provider }: { precision: "fp32" | "mixed"; provider: ModelFlags["gpu"] },
): Promise<Float32Array[] | undefined> {
  const source = openModel(name), { config } = source;
  const batch = checkPrompts(config);
  const lora = adapter && checkAdapter(adapter, config, "the adapter");
  const make = (memory: Memory) => ({
    model: new Llama(memory, {
      config,
      numerics: numericsOf({ precision, exact_products: false }),
      lora,
      mode: scoreMode({ maxTokens: batch.tokens, maxTargets: batch.targetCount }),
    }),
  });
  await using session = await openSession(source, make, {
    gpu: { provider },
    seed: 0,
    adapter,
    progress: loadingBar("Comparing"),
    advice: "",
  }).catch((error: unknown) => {
    if (!(error instanceof DoesNotFit || error instanceof BufferTooLarge)) throw error;
    return undefined;
  });
  if (session === undefined) return undefined;
  const { gpu, loaded: { model } } = session;
  const logits = model.logits(gpu, batch);
  const values = await gpu.readF32(logits), width = logits.rowSize;
  await freeWeights(gpu, model);
  return Array.from(
    { length: batch.targetCount },
    (_, row) => values.subarray(row * width, row * width + config.vocab_size),
  );
}

/**
 * Runs model with adapter, then the merged model from its folder, each alone on the GPU: in fp32, or
 * where that does not fit in mixed precision.
 *
 * @returns Undefined where neither fits.
 */
export async function compareLogits(
  { model, output, gpu: provider }: { model: string; output: string; gpu: ModelFlags["gpu"] },
  adapter: Adapter,
): Promise<LogitDifference | undefined> {
  for (const precision of ["fp32", "mixed"] as const) {
    const unmerged = await promptLogits(model, adapter, { precision, provider });
    const merged = unmerged && await promptLogits(output, undefined, { precision, provider });
    if (unmerged === undefined || merged === undefined) continue;
    let largest = 0, largestLogit = 0, notFinite = 0, logits = 0;
    unmerged.forEach((row, r) =>
      row.forEach((logit, i) => {
        // Math.max keeps a NaN, which is then what is reported.
        largest = Math.max(largest, Math.abs(merged[r][i] - logit));
        largestLogit = Math.max(largestLogit, Math.abs(logit));
        logits += 2;
        for (const value of [logit, merged[r][i]]) if (!Number.isFinite(value)) notFinite++;
      })
    );
    return { largest, largestLogit, notFinite, logits, rows: unmerged.length, precision };
  }
}
