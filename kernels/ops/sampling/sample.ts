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
 * Values", 1954), from word id mod 4 of {@linkcode pcg4d}(⌊id / 4⌋, seed, stream, position): a draw depends
 * neither on the batch nor on what was drawn before. +infinity counts as the largest f32. −infinity and NaN
 * are never chosen, unless nothing else is left: then it is token 0. Where any logit is one of the three, the
 * host is told so: it reads {@linkcode NOT_FINITE} in the token's place.
 *
 * @module
 */
import { elementGrid, elementMain } from "../../gpu/elementwise.ts";
import type { Cost, Gpu } from "../../gpu/gpu.ts";
import { PCG4D } from "../../wgsl/hash.ts";
import { type Binding, positionalFamily, readsScalars } from "../../gpu/program.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import {
  countSearch,
  KEEP_FIRST,
  ORDER_UNIFORMS,
  orderUniforms,
  overRow,
  PLACES,
  placeSearch,
  THREADS,
  TOKEN_KEYS,
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

/** Penalised logits' keys; `inverse` is 1 / p because WGSL's division is inexact. */
function keysAt(penalty: boolean): string {
  return penalty
    ? `
var<private> seenRow: u32;
fn keysAt(i: u32) -> vec4<u32> {
  let x = load_logits(row + i);
  let penalised = x * select(vec4<f32>(u.penalty), vec4<f32>(u.inverse), x > vec4<f32>());
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
  return max(below * u.coolness, vec4<f32>(-1e30));
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
  let share = fixedPoint((f32(total.y) + f32(total.x) * 0x1p-32) * u.topP);
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
function draw(topK: boolean, topP: boolean, minP: boolean, mask: boolean): string {
  const inPlace = topK || topP
    ? "within(place, ids, keys)"
    : "(ids < vec4<u32>(u.vocab)) & (keys > vec4<u32>())";
  return `
  top = valuesOf(vec4<u32>(chosen.x)).x;
  let stream = streams[sequence];
  let position = positions[sequence];
  // Down to the last possible token.
  var place = vec2<u32>(1u, 0u);
  ${topK ? "place = topK(thread, place);" : ""}
  ${topP ? "place = topP(thread, place);" : ""}
  first = vec2<u32>(0u, NO_TOKEN);
  ${
    overRow(`
    let ids = i * 4u + LANES;
    let kept = ${inPlace}${minP ? " & (distances(keys) >= vec4<f32>(u.logMinP))" : ""};
    ${
      mask
        ? "if (i < u.width / 4u) { mask[row + i] = select(vec4<u32>(), vec4<u32>(1u), kept); }"
        : ""
    }
    if (any(kept)) {
      let noise = -log(exponentials(pcg4d(vec4<u32>(i, u.seed, stream, position))));
      let found = select(vec4<u32>(), keysOf(distances(keys) + noise), kept);
      ${KEEP_FIRST}
    }`)
  }
  chosen = firstOfThreads(thread, first.x, first.y);`;
}

const program = positionalFamily(
  "sample",
  (
    greedy: boolean,
    topK: boolean,
    topP: boolean,
    minP: boolean,
    penalty: boolean,
    mask: boolean,
  ) => {
    const bindings: Binding[] = [
      { name: "logits", dtype: "f32", access: "read" },
      { name: "ids", dtype: "u32", access: "write", scalar: true },
      { name: "made", dtype: "u32", access: "write", scalar: true },
    ];
    if (!greedy) bindings.push(...readsScalars("u32", "positions", "streams"));
    if (penalty) bindings.push({ name: "seen", dtype: "u32", access: "write" });
    if (mask) bindings.push({ name: "mask", dtype: "u32", access: "write" });
    return {
      bindings,
      uniforms: {
        ...ORDER_UNIFORMS,
        first: "u32",
        slot: "u32",
        seed: "u32",
        topK: "u32",
        topP: "f32",
        coolness: "f32",
        logMinP: "f32",
        penalty: "f32",
        inverse: "f32",
      },
      body: `${TOKEN_KEYS}
${keysAt(penalty)}
${greedy ? "" : DRAWING}
${topK || topP ? PLACES : ""}
${topK ? countSearch("topK", "u.topK") : ""}
${topP ? TOP_P : ""}
@compute @workgroup_size(${THREADS})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let sequence = u.first + group.x;
  row = group.x * (u.width / 4u);
  ${penalty ? "seenRow = sequence * (u.width / 4u);" : ""}
  var first = vec2<u32>(0u, NO_TOKEN);
  ${
        overRow(`
    let ids = i * 4u + LANES;
    let found = select(vec4<u32>(), keys, ids < vec4<u32>(u.vocab));
    lookForFaults(keys, ids);
    ${KEEP_FIRST}`)
      }
  var chosen = firstOfThreads(thread, first.x, first.y);
  ${greedy ? "" : draw(topK, topP, minP, mask)}
  if (thread == 0u) {
    let id = select(chosen.y, 0u, chosen.x == 0u);
    ids[sequence] = id;
    made[u.slot + sequence] = select(id, NO_TOKEN, atomicLoad(&faults) != 0u);
    ${penalty ? "seen[seenRow + id / 4u][id % 4u] = 1u;" : ""}
  }
}`,
    };
  },
);

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
  made: Tensor;
  step: number;
  stride: number;
  /** `[sequences]` u32: position of the last known token. */
  positions: Tensor;
  /** `[sequences]` u32: sequences of one stream, seed and position draw with the same noise. */
  streams: Tensor;
  /**
   * `[sequences, Vp]` u32: nonzero where a token occurred; the chosen tokens are marked. Needed for a
   * repetition penalty, otherwise not used.
   */
  seen?: Tensor;
  options: Sampling;
  /** `[at least rows, Vp]` u32: receives 1 for every token that could be drawn, else 0, unless greedy. */
  mask?: Tensor;
}

/** Chooses the next token of `rows` sequences. */
export function sample(
  gpu: Gpu,
  { logits, vocab, rows, first, ids, made, step, stride, positions, streams, seen, options, mask }:
    SampleRun,
): void {
  const { temperature, top_k, top_p, min_p, repetition_penalty, seed } = options;
  const greedy = temperature <= 0;
  const topK = !greedy && top_k > 0 && top_k < vocab;
  const topP = !greedy && top_p < 1;
  const minP = !greedy && min_p > 0;
  const penalty = repetition_penalty !== 1;
  const masked = !greedy && mask !== undefined;
  if (penalty && seen === undefined) throw new Error("a repetition penalty needs `seen`");
  const width = logits.rowSize;
  gpu.run(
    program(greedy, topK, topP, minP, penalty, masked),
    [
      ...[logits, ids, made],
      ...greedy ? [] : [positions, streams],
      ...penalty ? [seen!] : [],
      ...masked ? [mask] : [],
    ],
    {
      ...orderUniforms(width, vocab),
      first,
      slot: step * stride,
      seed,
      topK: top_k,
      topP: Math.max(0, top_p),
      // Bounded, so that the smallest temperatures don't make 0 · infinity.
      coolness: greedy ? 0 : Math.min(1 / temperature, 1e30),
      logMinP: minP ? Math.min(0, Math.log(min_p)) : 0,
      penalty: repetition_penalty,
      inverse: 1 / repetition_penalty,
    },
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

const mark = positionalFamily("mark_seen", () => ({
  bindings: [
    ...readsScalars("u32", "ids", "sequences"),
    { name: "seen", dtype: "u32", access: "write", scalar: true },
  ],
  uniforms: { vectors: "u32", width: "u32" },
  // One token for each thread; where several are the same they write the same.
  body: elementMain("seen[sequences[i] * u.width + ids[i]] = 1u;"),
}));

/**
 * Marks the first `count` tokens as seen: seen[sequences[i], ids[i]] = 1. Others stay as they are
 * (clear `seen` first).
 *
 * Shapes: ids and sequences `[at least count]` u32, seen `[sequences, Vp]` u32.
 */
export function markSeen(
  gpu: Gpu,
  { ids, sequences, seen, count }: { ids: Tensor; sequences: Tensor; seen: Tensor; count: number },
): void {
  const uniforms = { vectors: count, width: seen.rowSize };
  gpu.run(mark(), [ids, sequences, seen], uniforms, elementGrid(count), {
    flops: 0,
    bytes: 12 * count,
  });
}
