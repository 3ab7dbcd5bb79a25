/**
 * The forward pass of one document in float64, straight from a specification: what families/spec.ts says, and
 * nothing of how the model goes about it.
 *
 * @module
 */
import { ropeFrequencies } from "../../../kernels/ops/rope/frequencies.ts";
import { FUSED_MODULES } from "../../../model/families/linear_modules.ts";
import { rotateHead } from "../../kernels/ops/rope/rotaries.ts";
import type { ArchSpec, LayerSpec } from "../../../model/families/spec.ts";

type Weights = ReadonlyMap<string, Float64Array>;

/** y `[T, out]` = x·Wᵀ + b. */
function linear(x: Float64Array, weights: Weights, name: string, inputs: number): Float64Array {
  const w = weights.get(`${name}.weight`)!, b = weights.get(`${name}.bias`);
  const outputs = w.length / inputs, rows = x.length / inputs;
  return Float64Array.from({ length: rows * outputs }, (_, at) => {
    const row = Math.floor(at / outputs), out = at % outputs;
    let sum = b?.[out] ?? 0;
    for (let i = 0; i < inputs; i++) sum += x[row * inputs + i] * w[out * inputs + i];
    return sum;
  });
}

/** What is capped softly, where there is a cap. */
const capped = (x: number, cap: number | null) => cap === null ? x : cap * Math.tanh(x / cap);

const ACTIVATIONS = {
  silu: (g: number) => g / (1 + Math.exp(-g)),
  gelu_pytorch_tanh: (g: number) =>
    g / 2 * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (g + 0.044715 * g ** 3))),
} satisfies Record<ArchSpec["activation"], (g: number) => number>;

/** RMSNorm of groups as wide as the weight of `name`; x itself where there is no such name. */
function norm(
  x: Float64Array,
  weights: Weights,
  name: string | undefined,
  { eps, offset }: ArchSpec["norm"],
): Float64Array {
  if (name === undefined) return x;
  const w = weights.get(`${name}.weight`)!, width = w.length, y = new Float64Array(x.length);
  for (let from = 0; from < x.length; from += width) {
    let squares = 0;
    for (let i = 0; i < width; i++) squares += x[from + i] ** 2;
    const scale = 1 / Math.sqrt(squares / width + eps);
    for (let i = 0; i < width; i++) y[from + i] = x[from + i] * scale * (offset + w[i]);
  }
  return y;
}

/** Rotates the heads of x `[T, heads · d]` by their positions. */
function rotate(x: Float64Array, { rope }: LayerSpec, tokens: number, d: number): Float64Array {
  if (rope === null) return x;
  const { rotary, scaling } = rope, { dims } = rotary, y = x.slice();
  const frequencies = ropeFrequencies({ dims, positions: tokens, ...rope });
  const factor = scaling !== null && "attention_factor" in scaling ? scaling.attention_factor : 1;
  for (let at = 0; at < x.length; at += d) {
    const position = Math.floor(at * tokens / x.length);
    rotateHead(y, at, rotary, (pair) => position * frequencies[pair]);
    for (let i = 0; i < dims; i++) y[at + i] *= factor;
  }
  return y;
}

/** The weights with each fused layer as the layers that it holds. */
function separated(spec: ArchSpec, weights: Weights): Weights {
  const { hidden_size: hidden, head_dim: d, intermediate_size: inner } = spec;
  const queries = spec.num_attention_heads * d, keys = spec.num_key_value_heads * d;
  const rows: Record<string, number> = {
    q_proj: queries,
    k_proj: keys,
    v_proj: keys,
    gate_proj: inner,
    up_proj: inner,
  };
  return new Map([...weights].flatMap(([name, values]): [string, Float64Array][] => {
    const fused = Object.keys(FUSED_MODULES).find((fused) => name.includes(`.${fused}.`));
    if (fused === undefined) return [[name, values]];
    let from = 0;
    return FUSED_MODULES[fused as keyof typeof FUSED_MODULES].map((part) => {
      const to = from + rows[part] * hidden, own = values.subarray(from, to);
      from = to;
      return [name.replace(`.${fused}.`, `.${part}.`), own];
    });
  }));
}

function attention(
  spec: ArchSpec,
  { window, scale, softcap }: LayerSpec,
  [q, k, v]: Float64Array[],
  tokens: number,
): Float64Array {
  const { num_attention_heads: heads, num_key_value_heads: kvHeads, head_dim: d } = spec;
  const out = new Float64Array(tokens * heads * d);
  for (let t = 0; t < tokens; t++) {
    for (let h = 0; h < heads; h++) {
      const kv = Math.floor(h / (heads / kvHeads)),
        first = Math.max(0, t + 1 - (window ?? Infinity));
      const scores: number[] = [];
      for (let s = first; s <= t; s++) {
        let sum = 0;
        for (let i = 0; i < d; i++) {
          sum += q[(t * heads + h) * d + i] * k[(s * kvHeads + kv) * d + i];
        }
        scores.push(Math.exp(capped(sum * scale, softcap)));
      }
      const total = scores.reduce((a, b) => a + b);
      scores.forEach((score, n) => {
        for (let i = 0; i < d; i++) {
          out[(t * heads + h) * d + i] += score / total * v[((first + n) * kvHeads + kv) * d + i];
        }
      });
    }
  }
  return out;
}

/** Logits `[T, vocabulary]` of one document. */
export function forwardLogits(spec: ArchSpec, given: Weights, ids: Uint32Array): Float64Array {
  const weights = separated(spec, given);
  const { hidden_size: hidden, head_dim: d, norms, qkNorm } = spec;
  const tokens = ids.length, table = weights.get("model.embed_tokens.weight")!;
  let x = Float64Array.from(
    { length: tokens * hidden },
    (_, at) =>
      spec.embedding_multiplier * table[ids[Math.floor(at / hidden)] * hidden + at % hidden],
  );
  spec.layers.forEach((layer, index) => {
    const module = (name: string) => `model.layers.${index}.${name}`;
    const normed = (y: Float64Array, name: string | undefined) =>
      norm(y, weights, name && module(name), spec.norm);
    const project = (y: Float64Array, name: string, width: number) =>
      linear(y, weights, module(name), width);
    const add = (y: Float64Array) => {
      x = x.map((value, i) => value + spec.residual_multiplier * y[i]);
    };
    const n = normed(x, norms.preAttention);
    const [q, k, v] = ["q", "k", "v"].map((name) => project(n, `self_attn.${name}_proj`, hidden));
    const rotated = [normed(q, qkNorm?.q), normed(k, qkNorm?.k)].map((y) =>
      rotate(y, layer, tokens, d)
    );
    const out = attention(spec, layer, [...rotated, v], tokens);
    const projected = project(out, "self_attn.o_proj", out.length / tokens);
    add(normed(projected, norms.postAttention));
    const m = normed(x, norms.preMlp);
    const gate = project(m, "mlp.gate_proj", hidden), up = project(m, "mlp.up_proj", hidden);
    const product = gate.map((g, i) => ACTIVATIONS[spec.activation](g) * up[i]);
    const down = project(product, "mlp.down_proj", product.length / tokens);
    add(normed(down, norms.postMlp));
  });
  const head = spec.tie_word_embeddings ? "model.embed_tokens" : "lm_head";
  return linear(norm(x, weights, "model.norm", spec.norm), weights, head, hidden)
    .map((logit) => capped(spec.logits_multiplier * logit, spec.logits_softcap));
}

/** Mean negative log-likelihood of all tokens but the first. */
export function meanLoss(spec: ArchSpec, weights: Weights, ids: Uint32Array): number {
  const logits = forwardLogits(spec, weights, ids), vocab = spec.vocab_size;
  let sum = 0;
  for (let t = 0; t + 1 < ids.length; t++) {
    const row = logits.subarray(t * vocab, (t + 1) * vocab);
    sum += Math.log(row.reduce((all, logit) => all + Math.exp(logit), 0)) - row[ids[t + 1]];
  }
  return sum / (ids.length - 1);
}
