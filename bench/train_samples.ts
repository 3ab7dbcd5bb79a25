/**
 * What a run of `bench train` trains: the model and the samples.
 *
 * @module
 */
import { contextLength } from "../model/families/config.ts";
import { type ModelSource, openModel, openModelWithTokenizer } from "../model/checkpoint/source.ts";
import { loadDataset } from "../model/text/data/dataset.ts";
import type { TokenizedSample } from "../model/text/prompt.ts";
import { randomSample } from "./samples.ts";

/** Names and numbers, as flags give them. */
export interface Subject {
  model: string;
  layers?: number;
  /** Without it, random tokens: samples of Alpaca's lengths. */
  data?: string;
  tokenizer?: string;
  samples: number;
  max_length: number;
}

/**
 * Opens a model and its samples; needs no GPU.
 *
 * @param say Is told about the data, line by line.
 * @throws {UserError} where the model, the tokenizer or the data is not there or wrong.
 */
export async function openSamples(
  { samples: count, ...subject }: Subject,
  say: (line: string) => void,
): Promise<{ source: ModelSource; samples: TokenizedSample[] }> {
  const { model, layers, data, max_length } = subject;
  if (data === undefined) {
    const source = openModel(model, layers), { vocab_size } = source.config;
    const limit = Math.min(contextLength(source.config), max_length);
    const samples = Array.from({ length: count }, (_, i) => randomSample(i, vocab_size, limit));
    return { source, samples };
  }
  const { source, tokenizer, tokenizerPath } = await openModelWithTokenizer(subject);
  const context = contextLength(source.config);
  return {
    source,
    samples: [
      ...await loadDataset(tokenizer, {
        data,
        samples: count,
        tokenizerPath,
        max_length,
        context,
        say,
      }),
    ].flat(),
  };
}
