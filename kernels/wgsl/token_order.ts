/**
 * The order of a vocabulary's tokens by their logits, and how far down it a condition reaches, as WGSL
 * for one workgroup per row of logits.
 *
 * Tokens are ordered by logit, the largest first, and equal logits by id, the lowest first. A token's key is
 * a u32 that sorts as its logit does: −0 is 0, infinity the largest finite number, and −infinity and NaN
 * ("impossible" tokens) have key 0. A place is (key, rank) with rank = lastRank − id; places in descending
 * order are the tokens in order, and a place stands for the set of all tokens down to it.
 *
 * A place is found digit by digit, as a radix sort finds it: the tokens' weights are summed by the next 8 bits,
 * and the digit is the one in which the sum from the top reaches the target. Weights are 64-bit
 * integers (low word, high word), so sums are exact and don't depend on the order of the atomic additions.
 *
 * @module
 */

/** Threads of the workgroup; a program that looks for the first token alone may have more. */
export const THREADS = 256;
/** Vectors that a thread loads before it looks at the first, to hide the memory's latency. */
const UNROLL = 4;
/** Copies of each digit's sum: neighbouring threads often add to the same digit. */
const COPIES = 8;
/** Digits of a key. */
const KEY_DIGITS = 4;

/** What takes a token's place where one of a row's logits is NaN or infinite. */
export const NOT_FINITE = 0xffffffff;

/** Uniforms of programs that use this module. */
export const ORDER_UNIFORMS = {
  width: "u32",
  vocab: "u32",
  levels: "u32",
  lastRank: "u32",
} as const;

/** Values of {@linkcode ORDER_UNIFORMS} for logits of `width` columns, `vocab` of them real. */
export function orderUniforms(width: number, vocab: number): Record<string, number> {
  const idDigits = vocab <= 1 << 8 ? 1 : vocab <= 1 << 16 ? 2 : 3;
  return { width, vocab, levels: KEY_DIGITS + idDigits, lastRank: 2 ** (8 * idDigits) - 1 };
}

/** Keys, and the first token of the order among all threads' tokens. */
export function tokenKeys(threads: number = THREADS): string {
  return `
const LANES = vec4<u32>(0u, 1u, 2u, 3u);
const NO_TOKEN = 0xffffffffu;
/** The lowest key of a possible token, and the largest, which infinity has. */
const LOWEST_KEY = 0x00800000u;
const LARGEST_KEY = 0xff7fffffu;
/** First vector of the workgroup's row. */
var<private> row: u32;

fn keysOf(x: vec4<f32>) -> vec4<u32> {
  let bits = bitcast<vec4<u32>>(x);
  let size = bits & vec4<u32>(0x7fffffffu);
  let finite = min(size, vec4<u32>(0x7f7fffffu));
  let negative = bits > vec4<u32>(0x80000000u);
  let key = select(finite | vec4<u32>(0x80000000u), ~(finite | vec4<u32>(0x80000000u)), negative);
  let impossible = (size > vec4<u32>(0x7f800000u)) | (bits == vec4<u32>(0xff800000u));
  return select(key, vec4<u32>(), impossible);
}

fn valuesOf(keys: vec4<u32>) -> vec4<f32> {
  let key = max(keys, vec4<u32>(LOWEST_KEY));
  let negative = key < vec4<u32>(0x80000000u);
  return bitcast<vec4<f32>>(select(key & vec4<u32>(0x7fffffffu), ~key, negative));
}

/** 1 where a thread has seen a logit that is NaN or infinite. */
var<workgroup> faults: atomic<u32>;
fn lookForFaults(keys: vec4<u32>, ids: vec4<u32>) {
  let faulty = (keys == vec4<u32>()) | (keys >= vec4<u32>(LARGEST_KEY));
  if (any(faulty & (ids < vec4<u32>(u.vocab)))) { atomicStore(&faults, 1u); }
}

var<workgroup> firsts: array<vec2<u32>, ${threads}>;
/** The largest key and its lowest id, of one (key, id) from each thread. */
fn firstOfThreads(thread: u32, key: u32, id: u32) -> vec2<u32> {
  firsts[thread] = vec2<u32>(key, id);
  for (var stride = ${threads / 2}u; stride > 0u; stride /= 2u) {
    workgroupBarrier();
    if (thread < stride) {
      let a = firsts[thread];
      let b = firsts[thread + stride];
      firsts[thread] = select(a, b, b.x > a.x || (b.x == a.x && b.y < a.y));
    }
  }
  return workgroupUniformLoad(&firsts[0]);
}`;
}

/**
 * WGSL that runs `body` for every vector of four tokens of the row, with `i`, the vector's index in the row, and
 * `keys`, from the program's function `keysAt(i: u32) -> vec4<u32>`. Some `i` lie past the row's end:
 * their ids are no tokens.
 */
export function overRow(body: string, threads: number = THREADS): string {
  const unrolled = (text: (j: number) => string) =>
    Array.from({ length: UNROLL }, (_, j) => text(j)).join("\n");
  return `
  for (var base = thread; base < u.width / 4u; base += ${UNROLL * threads}u) {
    ${unrolled((j) => `let keys${j} = keysAt(min(base + ${j * threads}u, u.width / 4u - 1u));`)}
    ${unrolled((j) => `{ let i = base + ${j * threads}u; let keys = keys${j}; ${body} }`)}
  }`;
}

/** The four lanes of a vector one after the other: `body` with `.x` to `.w` for `LANE`. */
export function perLane(body: string): string {
  return ["x", "y", "z", "w"].map((lane) => body.replaceAll("LANE", lane)).join("\n");
}

/** Leaves the first of the thread's tokens in `first`: a (key, id), keys above 0 only. */
export const KEEP_FIRST = perLane(
  "if (found.LANE > first.x) { first = vec2<u32>(found.LANE, ids.LANE); }",
);

/**
 * Goes over the row and leaves the first of the thread's tokens in `first`, a (key, id) whose key is 0 where there is
 * none. What is not finite is told of by `lookForFaults`.
 */
export function firstOfRow(threads: number = THREADS): string {
  const body = `
    let ids = i * 4u + LANES;
    let found = select(vec4<u32>(), keys, ids < vec4<u32>(u.vocab));
    lookForFaults(keys, ids);
    ${KEEP_FIRST}`;
  return `var first = vec2<u32>(0u, NO_TOKEN);
  ${overRow(body, threads)}`;
}

/** Places and 64-bit weights; needed once by all of {@linkcode placeSearch}. */
export const PLACES = `
var<workgroup> low: array<atomic<u32>, ${256 * COPIES}>;
var<workgroup> high: array<atomic<u32>, 256>;
var<workgroup> fromTop: array<vec2<u32>, 256>;
/** A digit, what remains of the target inside it, and how to go on. */
var<workgroup> next: vec4<u32>;
const DESCEND = 0u;
const WHOLE_DIGIT = 1u;
const EVERYTHING = 2u;

/** Which tokens of a vector are in the set of a place. */
fn within(place: vec2<u32>, ids: vec4<u32>, keys: vec4<u32>) -> vec4<bool> {
  let key = vec4<u32>(place.x);
  let tied = (keys == key) & (vec4<u32>(u.lastRank) - ids >= vec4<u32>(place.y));
  return (ids < vec4<u32>(u.vocab)) & ((keys > key) | tied);
}

fn less(a: vec2<u32>, b: vec2<u32>) -> bool {
  return a.y < b.y || (a.y == b.y && a.x < b.x);
}

fn plus(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  let x = a.x + b.x;
  return vec2<u32>(x, a.y + b.y + select(0u, 1u, x < a.x));
}

fn minus(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  return vec2<u32>(a.x - b.x, a.y - b.y - select(0u, 1u, a.x < b.x));
}

fn add(thread: u32, digit: u32, weight: vec2<u32>) {
  let before = atomicAdd(&low[digit * ${COPIES}u + thread % ${COPIES}u], weight.x);
  let carried = weight.y + select(0u, 1u, before + weight.x < before);
  if (carried > 0u) { atomicAdd(&high[digit], carried); }
}

/** Turns the digits' weights into sums from the highest digit down. */
fn sumDigits(thread: u32) {
  var sum = vec2<u32>(0u, atomicLoad(&high[thread]));
  for (var copy = 0u; copy < ${COPIES}u; copy++) {
    sum = plus(sum, vec2<u32>(atomicLoad(&low[thread * ${COPIES}u + copy]), 0u));
  }
  fromTop[thread] = sum;
  for (var stride = 1u; stride < 256u; stride *= 2u) {
    workgroupBarrier();
    if (thread + stride < 256u) { sum = plus(sum, fromTop[thread + stride]); }
    workgroupBarrier();
    fromTop[thread] = sum;
  }
  workgroupBarrier();
}`;

/** What {@linkcode placeSearch} sums. */
export interface Weighing {
  /** WGSL before the weights of a vector: may use `keys`. */
  prepare?: string;
  /** WGSL of a token's weight, with `LANE` for its lane: a vec2<u32>. */
  weight: string;
  /** WGSL of a lower limit of the weight of tokens whose key is at least `key`. */
  lowest: string;
  /** WGSL of the sum to reach, not 0, from `total`, the sum of all. */
  target: string;
}

/**
 * WGSL of `name(thread, place) -> place`: the shortest beginning of the order, within the set of a place, whose
 * weights sum up to the target; the place itself where they don't exceed it.
 */
export function placeSearch(
  name: string,
  { prepare = "", weight, lowest, target }: Weighing,
): string {
  return `
fn ${name}(thread: u32, place: vec2<u32>) -> vec2<u32> {
  var digits = vec2<u32>();
  var known = vec2<u32>();
  var remaining = vec2<u32>();
  for (var level = 0u; level < u.levels; level++) {
    let inKey = level < ${KEY_DIGITS}u;
    let shift = 8u * select(u.levels - 1u - level, ${KEY_DIGITS - 1}u - level, inKey);
    for (var copy = 0u; copy < ${COPIES}u; copy++) {
      atomicStore(&low[thread * ${COPIES}u + copy], 0u);
    }
    atomicStore(&high[thread], 0u);
    workgroupBarrier();
    ${
    overRow(`
      let ids = i * 4u + LANES;
      let ranks = vec4<u32>(u.lastRank) - ids;
      let inside = within(place, ids, keys) &
        ((keys & vec4<u32>(known.x)) == vec4<u32>(digits.x)) &
        ((ranks & vec4<u32>(known.y)) == vec4<u32>(digits.y));
      if (any(inside)) {
        let digit = (select(ranks, keys, inKey) >> vec4<u32>(shift)) & vec4<u32>(255u);
        ${prepare}
        ${perLane(`if (inside.LANE) { add(thread, digit.LANE, ${weight}); }`)}
      }`)
  }
    workgroupBarrier();
    sumDigits(thread);
    var everything = false;
    if (level == 0u) {
      let total = fromTop[0];
      remaining = ${target};
      everything = !less(remaining, total);
    }
    var above = vec2<u32>();
    if (thread < 255u) { above = fromTop[thread + 1u]; }
    let upTo = fromTop[thread];
    if (everything) {
      if (thread == 0u) { next.w = EVERYTHING; }
    } else if (less(above, remaining) && !less(upTo, remaining)) {
      // One thread only: sums grow from the last digit to the first.
      let key = select(digits.x, digits.x | (thread << shift), inKey);
      // Without any one of its tokens the digit would not reach the target.
      let whole = less(minus(upTo, remaining), ${lowest});
      let inDigit = minus(remaining, above);
      next = vec4<u32>(thread, inDigit, select(DESCEND, WHOLE_DIGIT, whole));
    }
    let step = workgroupUniformLoad(&next);
    if (step.w == EVERYTHING) { return place; }
    digits |= select(vec2<u32>(0u, 1u), vec2<u32>(1u, 0u), inKey) * (step.x << shift);
    known |= select(vec2<u32>(0u, 1u), vec2<u32>(1u, 0u), inKey) * (255u << shift);
    remaining = step.yz;
    if (step.w == WHOLE_DIGIT) { break; }
  }
  // The last digit may reach below the place searched in.
  let beyond = digits.x < place.x || (digits.x == place.x && digits.y < place.y);
  return select(digits, place, beyond);
}`;
}

/** {@linkcode placeSearch} for the first `count` tokens; `count` is a WGSL u32 above 0. */
export function countSearch(name: string, count: string): string {
  const one = "vec2<u32>(1u, 0u)";
  return placeSearch(name, { weight: one, lowest: one, target: `vec2<u32>(${count}, 0u)` });
}
