/**
 * `lorikeet generate`: from prompts to their answers.
 *
 * @module
 */
import { lessMemory } from "../cli/less_memory.ts";
import { runMain } from "../cli/run_main.ts";
import type { Gpu } from "../kernels/gpu/gpu.ts";
import { megabytes, type Memory } from "../kernels/gpu/memory.ts";
import { present } from "../kernels/present.ts";
import { profileLines } from "../kernels/gpu/profiler.ts";
import { noteLine, printJson, printText } from "../kernels/terminal.ts";
import type { BeamSearcher } from "../model/engine/beams.ts";
import { contextLength } from "../model/families/config.ts";
import { Engine, type SequenceOptions } from "../model/engine/engine.ts";
import type { EngineSizes } from "../model/engine/slots.ts";
import type { Llama } from "../model/transformer/llama.ts";
import { generateMode } from "../model/transformer/modes.ts";
import { stopTokens } from "../model/text/tokenizer/stop_tokens.ts";
import type { Tokenizer } from "../model/text/tokenizer/tokenizer.ts";
import { Answer } from "../model/engine/answer.ts";
import { type GenerateFlags, parseGenerateArguments } from "./generate_flags.ts";
import {
  type Compilation,
  compilationLine,
  findModel,
  timedCompilation,
} from "../model/session.ts";
import { cacheDtype, loadModel, precompile, type Rehearsal } from "./open.ts";
import { preparePrompts } from "./prompts.ts";

/** What `--json` prints for each prompt. */
export interface GenerateResult {
  text: string;
  /** The prompt in its template, BOS included. */
  prompt_ids: number[];
  /** The answer, without the token that ended it. */
  ids: number[];
  /** The time that compiling the GPU's programs took, of the first prompts while weights were loaded or longer. */
  compile_seconds: number;
  /**
   * Prompt tokens by the time to the first token, in which nothing is compiled. This and the next are of all prompts
   * that were answered together.
   */
  prefill_tokens_per_second: number;
  /** Tokens after the first by the time they took; null where there is none. */
  decode_tokens_per_second: number | null;
  peak_memory_mb: number;
  /** `stop`: the model or a stop text ended it; `length`: --max-tokens or the model's context did. */
  finish_reason: "stop" | "length";
}

/** Prompts in groups that are answered at once. */
function batches(prompts: readonly number[][], size: number): number[][][] {
  const groups = Array.from({ length: Math.ceil(prompts.length / size) }, (_, i) => i * size);
  return groups.map((first) => prompts.slice(first, first + size));
}

/** The largest batch. */
function decoderSizes(groups: readonly number[][][], flags: GenerateFlags, limit: number) {
  const longest = Math.max(...groups.flat().map(({ length }) => length));
  const sizes: EngineSizes = {
    sequences: flags.beams > 1 ? flags.beams : Math.max(...groups.map(({ length }) => length)),
    context: Math.min(longest + flags.max_tokens, limit),
    promptTokens: Math.max(...groups.map((group) => group.flat().length)),
    cache: flags.kv_cache ? cacheDtype(flags) : undefined,
  };
  return sizes;
}

/** Runs the command. */
export async function generate(args: string[]): Promise<void> {
  const flags = parseGenerateArguments(args);
  const found = await findModel(flags);
  const { source: { config, folder }, tokenizer } = found;
  const stop = stopTokens(config, tokenizer, folder);
  const prompts = await preparePrompts(found, flags);
  // A beam search fills a batch with continuations of one prompt.
  const groups = batches(prompts, flags.beams > 1 ? 1 : flags.batch_size);
  const sizes = decoderSizes(groups, flags, contextLength(config));
  const settings = { sampling: flags, maxTokens: flags.max_tokens, stop };
  // Most runs do without it, and start sooner.
  const beams = flags.beams > 1 ? await import("../model/engine/beams.ts") : undefined;
  const also = (memory: Memory, model: Llama) => {
    if (beams !== undefined) return new beams.BeamSearcher(memory, model, sizes);
    const penalized = flags.repetition_penalty !== 1;
    return new Engine(memory, model, sizes, { penalized });
  };
  await using session = await loadModel(found, flags, {
    mode: generateMode(sizes),
    also,
    advice: lessMemory("a smaller --max-tokens or --batch-size, shorter prompts"),
    rehearse: rehearsalOf(groups[0], settings),
  });
  const { gpu, loaded: { model, also: engine } } = session;
  const { cache } = engine.slots;
  noteLine(
    cache === undefined
      ? "KV cache: none"
      : `KV cache: ${sizes.sequences} × ${sizes.context} tokens in ${sizes.cache}, ` +
        `${megabytes(cache.bytes).toFixed(1)} MB`,
  );

  const asked: Asked = { gpu, flags, engine, tokenizer, settings, alone: prompts.length === 1 };
  /** Compiles what answers to later prompts take. */
  const compileFor = async (group: readonly number[][]) => {
    const rehearse = rehearsalOf(group, settings);
    const compilation = await timedCompilation(precompile(gpu, model, { also, rehearse }));
    if (compilation.programs > 0) noteLine(compilationLine(compilation));
    return compilation;
  };
  let number = 0, compilation = present(session.compilation, "a compilation");
  for (const group of groups) {
    if (number > 0) compilation = await compileFor(group);
    const results = await answerGroup(asked, group, { first: number, compilation });
    for (const result of results) {
      number++;
      if (flags.json) printJson(result);
      else if (prompts.length > 1) printText(`${number}: ${result.text}\n`);
    }
    report(results, contextLength(config));
  }
  if (gpu.profiler) noteLine(`\n${profileLines(await gpu.profiler.take()).join("\n")}`);
}

/** What every group of prompts is answered with. */
interface Asked {
  gpu: Gpu;
  flags: GenerateFlags;
  engine: Engine | BeamSearcher;
  tokenizer: Tokenizer;
  settings: SequenceOptions;
  /** There is one prompt, whose answer is printed as it is made. */
  alone: boolean;
}

/** Launches what the answers to prompts take. */
function rehearsalOf(
  prompts: readonly number[][],
  settings: SequenceOptions,
): Rehearsal<Engine | BeamSearcher> {
  return (gpu, engine) => {
    if (engine instanceof Engine) engine.rehearse(gpu, prompts, settings);
    else engine.rehearse(gpu, prompts[0]);
  };
}

/** Answers prompts at once; the first has this number. What was compiled for them is told with the results. */
async function answerGroup(
  { gpu, flags, engine, tokenizer, settings, alone }: Asked,
  prompts: readonly number[][],
  { first: firstSubsequence, compilation }: { first: number; compilation: Compilation },
): Promise<GenerateResult[]> {
  const print = alone && !flags.json ? printText : () => {};
  const decode = (ids: readonly number[]) => tokenizer.decode(ids);
  const answers = prompts.map(() => new Answer(decode, flags.stop ?? [], print));
  const { maxTokens } = settings;
  const began = performance.now();
  let first = 0, last = 0;
  const tick = () => {
    last = performance.now();
    first ||= last;
  };
  if (!(engine instanceof Engine)) {
    const { length_penalty } = flags;
    const ids = await engine.search(gpu, prompts[0], { length_penalty, ...settings, tick });
    ids.every((id) => answers[0].push(id));
  } else {
    const options = { ...settings, subsequence: firstSubsequence };
    for await (const { sequence, index, id } of engine.generate(gpu, prompts, options)) {
      tick();
      if (!answers[index].push(id)) engine.evict(sequence);
    }
  }
  if (first === 0) first = performance.now();
  answers.forEach((answer) => answer.end());
  print("\n");

  const perSecond = (tokens: number, milliseconds: number) =>
    Number((1000 * tokens / milliseconds).toFixed(3));
  const total = (lists: readonly { length: number }[]) =>
    lists.reduce((sum, { length }) => sum + length, 0);
  const later = total(answers.map(({ ids }) => ids.slice(1)));
  return answers.map(({ text, ids, stopped }, i): GenerateResult => {
    const room = Math.min(maxTokens, engine.sizes.context - prompts[i].length);
    return {
      text,
      prompt_ids: prompts[i],
      ids,
      compile_seconds: Number(compilation.seconds.toFixed(3)),
      prefill_tokens_per_second: perSecond(total(prompts), first - began),
      decode_tokens_per_second: later > 0 ? perSecond(later, last - first) : null,
      peak_memory_mb: Number(megabytes(gpu.memory.peakTotal).toFixed(3)),
      finish_reason: stopped || ids.length < room ? "stop" : "length",
    };
  });
}

/** Says on stderr how it went. */
function report(results: readonly GenerateResult[], context: number): void {
  const [{ prefill_tokens_per_second, decode_tokens_per_second, peak_memory_mb }] = results;
  const tokens = (lists: readonly number[][]) => lists.reduce((sum, ids) => sum + ids.length, 0);
  for (const { prompt_ids, ids } of results) {
    if (prompt_ids.length + ids.length < context) continue;
    noteLine(`Stopped at the model's context of ${context} tokens.`);
  }
  const decode = decode_tokens_per_second === null
    ? ""
    : ` at ${decode_tokens_per_second} a second`;
  const several = results.length > 1;
  noteLine(
    `Prompt${several ? "s" : ""}: ${tokens(results.map((r) => r.prompt_ids))} tokens ` +
      `at ${prefill_tokens_per_second} a second; ` +
      `answer${several ? "s" : ""}: ${tokens(results.map((r) => r.ids))} tokens${decode}; ` +
      `peak GPU memory: ${peak_memory_mb.toFixed(1)} MB`,
  );
}

if (import.meta.main) await runMain(generate);
