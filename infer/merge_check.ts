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
import { frozenKinds, type QuantizationSettings } from "../model/transformer/quantization.ts";
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
  /** Where the adapter was trained beside quantised weights that it is not merged into: how far the model is from these. */
  trained?: {
    largest: number;
    /** Positions at which both find the same token most likely. */
    sameToken: number;
  };
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
    return { ids, targets: [], weight: 0 };
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
  { precision, provider, quantization }: {
    precision: "fp32" | "mixed";
    provider: ModelFlags["gpu"];
    quantization?: QuantizationSettings;
  },
): Promise<Float32Array[] | undefined> {
  const source = openModel(name), { config } = source;
  const batch = checkPrompts(config);
  const lora = adapter && checkAdapter(adapter, config, "the adapter");
  const make = (memory: Memory) => ({
    model: new Llama(memory, {
      config,
      numerics: numericsOf({ precision, exact_products: false }),
      // Without it dense: what the codes of a quantised model stand for, as they are merged.
      frozen: quantization && frozenKinds(config, quantization, source.weights),
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

/** Compares logits, row by row. */
function difference(
  unmerged: readonly Float32Array[],
  merged: readonly Float32Array[],
): Pick<LogitDifference, "largest" | "largestLogit" | "notFinite" | "logits"> {
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
  return { largest, largestLogit, notFinite, logits };
}

/** The most likely token. */
function likeliest(logits: Float32Array): number {
  return logits.reduce((best, logit, id) => logit > logits[best] ? id : best, 0);
}

/**
 * Runs model with adapter, then the merged model from its folder, each alone on the GPU: in fp32, or
 * where that does not fit in mixed precision.
 *
 * @param quantization How the model was held where the adapter was trained, if it is to be run so, too.
 * @returns Undefined where neither fits.
 */
export async function compareLogits(
  { model, output, gpu: provider }: { model: string; output: string; gpu: ModelFlags["gpu"] },
  adapter: Adapter,
  quantization?: QuantizationSettings,
): Promise<LogitDifference | undefined> {
  for (const precision of ["fp32", "mixed"] as const) {
    const run = { precision, provider };
    const unmerged = await promptLogits(model, adapter, run);
    const merged = unmerged && await promptLogits(output, undefined, run);
    if (unmerged === undefined || merged === undefined) continue;
    const compared = { ...difference(unmerged, merged), rows: unmerged.length, precision };
    const trained = quantization && await promptLogits(model, adapter, { ...run, quantization });
    if (trained === undefined) return compared;
    const { largest } = difference(trained, merged);
    const same = trained.filter((row, r) => likeliest(row) === likeliest(merged[r]));
    return { ...compared, trained: { largest, sameToken: same.length } };
  }
}
