/**
 * The log-probability of the token that was chosen in every row of logits, and of the most likely ones, beside the chosen
 * tokens themselves, so that the host reads all of it at once.
 *
 * The order, and what the probabilities are over, is top_tokens.ts's: x − log Σ exp(x) of the logits given.
 *
 * @module
 */
import type { Gpu } from "../../gpu/gpu.ts";
import { programFamily } from "../../gpu/program.ts";
import type { Tensor } from "../../gpu/tensor.ts";
import { ORDER_UNIFORMS, orderUniforms, THREADS } from "../../wgsl/token_order.ts";
import { COLLECT_TOP_TOKENS, tokenIndex, TOP_TOKENS } from "./top_tokens.ts";

/** Most likely tokens of a record at most: OpenAI's limit. */
export const MOST_LOGPROBS = 20;
/** Words of a record: the chosen token's log-probability, then ids, then their log-probabilities. */
export const RECORD_WORDS = 1 + 2 * MOST_LOGPROBS;

const program = programFamily("token_logprobs", () => ({
  bindings: [
    { name: "logits", dtype: "f32", access: "read" },
    { name: "ids", dtype: "u32", access: "read", scalar: true },
    { name: "report", dtype: "u32", access: "write", scalar: true },
  ],
  uniforms: { ...ORDER_UNIFORMS, count: "u32", first: "u32", base: "u32" },
  body: `${TOP_TOKENS}

@compute @workgroup_size(${THREADS})
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  ${COLLECT_TOP_TOKENS}
  let sequence = u.first + group.x;
  let record = u.base + sequence * ${RECORD_WORDS}u;
  if (thread == 0u) {
    let chosen = ids[sequence];
    report[record] = bitcast<u32>(load_logits(row + chosen / 4u)[chosen % 4u] - top - logSum);
  }
  if (thread >= u.count) { return; }
  ${tokenIndex("record + 1u")}
  report[index] = token.y;
  report[index + ${MOST_LOGPROBS}u] = bitcast<u32>(valuesOf(vec4<u32>(token.x)).x - top - logSum);
}`,
}));

/** Log-probabilities of a token and of the likeliest ones in its place. */
export interface TokenLogprobs {
  logprob: number;
  /** The likeliest first. */
  top: { id: number; logprob: number }[];
}

/** A record, whose words begin at `at`; of the likeliest tokens, the first `count`. */
export function readRecord(report: Uint32Array, at: number, count: number): TokenLogprobs {
  const floats = new Float32Array(report.buffer, report.byteOffset, report.length);
  return {
    logprob: floats[at],
    top: Array.from({ length: count }, (_, i) => ({
      id: report[at + 1 + i],
      logprob: floats[at + 1 + MOST_LOGPROBS + i],
    })),
  };
}

/**
 * Writes a record for each of `rows` rows, that of sequence s to report[base + s · RECORD_WORDS].
 *
 * Shapes: logits `[at least rows, Vp]` f32 with padding from `vocab` on, ids `[sequences]` u32 (the chosen tokens), report
 * u32; row r belongs to sequence first + r.
 *
 * @param count Likeliest tokens of a record, 1 to {@linkcode MOST_LOGPROBS} and no more than the vocabulary has.
 */
export function tokenLogprobs(
  gpu: Gpu,
  { logits, vocab, rows, first, count, ids, report, base }: {
    logits: Tensor;
    vocab: number;
    rows: number;
    first: number;
    count: number;
    ids: Tensor;
    report: Tensor;
    base: number;
  },
): void {
  const width = logits.rowSize;
  gpu.run(
    program({}),
    [logits, ids, report],
    { ...orderUniforms(width, vocab), count, first, base },
    [rows],
    { flops: 24 * rows * width, bytes: 20 * rows * width },
  );
}
