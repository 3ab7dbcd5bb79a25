/**
 * `lorikeet generate`: from a prompt to its greedy answer.
 *
 * @module
 */
import { UserError } from "../kernels/errors.ts";
import { megabytes } from "../kernels/memory.ts";
import { profileLines } from "../kernels/profile.ts";
import { KvCache } from "../model/cache.ts";
import { greedy } from "../model/generate.ts";
import { encodePrompt, renderPrompt } from "../model/prompt.ts";
import { type GenerateFlags, parseGenerateArguments } from "./flags.ts";
import { findModel, type FoundModel, loadModel } from "./open.ts";
import { TextStream } from "./text_stream.ts";

/** What needs less memory, for a run that does not fit. */
const LESS_MEMORY = "a smaller --max-tokens, a shorter prompt, --precision mixed, --layers N.";

/** What `--json` prints. */
export interface GenerateResult {
  text: string;
  /** BOS and the prompt in its template. */
  prompt_ids: number[];
  /** The answer, without the token that ended it. */
  ids: number[];
  /** Prompt tokens by the time to the first token, in which the GPU's programs are built too. */
  prefill_tokens_per_second: number;
  /** Tokens after the first by the time they took; null where there is none. */
  decode_tokens_per_second: number | null;
  peak_memory_mb: number;
}

/** The prompt as ids, and how many tokens may follow it. */
function preparePrompt(
  { source, tokenizer }: FoundModel,
  flags: GenerateFlags,
): { ids: Uint32Array; maxTokens: number } {
  const { prompt: instruction, input, template } = flags;
  const ids = encodePrompt(tokenizer, renderPrompt({ instruction, input }, template));
  const context = source.config.max_position_embeddings;
  if (ids.length >= context) {
    const has = `${ids.length} tokens${template === "none" ? "" : " with its template"}`;
    throw new UserError(
      `the prompt has ${has}, but model "${source.name}" has a ` +
        `context of ${context}; expected at most ${context - 1}, so that an answer has room`,
    );
  }
  return { ids, maxTokens: Math.min(flags.max_tokens, context - ids.length) };
}

/** Runs the command. */
export async function generate(args: string[]): Promise<void> {
  const flags = parseGenerateArguments(args);
  const found = await findModel(flags);
  const { source: { config }, tokenizer } = found;
  const prompt = preparePrompt(found, flags);
  const total = prompt.ids.length + prompt.maxTokens;
  const sizes = {
    maxTokens: flags.kv_cache ? prompt.ids.length : total,
    maxTargets: 1,
    maxPosition: total,
  };
  const { gpu, model, also: cache } = await loadModel(
    found,
    flags,
    sizes,
    (memory, model) => flags.kv_cache ? new KvCache(memory, config, total, model.dtype) : undefined,
    LESS_MEMORY,
  );
  // Weights still on their way would count as time of the first token.
  await gpu.finish();

  const output = new TextStream((ids) => tokenizer.decode(ids));
  const print = (text: string) => {
    if (!flags.json) Deno.stdout.writeSync(new TextEncoder().encode(text));
  };
  const ids: number[] = [];
  const stop = [tokenizer.eos_id, config.eos_token_id];
  const began = performance.now();
  let first = began, last = began;
  for await (
    const id of greedy(gpu, model, prompt.ids, { maxTokens: prompt.maxTokens, stop, cache })
  ) {
    last = performance.now();
    if (ids.length === 0) first = last;
    ids.push(id);
    print(output.push(id));
  }
  print(output.end() + "\n");
  if (ids.length === 0) first = performance.now();

  const perSecond = (tokens: number, milliseconds: number) =>
    Number((1000 * tokens / milliseconds).toFixed(3));
  const result: GenerateResult = {
    text: output.text,
    prompt_ids: Array.from(prompt.ids),
    ids,
    prefill_tokens_per_second: perSecond(prompt.ids.length, first - began),
    decode_tokens_per_second: ids.length > 1 ? perSecond(ids.length - 1, last - first) : null,
    peak_memory_mb: Number(megabytes(gpu.memory.peakTotal).toFixed(3)),
  };
  if (flags.json) console.log(JSON.stringify(result));
  report(result, prompt.maxTokens < flags.max_tokens, config.max_position_embeddings);
  if (gpu.profiler) console.error(`\n${profileLines(await gpu.profiler.rows()).join("\n")}`);
  gpu.close();
}

/** Says on stderr how it went. */
function report(result: GenerateResult, cut: boolean, context: number): void {
  const { prompt_ids, ids, prefill_tokens_per_second, decode_tokens_per_second } = result;
  if (cut && prompt_ids.length + ids.length === context) {
    console.error(`Stopped at the model's context of ${context} tokens.`);
  }
  const decode = decode_tokens_per_second === null
    ? ""
    : ` at ${decode_tokens_per_second} a second`;
  console.error(
    `Prompt: ${prompt_ids.length} tokens at ${prefill_tokens_per_second} a second; ` +
      `answer: ${ids.length} tokens${decode}; ` +
      `peak GPU memory: ${result.peak_memory_mb.toFixed(1)} MB`,
  );
}
