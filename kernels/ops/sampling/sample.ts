/**
 * The next token of every sequence, from its logits, without reading anything back.
 *
 * With x the logits `[vocab]` of a sequence, in this order (as in transformers):
 *  1. repetition penalty p: a token that occurred gets x / p where x > 0, else x · p;
 *  2. temperature T: probabilities are softmax(x / T); T = 0 is greedy and skips the rest;
 *  3. top-k keeps the first k tokens of the order (x descending, id ascending);
 *  4. top-p keeps the shortest beginning of that order whose probability among what top-k kept reaches p,
 *     one token at least;
 *  5. min-p keeps tokens whose probability is at least min_p times that of the most likely one.
 *
 * Greedy takes the first token of the order. Otherwise the token drawn is the argmax of x / T + g over the
 * kept tokens, with g = −log E Gumbel noise and E exponential (Gumbel, "Statistical Theory of Extreme
 * Values", 1954), from word id mod 4 of {@linkcode pcg4d}(⌊id / 4⌋, seed, subsequence, position): a draw depends
 * neither on the batch nor on what was drawn before. +infinity counts as the largest f32. −infinity and NaN
 * are never chosen, unless nothing else is left: then it is token 0. Where any logit is one of the three, the
 * host reads {@linkcode NOT_FINITE} in the token's place.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import type { Cost } from "../../gpu/work.ts";
import { PCG4D } from "../../wgsl/hash.ts";
import { type Binding, programFamily, readsScalars, type Variant } from "../../gpu/program.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import {
  countSearch,
  firstOfRow,
  KEEP_FIRST,
  ORDER_UNIFORMS,
  orderUniforms,
  overRow,
  PLACES,
  placeSearch,
  THREADS,
  tokenKeys,
} from "../../wgsl/token_order.ts";

export { NOT_FINITE } from "../../wgsl/token_order.ts";

/** How tokens are chosen. */
export interface Sampling {
  /** Logits are divided by it; 0 is greedy. */
  temperature: number;
  /** Only the k most likely tokens; 0: off. */
  top_k: number;
  /** Only the most likely tokens that make up this probability together; 1: off. */
  top_p: number;
  /** Only tokens at least this likely, as a share of the most likely one's probability; 0: off. */
  min_p: number;
  /** Above 1, tokens that occurred become less likely; 1: off. */
  repetition_penalty: number;
  /** Equal seeds give equal tokens; u32. */
  seed: number;
}

/** Words of a sequence's settings: see {@linkcode samplingSettings}. */
export const SETTINGS_WORDS = 9;

/** Bits of a float32. */
const bitsOf = (value: number) => new Uint32Array(Float32Array.of(value).buffer)[0];

/**
 * A sequence's sampling parameters for the GPU `[SETTINGS_WORDS]` u32, floats by their bits. A parameter that is off
 * has a value that changes nothing, so that sequences with and without it can share a launch.
 *
 * @param subsequence Sequences with the same subsequence and seed draw with the same noise at the same position; u32.
 */
export function samplingSettings(sampling: Sampling, subsequence: number): Uint32Array {
  const { temperature, top_k, top_p, min_p, repetition_penalty, seed } = sampling;
  const greedy = temperature <= 0;
  return Uint32Array.of(
    seed,
    subsequence,
    top_k > 0 ? top_k : 0xffffffff,
    bitsOf(top_p < 1 ? Math.max(0, top_p) : 2),
    // Bounded, so that the smallest temperatures don't make 0 · infinity.
    bitsOf(greedy ? 0 : Math.min(1 / temperature, 1e30)),
    bitsOf(min_p > 0 ? Math.min(0, Math.log(min_p)) : -3e38),
    bitsOf(repetition_penalty),
    // WGSL's division is inexact.
    bitsOf(1 / repetition_penalty),
    greedy ? 1 : 0,
  );
}

/** Steps of a program that one of its sequences needs at least. */
export interface SamplingSteps {
  /** All tokens are the most likely ones. */
  greedy: boolean;
  topK: boolean;
  topP: boolean;
  minP: boolean;
  penalty: boolean;
}

/** The steps that sequences with these samplings need, over a vocabulary. */
export function samplingSteps(samplings: readonly Sampling[], vocab: number): SamplingSteps {
  const drawn = samplings.filter(({ temperature }) => temperature > 0);
  return {
    greedy: drawn.length === 0,
    topK: drawn.some(({ top_k }) => top_k > 0 && top_k < vocab),
    topP: drawn.some(({ top_p }) => top_p < 1),
    minP: drawn.some(({ min_p }) => min_p > 0),
    penalty: samplings.some(({ repetition_penalty }) => repetition_penalty !== 1),
  };
}

/** WGSL of a sequence's settings, and `readSettings(sequence)`, which sets them. */
const SETTINGS = `
var<private> seed: u32;
var<private> drawSubsequence: u32;
var<private> mostTokens: u32;
var<private> leastShare: f32;
var<private> coolness: f32;
var<private> logMinP: f32;
var<private> penalty: f32;
var<private> inversePenalty: f32;
var<private> isGreedy: bool;

fn readSettings(sequence: u32) {
  let at = sequence * ${SETTINGS_WORDS}u;
  seed = settings[at];
  drawSubsequence = settings[at + 1u];
  mostTokens = settings[at + 2u];
  leastShare = bitcast<f32>(settings[at + 3u]);
  coolness = bitcast<f32>(settings[at + 4u]);
  logMinP = bitcast<f32>(settings[at + 5u]);
  penalty = bitcast<f32>(settings[at + 6u]);
  inversePenalty = bitcast<f32>(settings[at + 7u]);
  isGreedy = settings[at + 8u] == 1u;
}
`;

/** Penalised logits' keys. */
function keysAt(penalty: boolean): string {
  return penalty
    ? `
var<private> seenRow: u32;
fn keysAt(i: u32) -> vec4<u32> {
  let x = load_logits(row + i);
  let penalised = x * select(vec4<f32>(penalty), vec4<f32>(inversePenalty), x > vec4<f32>());
  return keysOf(select(x, penalised, seen[seenRow + i] != vec4<u32>()));
}`
    : "fn keysAt(i: u32) -> vec4<u32> { return keysOf(load_logits(row + i)); }";
}

/** Distances from the top in units of the temperature, weights and noise. */
const DRAWING = `${PCG4D}
/** The most likely token's logit. */
var<private> top: f32;

/** log(probability / largest probability), finite. */
fn distances(keys: vec4<u32>) -> vec4<f32> {
  let below = max(valuesOf(keys) - top, vec4<f32>(-3e38));
  return max(below * coolness, vec4<f32>(-1e30));
}

/** Exponentially distributed numbers, −log(1 − v), relatively exact near 0, where the winners are. */
fn exponentials(words: vec4<u32>) -> vec4<f32> {
  let v = (vec4<f32>(words) + 0.5) * 0x1p-32;
  let series = v * (1.0 + v * (1.0 / 2.0 + v * (1.0 / 3.0 + v * (1.0 / 4.0 + v * (1.0 / 5.0 + v / 6.0)))));
  return select(-log(max(1.0 - v, vec4<f32>(0x1p-26))), series, v < vec4<f32>(0x1p-4));
}`;

/** Weights are exp(distance) in units of 2⁻⁴⁰. */
const TOP_P = `
fn fixedPoint(high: f32) -> vec2<u32> {
  let whole = floor(high);
  return vec2<u32>(u32((high - whole) * 0x1p32), u32(whole));
}

fn shareOf(total: vec2<u32>) -> vec2<u32> {
  let share = fixedPoint((f32(total.y) + f32(total.x) * 0x1p-32) * leastShare);
  return select(share, vec2<u32>(1u, 0u), all(share == vec2<u32>()));
}
${
  placeSearch("topP", {
    prepare: "let weights = exp(distances(keys)) * 256.0;",
    weight: "fixedPoint(weights.LANE)",
    lowest: "fixedPoint(exp(distances(vec4<u32>(key)).x) * 256.0)",
    target: "shareOf(total)",
  })
}`;

/** WGSL that replaces `chosen`, the most likely token, by the one drawn. */
function draw({ topK, topP, minP, mask }: SampleVariant): string {
  const inPlace = topK || topP
    ? "within(place, ids, keys)"
    : "(ids < vec4<u32>(u.vocab)) & (keys > vec4<u32>())";
  return `
  top = valuesOf(vec4<u32>(chosen.x)).x;
  let position = positions[sequence];
  // Down to the last possible token.
  var place = vec2<u32>(1u, 0u);
  ${topK ? "place = topK(thread, place);" : ""}
  ${topP ? "place = topP(thread, place);" : ""}
  first = vec2<u32>(0u, NO_TOKEN);
  ${
    overRow(`
    let ids = i * 4u + LANES;
    let kept = ${inPlace}${minP ? " & (distances(keys) >= vec4<f32>(logMinP))" : ""};
    ${
      mask
        ? "if (i < u.width / 4u) { mask[row + i] = select(vec4<u32>(), vec4<u32>(1u), kept); }"
        : ""
    }
    if (any(kept)) {
      let noise = -log(exponentials(pcg4d(vec4<u32>(i, seed, drawSubsequence, position))));
      let found = select(vec4<u32>(), keysOf(distances(keys) + noise), kept);
      ${KEEP_FIRST}
    }`)
  }
  chosen = select(firstOfThreads(thread, first.x, first.y), chosen, isGreedy);`;
}

/** Threads at most of a workgroup that looks for the most likely token alone: a row is few rounds of its loads. */
const GREEDY_THREADS = 1024;

/** Threads of a workgroup. A software driver has few cores, which more threads do not fill better. */
function sampleThreads({ profile, software }: Gpu, greedy: boolean): number {
  if (!greedy || software) return THREADS;
  return 2 ** Math.floor(Math.log2(Math.min(GREEDY_THREADS, profile.workgroupThreads)));
}

interface SampleVariant extends SamplingSteps {
  mask: boolean;
  threads: number;
}

const program = programFamily("sample", (variant: SampleVariant & Variant) => {
  const { greedy, topK, topP, penalty, mask, threads } = variant;
  const bindings: Binding[] = [
    { name: "logits", dtype: "f32", access: "read" },
    { name: "ids", dtype: "u32", access: "write", scalar: true },
    { name: "sampled", dtype: "u32", access: "write", scalar: true },
  ];
  if (!greedy) bindings.push(...readsScalars("u32", "positions"));
  if (!greedy || penalty) bindings.push(...readsScalars("u32", "settings"));
  if (penalty) bindings.push({ name: "seen", dtype: "u32", access: "write" });
  if (mask) bindings.push({ name: "mask", dtype: "u32", access: "write" });
  return {
    bindings,
    uniforms: {
      ...ORDER_UNIFORMS,
      first: "u32",
      slot: "u32",
    },
    body: `${tokenKeys(threads)}
${!greedy || penalty ? SETTINGS : ""}
${keysAt(penalty)}
${greedy ? "" : DRAWING}
${topK || topP ? PLACES : ""}
${topK ? countSearch("topK", "mostTokens") : ""}
${topP ? TOP_P : ""}
@compute @workgroup_size(${threads})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let sequence = u.first + group.x;
  ${!greedy || penalty ? "readSettings(sequence);" : ""}
  row = group.x * (u.width / 4u);
  ${penalty ? "seenRow = sequence * (u.width / 4u);" : ""}
  ${firstOfRow(threads)}
  var chosen = firstOfThreads(thread, first.x, first.y);
  ${greedy ? "" : draw(variant)}
  if (thread == 0u) {
    let id = select(chosen.y, 0u, chosen.x == 0u);
    ids[sequence] = id;
    sampled[u.slot + sequence] = select(id, NO_TOKEN, atomicLoad(&faults) != 0u);
    ${penalty ? "seen[seenRow + id / 4u][id % 4u] = 1u;" : ""}
  }
}`,
  };
});

/** Arguments of {@linkcode sample}. V is the vocabulary, Vp it rounded up to a multiple of 4. */
export interface SampleRun {
  /** `[at least rows, Vp]` f32; columns from `vocab` on are padding and may hold anything. */
  logits: Tensor;
  vocab: number;
  /** Rows to decide, 65,535 at most; row r belongs to sequence first + r. */
  rows: number;
  first: number;
  /** `[sequences]` u32: receives the tokens. */
  ids: Tensor;
  /** u32: receives the tokens too, or {@linkcode NOT_FINITE}, at step · stride + sequence. */
  sampled: Tensor;
  step: number;
  stride: number;
  /** `[sequences]` u32: position of the last known token. */
  positions: Tensor;
  /** `[sequences, SETTINGS_WORDS]` u32: {@linkcode samplingSettings} of each sequence. */
  settings: Tensor;
  /**
   * `[sequences, Vp]` u32: nonzero where a token occurred; the chosen tokens are marked. Needed for a
   * repetition penalty, otherwise not used.
   */
  seen?: Tensor;
  /** {@linkcode samplingSteps} of the sequences. */
  steps: SamplingSteps;
  /** `[at least rows, Vp]` u32: receives 1 for every token that could be drawn, else 0, unless greedy. */
  mask?: Tensor;
}

/** Chooses the next token of `rows` sequences. @throws {Error} where a penalty has no `seen`. */
export function sample(
  gpu: Gpu,
  {
    logits,
    vocab,
    rows,
    first,
    ids,
    sampled,
    step,
    stride,
    positions,
    settings,
    seen,
    steps,
    mask,
  }: SampleRun,
): void {
  const { greedy, topK, topP, minP, penalty } = steps;
  const masked = greedy ? undefined : mask;
  if (penalty && seen === undefined) throw new Error("a repetition penalty needs `seen`");
  const width = logits.rowSize;
  const tensors = [logits, ids, sampled];
  if (!greedy) tensors.push(positions);
  if (!greedy || penalty) tensors.push(settings);
  if (penalty && seen !== undefined) tensors.push(seen);
  if (masked !== undefined) tensors.push(masked);
  gpu.run(
    program({
      greedy,
      topK,
      topP,
      minP,
      penalty,
      mask: masked !== undefined,
      threads: sampleThreads(gpu, greedy),
    }),
    tensors,
    { ...orderUniforms(width, vocab), first, slot: step * stride },
    [rows],
    cost(rows * width, greedy, (topK ? 3 : 0) + (topP ? 3 : 0), penalty),
  );
}

/** Work over all logits; `searches` passes are typical of what top-k and top-p add. */
function cost(size: number, greedy: boolean, searches: number, penalty: boolean): Cost {
  const passes = (greedy ? 1 : 2) + searches;
  return {
    flops: size * (passes * 4 + (greedy ? 0 : 20)),
    bytes: size * (penalty ? 8 : 4) * passes,
  };
}
