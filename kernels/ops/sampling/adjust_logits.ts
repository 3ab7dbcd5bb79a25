/**
 * Logits as their sequences want them changed, before a token is chosen:
 * y = x + bias − frequency · count − presence · [count > 0], and {@linkcode FORBIDDEN} where the token is not allowed.
 *
 * `count` is how often the token occurred in the answer so far. Sources: the API reference of OpenAI's chat completions
 * (`frequency_penalty`, `presence_penalty`, `logit_bias`). A forbidden token has a finite logit, because sampling tells
 * of infinite ones; it is far below every other and so is never chosen where one is allowed.
 *
 * @module
 */
import { elementGrid, elementMain } from "../../gpu/elementwise.ts";
import type { Gpu } from "../../gpu/gpu.ts";
import { programFamily, reads, readsScalars, writes, writesScalars } from "../../gpu/program.ts";
import type { Tensor } from "../../gpu/tensor.ts";

/** The logit of a token that is not allowed. */
export const FORBIDDEN = -1e30;

/** How a sequence's logits are changed. */
export interface Adjustment {
  /** Taken off the logit of a token as often as it occurred in the answer. */
  frequency_penalty: number;
  /** Taken off the logit of a token that occurred in the answer. */
  presence_penalty: number;
  /** Whether there are biases for its tokens. */
  biased: boolean;
  /** Whether some tokens are not allowed. */
  masked: boolean;
}

/** Words of a sequence's adjustment: see {@linkcode adjustmentWords}. */
export const ADJUSTMENT_WORDS = 4;

/** A sequence's adjustment for the GPU `[ADJUSTMENT_WORDS]` u32, floats by their bits. */
export function adjustmentWords(
  { frequency_penalty, presence_penalty, biased, masked }: Adjustment,
): Uint32Array {
  const penalties = new Uint32Array(Float32Array.of(frequency_penalty, presence_penalty).buffer);
  return Uint32Array.of(...penalties, biased ? 1 : 0, masked ? 1 : 0);
}

const THREADS = 256;

const adjust = programFamily("adjust_logits", () => ({
  bindings: [
    ...reads("f32", "logits", "biases"),
    ...reads("u32", "counts"),
    ...readsScalars("u32", "allowed", "settings"),
    ...writes("f32", "adjusted"),
  ],
  uniforms: { vectors: "u32", allowedWords: "u32", first: "u32" },
  body: `
@compute @workgroup_size(${THREADS})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(workgroup_id) group: vec3<u32>) {
  let i = id.x;
  if (i >= u.vectors) { return; }
  let sequence = u.first + group.y;
  let at = sequence * ${ADJUSTMENT_WORDS}u;
  let own = sequence * u.vectors + i;
  var x = load_logits(group.y * u.vectors + i);
  if (settings[at] != 0u || settings[at + 1u] != 0u) {
    let count = counts[own];
    x -= bitcast<f32>(settings[at]) * vec4<f32>(count);
    x -= select(vec4<f32>(), vec4<f32>(bitcast<f32>(settings[at + 1u])), count > vec4<u32>());
  }
  if (settings[at + 2u] != 0u) { x += load_biases(own); }
  if (settings[at + 3u] != 0u) {
    let bits = allowed[sequence * u.allowedWords + i / 8u] >> (i % 8u * 4u);
    let isAllowed = (vec4<u32>(bits) & vec4<u32>(1u, 2u, 4u, 8u)) != vec4<u32>();
    x = select(vec4<f32>(${FORBIDDEN}), x, isAllowed);
  }
  store_adjusted(group.y * u.vectors + i, x);
}`,
}));

const count = programFamily("count_tokens", () => ({
  bindings: [...readsScalars("u32", "ids"), ...writesScalars("u32", "counts")],
  uniforms: { vectors: "u32", width: "u32", first: "u32" },
  body: elementMain("counts[(u.first + i) * u.width + ids[u.first + i]] += 1u;"),
}));

/** 32-bit words of the bits that say which tokens of a vocabulary are allowed. */
export function allowedWords(vocab: number): number {
  return Math.ceil(vocab / 32);
}

/** Tensors of {@linkcode adjustLogits}. Vp is the vocabulary rounded up to a multiple of 4. */
export interface AdjustRun {
  /** `[at least rows, Vp]` f32; columns beyond the vocabulary may hold anything. */
  logits: Tensor;
  /** Rows to adjust, 65,535 at most; row r belongs to sequence first + r. */
  rows: number;
  first: number;
  /** `[sequences, Vp]` f32, read where a sequence is `biased`. */
  biases: Tensor;
  /** `[sequences, Vp]` u32: how often each token occurred, read where there are penalties. */
  counts: Tensor;
  /** `[sequences, allowedWords(vocab)]` u32: bit id mod 32 of word ⌊id / 32⌋, read where a sequence is `masked`. */
  allowed: Tensor;
  /** `[sequences, ADJUSTMENT_WORDS]` u32. */
  settings: Tensor;
  /** `[at least rows, Vp]` f32, not `logits`. */
  adjusted: Tensor;
}

/** Writes adjusted logits. */
export function adjustLogits(gpu: Gpu, run: AdjustRun): void {
  const { logits, rows, first, biases, counts, allowed, settings, adjusted } = run;
  const vectors = logits.rowSize / 4;
  gpu.run(
    adjust({}),
    [logits, biases, counts, allowed, settings, adjusted],
    { vectors, allowedWords: allowed.rowSize, first },
    [Math.ceil(vectors / THREADS), rows],
    { flops: 16 * rows * vectors, bytes: 32 * rows * vectors },
  );
}

/** Counts the tokens ids[first] to ids[first + rows − 1], each as one of its sequence. */
export function countTokens(
  gpu: Gpu,
  { ids, counts, rows, first }: { ids: Tensor; counts: Tensor; rows: number; first: number },
): void {
  const uniforms = { vectors: rows, width: counts.rowSize, first }, bytes = 12 * rows;
  gpu.run(count({}), [ids, counts], uniforms, elementGrid(rows), { flops: rows, bytes });
}
