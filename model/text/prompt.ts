/**
 * From a sample to token ids: the one render-and-tokenise path of train, score and generate.
 *
 * @module
 */

import type { Tokenizer } from "./tokenizer.ts";

/**
 * One instruction-following sample; an empty `input` means there is none. An empty `instruction` makes
 * it plain text: there is no prompt, and all of `output` is learnt.
 */
export interface AlpacaSample {
  instruction: string;
  input: string;
  output: string;
}

/** A sample as the model sees it. */
export interface TokenizedSample {
  /** BOS, prompt, output, EOS. */
  ids: Uint32Array;
  /** Ids before this position are masked: they are read, but not targets of the loss. */
  promptLength: number;
  /** Whether `ids` was cut at the maximum length, and so lacks its EOS. */
  truncated: boolean;
}

/** How an instruction becomes the text of a prompt. */
export type PromptTemplate = "alpaca" | "none";

const WITH_INPUT = "Below is an instruction that describes a task, paired with an input that " +
  "provides further context. Write a response that appropriately completes the request.";

/** What Alpaca's template begins with where an instruction has no input. */
export const ALPACA_OPENING =
  "Below is an instruction that describes a task. Write a response that " +
  "appropriately completes the request.";

/**
 * The text of a prompt. `alpaca` is the template of Stanford Alpaca with or without an input, ending
 * in "### Response:" with no newline; `none` is the instruction itself, with a non-empty input on
 * the line after it.
 */
export function renderPrompt(
  sample: { instruction: string; input?: string },
  template: PromptTemplate,
): string {
  const { instruction, input } = sample;
  if (template === "none") return input ? `${instruction}\n${input}` : instruction;
  return input
    ? `${WITH_INPUT}\n\n### Instruction:\n${instruction}\n\n### Input:\n${input}\n\n### Response:`
    : `${ALPACA_OPENING}\n\n### Instruction:\n${instruction}\n\n### Response:`;
}

/** The ids of `prompt` after those that the tokenizer begins a text with. */
export function encodePrompt(tokenizer: Tokenizer, prompt: string): Uint32Array {
  return Uint32Array.from([...tokenizer.prefix_ids, ...tokenizer.encode(prompt)]);
}

/**
 * BOS, Alpaca prompt and output, EOS, cut at `maxLength` ids.
 *
 * Prompt and output are encoded as one text, so a token may span both: such a token is a target.
 * The mask is a position, the length of the prefix shared with the encoded prompt, and never
 * depends on an id (padding and EOS may share one).
 *
 * @param maxLength At least 1.
 */
export function encodeSample(
  tokenizer: Tokenizer,
  sample: AlpacaSample,
  maxLength: number,
): TokenizedSample {
  const text = sample.instruction === "" ? "" : renderPrompt(sample, "alpaca");
  const prompt = encodePrompt(tokenizer, text);
  const encoded = tokenizer.encode(text + sample.output);
  const ids = Uint32Array.from([...tokenizer.prefix_ids, ...encoded, tokenizer.eos_id]);
  let promptLength = 0;
  // The last id, EOS, is always a target.
  const longest = Math.min(prompt.length, ids.length - 1);
  while (promptLength < longest && prompt[promptLength] === ids[promptLength]) promptLength++;
  return {
    ids: ids.slice(0, maxLength),
    promptLength: Math.min(promptLength, maxLength),
    truncated: ids.length > maxLength,
  };
}

/** Number of targets of the loss; 0 where the cut left nothing but the prompt. */
export function supervisedTokens(sample: TokenizedSample): number {
  return sample.ids.length - sample.promptLength;
}

/**
 * A sample decoded for people, with the masked part dim (with `colour`) or in [brackets], and BOS
 * and EOS written out.
 */
export function describeSample(
  tokenizer: Tokenizer,
  sample: TokenizedSample,
  colour = false,
): string {
  const ids = Array.from(sample.ids);
  const prompt = tokenizer.decode(ids.slice(0, sample.promptLength));
  const whole = tokenizer.decode(ids);
  // Decoding the targets alone would lose the space before their first word.
  const target = whole.startsWith(prompt)
    ? whole.slice(prompt.length)
    : tokenizer.decode(ids.slice(sample.promptLength));
  const [open, close] = colour ? ["\x1b[2m", "\x1b[22m"] : ["[", "]"];
  const bos = ids[0] === tokenizer.bos_id ? "<s>" : "";
  const eos = ids.length > sample.promptLength && ids.at(-1) === tokenizer.eos_id ? "</s>" : "";
  return `${open}${bos}${prompt}${close}${target}${eos}`;
}
