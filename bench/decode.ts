/**
 * Generation at several context lengths: tokens a second of prefill and of decoding with the KV cache, the
 * time of a token without it, and the memory of it all. Weights and prompts are random by default.
 *
 * @module
 */
import type { Tensor } from "../kernels/gpu/tensor.ts";
import { present } from "../kernels/present.ts";
import type { Memory } from "../kernels/gpu/memory.ts";
import { loadOnto } from "../model/session.ts";
import { z } from "zod";
import { UsageError, UserError } from "../kernels/errors.ts";
import { type Gpu, openGpu } from "../kernels/gpu/gpu.ts";
import { megabytes } from "../kernels/gpu/memory.ts";
import { median } from "../kernels/measure/timing.ts";
import { noteLine, printJson, printLine } from "../kernels/terminal.ts";
import { command, parseFlags } from "../cli/command_line.ts";
import { loadingBar } from "../cli/progress.ts";
import * as common from "../cli/common_settings.ts";
import { choice, flag, text, whole, worded } from "../cli/settings.ts";
import { contextLength } from "../model/families/config.ts";
import { Engine } from "../model/engine/engine.ts";
import { type EngineSizes, Slots } from "../model/engine/slots.ts";
import { generateMode, numericsOf, storageOf } from "../model/transformer/modes.ts";
import { frozenKinds } from "../model/transformer/quantization.ts";
import { Llama } from "../model/transformer/llama.ts";
import { openModel } from "../model/checkpoint/source.ts";
import { defaultModel, modelFlag } from "./default_model.ts";
import { randomIds } from "./samples.ts";

const lengths = worded(z.array(z.int().min(2)).min(1), "integers", "whole numbers from 2 up");

const schema = z.strictObject({
  model: modelFlag,
  precision: choice(["mixed", "fp32"]).default("mixed").describe("As in generate."),
  exact_products: common.exact_products,
  quantization: common.quantization,
  double_quantization: common.double_quantization,
  quantization_skip: common.quantization_skip,
  contexts: lengths.optional().describe("Tokens before the ones that are timed."),
  tokens: whole(2, 4096).default(64).describe("Tokens that are timed at each context."),
  plot: text("file", "an .svg file to write").optional().describe(
    "Write a plot of time a token against context.",
  ),
  gpu: common.gpu,
  json: flag().default(false).describe("Print one JSON object."),
});

/** Timed answers with the cache, and passes without one, at each context, and whole answers without; medians count. */
const CACHED_RUNS = 3, UNCACHED_PASSES = 3, UNCACHED_RUNS = 3;
/**
 * Largest difference of logits allowed before anything is timed, as a share of the largest logit: of sums in
 * another order in f32 (with f16 weights it was 1.3e-5 on an H100), and where activations are rounded to f16
 * for tensor cores, so that the order of sums decides roundings.
 */
const MOST_DIFFERENCE = { exact: 1e-4, rounded: 1e-2 };

/** One line of the result. */
interface Row {
  context: number;
  prefill_tokens_per_second: number;
  /** With the cache. */
  decode_tokens_per_second: number;
  milliseconds_per_token: number;
  /** Without the cache: a pass over all tokens. */
  uncached_milliseconds_per_token: number;
}

const DECODE = command(
  "bench decode",
  "[--flag value ...]",
  "Times generation with and without the KV cache.",
  schema,
);

/** The same next-token logits come out of a whole pass and of prefill plus one step. */
async function check(gpu: Gpu, model: Llama, sizes: EngineSizes, most: number): Promise<number> {
  const vocab = model.config.vocab_size, ids = randomIds(sizes.context - 1, vocab);
  const read: Float32Array[] = [];
  for (const cache of [sizes.cache, undefined]) {
    const slots = new Slots(gpu.memory, model, { ...sizes, cache });
    let logits: Tensor | undefined;
    const given = cache ? ids.slice(0, -1) : ids;
    slots.prefill(gpu, [{ slot: 0, ids: given, cached: 0 }], (l) => logits = l);
    if (cache) {
      slots.set(gpu, [{ slot: 0, ids }]);
      slots.step(gpu, 1, (l) => logits = l);
    }
    read.push((await gpu.readF32(present(logits, "result"))).slice(0, vocab));
  }
  const [cached, whole] = read;
  const top = whole.reduce((top, v) => Math.max(top, Math.abs(v)), 0);
  const error = whole.reduce((e, v, i) => Math.max(e, Math.abs(v - cached[i])), 0) / top;
  if (!(error <= most)) {
    throw new UserError(
      `decoding with the cache is wrong: its logits differ by ${error} of the largest`,
    );
  }
  return error;
}

/** Times of one answer: to the first token, and of each later one, in milliseconds. */
async function timed(gpu: Gpu, engine: Engine, prompt: number[], tokens: number) {
  const began = performance.now();
  let first = 0, last = began;
  for await (const _ of engine.generate(gpu, [prompt], { maxTokens: tokens, stop: [] })) {
    last = performance.now();
    first ||= last;
  }
  return { prefill: first - began, each: (last - first) / (tokens - 1) };
}

async function measure(
  gpu: Gpu,
  cached: Engine,
  uncached: Engine,
  { context, tokens }: { context: number; tokens: number },
): Promise<Row> {
  const ids = randomIds(context, cached.model.config.vocab_size);
  // Another prompt first: programs are compiled, and the cache holds nothing of this one.
  await cached.answers(gpu, [[...ids].reverse()], { maxTokens: 4, stop: [] });
  const runs = [];
  for (let i = 0; i < CACHED_RUNS; i++) runs.push(await timed(gpu, cached, ids, tokens));
  const [prefill, each] = [median(runs.map((r) => r.prefill)), median(runs.map((r) => r.each))];
  const passes: number[] = [];
  for (let i = 0; i <= UNCACHED_PASSES; i++) {
    passes.push((await timed(gpu, uncached, ids.slice(0, context - 1), 2)).each);
  }
  return {
    context,
    prefill_tokens_per_second: 1000 * context / prefill,
    decode_tokens_per_second: 1000 / each,
    milliseconds_per_token: each,
    // The first is not counted: programs may be compiled in it.
    uncached_milliseconds_per_token: median(passes.slice(1)),
  };
}

/** Runs the bench and prints a table, or JSON. */
export async function benchDecode(args: string[]): Promise<void> {
  const flags = parseFlags(DECODE, args);
  const gpu = await openGpu({ provider: flags.gpu, precision: flags.precision });
  const name = flags.model ?? await defaultModel(gpu);
  const source = openModel(name);
  const limit = contextLength(source.config);
  const contexts = (flags.contexts ?? [128, 512, 1024, 2048, 4000])
    .filter((context) => flags.contexts || context + flags.tokens <= limit);
  if (contexts.length === 0) contexts.push(Math.floor(limit / 4), Math.floor(limit / 2));
  const context = Math.max(...contexts) + flags.tokens;
  if (context > limit) {
    throw new UsageError(
      `contexts up to ${
        Math.max(...contexts)
      } and ${flags.tokens} tokens exceed the ${limit} that ${name} takes`,
    );
  }
  const cache = storageOf(flags.precision);
  const sizes: EngineSizes = { sequences: 1, context, promptTokens: context, cache };
  const make = (memory: Memory) => {
    const model = new Llama(memory, {
      config: source.config,
      numerics: numericsOf(flags),
      frozen: frozenKinds(source.config, flags, source.weights),
      // Without a cache, a pass is as long as the context.
      mode: { ...generateMode(sizes), maxTokens: context },
    });
    const engine = new Engine(memory, model, sizes);
    return { model, engine, uncached: new Engine(memory, model, { ...sizes, cache: undefined }) };
  };
  const { model, engine, uncached } = await loadOnto(gpu, source, make, {
    seed: 42,
    progress: loadingBar(),
    advice: "fewer --contexts, --precision mixed.",
  });
  const difference = await check(
    gpu,
    model,
    { ...sizes, context: Math.min(context, 160) },
    MOST_DIFFERENCE[model.operands(gpu) === "f16" ? "rounded" : "exact"],
  );

  const rows: Row[] = [];
  for (const context of contexts) {
    rows.push(await measure(gpu, engine, uncached, { context, tokens: flags.tokens }));
    if (!flags.json) noteLine(`context ${context}`);
  }
  const prompt = randomIds(Math.min(64, context - flags.tokens), source.config.vocab_size);
  const answers: number[] = [];
  for (let i = 0; i <= UNCACHED_RUNS; i++) {
    answers.push((await timed(gpu, uncached, prompt, flags.tokens)).each);
  }
  // As above, in the first one programs are compiled.
  const each = median(answers.slice(1));
  const result = {
    gpu: gpu.name,
    provider: gpu.provider,
    model: name,
    precision: flags.precision,
    quantization: flags.quantization,
    tokens: flags.tokens,
    logit_difference: difference,
    rows,
    uncached: { prompt: prompt.length, tokens_per_second: 1000 / each },
    peak_memory_mb: megabytes(gpu.memory.peakTotal),
    cache_mb: megabytes(present(engine.slots.cache, "KV cache").bytes),
  };
  gpu.close();
  if (flags.plot !== undefined) await plot(flags.plot, result);
  if (flags.json) printJson(result, 2);
  else print(result);
}

interface Result {
  gpu: string;
  provider: string;
  model: string;
  precision: string;
  quantization: string;
  tokens: number;
  rows: Row[];
  uncached: { prompt: number; tokens_per_second: number };
  peak_memory_mb: number;
  cache_mb: number;
}

function print({ gpu, provider, model, precision, tokens, rows, ...rest }: Result): void {
  const weights = rest.quantization === "none" ? "" : `, weights in ${rest.quantization}`;
  const what = `${model}, ${precision}${weights}, on ${gpu} (${provider})`;
  printLine(`${what}; ${tokens} tokens after each context`);
  const header = ["context", "prefill/s", "decode/s", "ms/token", "without cache ms/token"];
  const line = (cells: readonly string[]) =>
    cells.map((cell, i) => cell.padStart(Math.max(12, header[i].length + 2))).join("");
  printLine(line(header));
  for (const row of rows) {
    const cells = [
      String(row.context),
      row.prefill_tokens_per_second.toFixed(0),
      row.decode_tokens_per_second.toFixed(1),
      row.milliseconds_per_token.toFixed(2),
      row.uncached_milliseconds_per_token.toFixed(2),
    ];
    printLine(line(cells));
  }
  const { uncached, peak_memory_mb, cache_mb } = rest;
  printLine(
    `without cache, ${tokens} tokens after ${uncached.prompt}: ` +
      `${uncached.tokens_per_second.toFixed(1)} tokens/s; ` +
      `peak memory ${peak_memory_mb.toFixed(1)} MB, of it KV cache ${cache_mb.toFixed(1)} MB`,
  );
}

async function plot(path: string, { model, gpu, rows }: Result): Promise<void> {
  const { linePlots } = await import("./plot.ts");
  const series = [
    ["with the KV cache", "milliseconds_per_token"],
    ["without", "uncached_milliseconds_per_token"],
  ] as const;
  const svg = await linePlots(`Time of a token: ${model}, ${gpu}`, [{
    xTitle: "tokens before it",
    yTitle: "milliseconds",
    series: series.map(([name, field]) => ({
      name,
      points: rows.map((row) => ({ x: row.context, y: row[field] })),
    })),
    logarithmic: true,
  }]);
  await Deno.writeTextFile(path, svg);
}
