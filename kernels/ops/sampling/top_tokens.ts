/**
 * The most likely tokens of every row of logits, in order, with their log-probabilities.
 *
 * The order and what is impossible (−infinity and NaN) are token_order.ts's. Log-probabilities are
 * x − log Σ exp(x) over the vocabulary, in f32; impossible tokens come last and have −infinity. All ids are
 * {@linkcode NOT_FINITE} where one of the row's logits is NaN or infinite.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import { programFamily } from "../../gpu/program.ts";
import { sumOfThreads } from "../../wgsl/reduce.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import {
  countSearch,
  firstOfRow,
  ORDER_UNIFORMS,
  orderUniforms,
  overRow,
  perLane,
  PLACES,
  THREADS,
  tokenKeys,
} from "../../wgsl/token_order.ts";

export { NOT_FINITE } from "../../wgsl/token_order.ts";

/** Most tokens a row can be asked for. */
export const MOST_TOP_TOKENS = 64;

/** What programs declare that look for the first tokens of a row: `logits` are bound, and `count` is a uniform. */
export const TOP_TOKENS = `${tokenKeys()}
fn keysAt(i: u32) -> vec4<u32> { return keysOf(load_logits(row + i)); }
${PLACES}
${countSearch("firstTokens", "u.count")}
${sumOfThreads(THREADS)}
var<workgroup> collected: atomic<u32>;
var<workgroup> tokens: array<vec2<u32>, ${MOST_TOP_TOKENS}>;`;

/** WGSL that collects the (key, id) of a row's first tokens in `tokens`, and leaves its `top` logit and its `logSum`. */
export const COLLECT_TOP_TOKENS = `row = group.x * (u.width / 4u);
  ${firstOfRow()}
  let top = valuesOf(vec4<u32>(firstOfThreads(thread, first.x, first.y).x)).x;
  let place = firstTokens(thread, vec2<u32>());
  var partial = 0.0;
  ${
  overRow(`
    let ids = i * 4u + LANES;
    let possible = (ids < vec4<u32>(u.vocab)) & (keys > vec4<u32>());
    partial += dot(select(vec4<f32>(), exp(valuesOf(keys) - top), possible), vec4<f32>(1.0));
    let kept = within(place, ids, keys);
    if (any(kept)) {
      ${
    perLane(`if (kept.LANE) {
        tokens[atomicAdd(&collected, 1u)] = vec2<u32>(keys.LANE, ids.LANE);
      }`)
  }
    }`)
}
  let logSum = log(sumOfThreads(thread, partial));`;

/**
 * WGSL that leaves a thread's `token` and its `index`: the number of tokens before it, from `base` on. They were
 * collected in any order.
 */
export function tokenIndex(base: string): string {
  return `// Collected in any order: a token's index is the number of tokens before it.
  let token = tokens[thread];
  var index = ${base};
  for (var i = 0u; i < u.count; i++) {
    let other = tokens[i];
    let before = other.x > token.x || (other.x == token.x && other.y < token.y);
    index += select(0u, 1u, before);
  }`;
}

const program = programFamily("top_tokens", () => ({
  bindings: [
    { name: "logits", dtype: "f32", access: "read" },
    { name: "ids", dtype: "u32", access: "write", scalar: true },
    { name: "logprobs", dtype: "f32", access: "write", scalar: true },
  ],
  uniforms: { ...ORDER_UNIFORMS, count: "u32" },
  body: `${TOP_TOKENS}

@compute @workgroup_size(${THREADS})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  ${COLLECT_TOP_TOKENS}
  if (thread >= u.count) { return; }
  ${tokenIndex("group.x * u.count")}
  ids[index] = select(token.y, NO_TOKEN, atomicLoad(&faults) != 0u);
  // A variable, because an infinite constant is an error.
  var infinite = 0xff800000u;
  let logprob = valuesOf(vec4<u32>(token.x)).x - top - logSum;
  logprobs[index] = select(logprob, bitcast<f32>(infinite), token.x == 0u);
}`,
}));

/**
 * Writes the `count` first tokens of every row.
 *
 * Shapes: logits `[at least rows, Vp]` f32, where Vp is the vocabulary rounded up to a multiple of 4 and
 * columns from `vocab` on are padding; ids u32 and logprobs f32 `[at least rows, count]`. At most 65,535
 * rows and {@linkcode MOST_TOP_TOKENS} tokens.
 *
 * @throws {Error} where `count` is none of 1 to 64 or exceeds the vocabulary.
 */
export function topTokens(
  gpu: Gpu,
  { logits, vocab, rows, count, ids, logprobs }: {
    logits: Tensor;
    vocab: number;
    rows: number;
    count: number;
    ids: Tensor;
    logprobs: Tensor;
  },
): void {
  const most = Math.min(MOST_TOP_TOKENS, vocab);
  if (!(count >= 1 && count <= most)) throw new Error(`top tokens: ${count} of 1 to ${most}`);
  const width = logits.rowSize;
  // Two passes, and three that are typical of the search.
  gpu.run(
    program({}),
    [logits, ids, logprobs],
    { ...orderUniforms(width, vocab), count },
    [rows],
    { flops: 24 * rows * width, bytes: 20 * rows * width },
  );
}
