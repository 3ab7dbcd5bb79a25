/**
 * Samples of random tokens that are as long as real ones and begin alike where these do: time and memory of a step
 * depend on that and not on what samples say.
 *
 * @module
 */
import { pcg4d } from "../kernels/wgsl/hash.ts";
import type { TokenizedSample } from "../model/text/prompt.ts";
import { targetsAfter } from "../model/text/targets.ts";

/** Tokens of the first 200 samples of Alpaca with Llama 2's tokenizer, BOS and EOS included: 24,200. */
// deno-fmt-ignore
const TOKENS = [
  98, 55, 117, 136, 208, 71, 118, 302, 63, 87, 102, 50, 127, 157, 95, 158, 144, 143, 140, 62, 56, 370, 107,
  405, 149, 226, 163, 256, 134, 148, 221, 78, 117, 219, 180, 86, 143, 88, 165, 110, 165, 81, 212, 134, 117,
  197, 158, 137, 204, 140, 99, 217, 85, 89, 68, 74, 58, 93, 54, 60, 62, 85, 63, 89, 73, 161, 72, 155, 82,
  206, 71, 82, 118, 93, 81, 82, 69, 325, 89, 133, 144, 88, 211, 329, 216, 142, 327, 220, 183, 77, 318, 89,
  160, 104, 131, 69, 116, 67, 49, 76, 109, 126, 113, 52, 124, 62, 140, 94, 56, 104, 91, 92, 94, 79, 74, 143,
  94, 75, 78, 77, 75, 228, 74, 83, 80, 79, 83, 79, 79, 92, 93, 88, 84, 103, 55, 94, 69, 80, 73, 80, 131, 77,
  79, 70, 95, 116, 80, 62, 92, 135, 102, 99, 135, 143, 90, 101, 139, 107, 138, 173, 334, 76, 147, 170, 136,
  168, 168, 78, 61, 103, 128, 165, 117, 81, 82, 193, 78, 154, 124, 78, 89, 84, 85, 145, 223, 84, 94, 136,
  87, 80, 97, 86, 80, 87, 95, 79, 103, 162, 79, 169,
];
/** How many of them are the prompt, in the same order: 12,953. */
// deno-fmt-ignore
const PROMPTS = [
  45, 42, 43, 43, 48, 67, 69, 57, 44, 76, 42, 42, 51, 44, 76, 49, 44, 100, 48, 50, 41, 51, 43, 68, 45, 46,
  44, 46, 66, 49, 47, 70, 50, 45, 47, 76, 87, 77, 121, 47, 44, 68, 45, 71, 58, 68, 46, 44, 135, 102, 84,
  45, 73, 75, 53, 52, 45, 84, 43, 46, 46, 68, 44, 75, 65, 70, 65, 114, 70, 73, 65, 68, 58, 66, 73, 70, 64,
  47, 76, 66, 53, 86, 69, 45, 48, 48, 45, 71, 70, 73, 50, 76, 78, 44, 48, 63, 42, 54, 41, 73, 45, 92, 77,
  44, 43, 48, 106, 45, 49, 86, 77, 76, 74, 70, 67, 104, 71, 68, 68, 68, 68, 165, 68, 66, 50, 63, 71, 67, 47,
  78, 73, 68, 72, 79, 45, 66, 47, 72, 50, 69, 54, 69, 71, 47, 79, 86, 48, 47, 79, 45, 41, 85, 51, 87, 88,
  96, 50, 103, 66, 50, 45, 67, 68, 68, 71, 88, 66, 66, 43, 44, 48, 101, 92, 67, 71, 77, 68, 64, 65, 71, 86,
  76, 73, 66, 67, 67, 89, 119, 76, 71, 50, 74, 71, 74, 66, 69, 87, 52, 71, 48,
];

/** The samples with an input, whose prompt has another template; by place. */
// deno-fmt-ignore
const WITH_INPUT = new Set([
  5, 6, 9, 14, 17, 23, 28, 31, 35, 36, 37, 38, 41, 43, 45, 48, 49, 50, 52, 53, 57, 61, 63, 64, 65, 66,
  67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 78, 81, 82, 87, 88, 89, 91, 92, 95, 99, 101, 102, 106, 109,
  110, 111, 112, 113, 114, 115, 116, 117, 118, 119, 120, 121, 122, 123, 125, 126, 127, 129, 130, 131,
  132, 133, 135, 137, 139, 141, 142, 144, 145, 148, 151, 153, 154, 155, 157, 161, 162, 163, 164, 165,
  166, 167, 171, 172, 173, 174, 175, 176, 177, 178, 179, 180, 181, 182, 183, 184, 185, 186, 187, 188,
  189, 191, 192, 193, 194, 195, 196, 198,
]);
/** Tokens that all prompts begin with, and all those with and without an input. */
const COMMON = { all: 9, withInput: 39, withoutInput: 29 };

const place = TOKENS.indexOf(Math.max(...TOKENS));
/** The longest of them: its tokens, and how many of those follow the prompt. */
export const LONGEST = { tokens: TOKENS[place], targets: TOKENS[place] - PROMPTS[place] };

/** Random ids from 3 on, which are no control tokens; `subsequence` tells apart those of different texts. */
export function randomIds(count: number, vocab: number, subsequence = 3): number[] {
  return Array.from({ length: count }, (_, i) => 3 + pcg4d(i, 1, 2, subsequence)[0] % (vocab - 3));
}

/** Sample `index`: the lengths repeat after 200; cut at `limit` tokens, of which one at least is a target. */
export function randomSample(index: number, vocab: number, limit: number): TokenizedSample {
  const place = index % TOKENS.length, tokens = Math.min(TOKENS[place], limit);
  const ids = Uint32Array.from(randomIds(tokens, vocab, 6 + index));
  const begin = (count: number, subsequence: number) =>
    ids.set(randomIds(Math.min(count, tokens), vocab, subsequence));
  if (WITH_INPUT.has(place)) begin(COMMON.withInput, 4);
  else begin(COMMON.withoutInput, 5);
  begin(COMMON.all, 3);
  return {
    ids,
    targets: targetsAfter(Math.min(PROMPTS[place], tokens - 1), ids),
    truncated: tokens < TOKENS[place],
  };
}

/** Samples that have so many tokens together; the last is cut to fit. */
export function randomRow(tokens: number, vocab: number, limit: number): TokenizedSample[] {
  const row: TokenizedSample[] = [];
  for (let left = tokens, i = 0; left > 0; i++) {
    // A sample needs two tokens: one that would leave a single one takes less.
    const room = left <= limit ? left : limit;
    const { length } = randomSample(i, vocab, room).ids;
    row.push(randomSample(i, vocab, left - length === 1 ? length - 1 : room));
    left -= row[i].ids.length;
  }
  return row;
}
