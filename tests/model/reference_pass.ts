/** One forward and backward pass of the reference (reference.ts). */
import type {
  ReferenceConfig,
  ReferenceModel,
  ReferenceWindow,
  Vector,
} from "./reference_model.ts";
import { addOuter, addTo, rowLengths, sigmoid, times, timesTransposed } from "./reference_math.ts";

/** What a block's backward needs of its forward. */
interface BlockTape {
  x: Float64Array;
  normed: Float64Array;
  q: Float64Array;
  k: Float64Array;
  v: Float64Array;
  /** [heads, T, T] */
  probabilities: Float64Array;
  mixed: Float64Array;
  residualMid: Float64Array;
  normedMid: Float64Array;
  gate: Float64Array;
  up: Float64Array;
  gated: Float64Array;
}

/** One row of samples laid end to end through the model: forward, then at most once backward. */
export class Pass {
  readonly ids: number[] = [];
  readonly positions: number[] = [];
  readonly blocks: BlockTape[] = [];
  readonly logits: Float64Array;
  readonly #last: Float64Array;
  readonly #normedLast: Float64Array;
  readonly #config: ReferenceConfig;
  readonly #model: ReferenceModel;
  readonly #batch: number;

  constructor(model: ReferenceModel, sequences: Vector[], batch: number) {
    this.#model = model;
    this.#config = model.config;
    this.#batch = batch;
    for (const sequence of sequences) {
      for (let position = 0; position < sequence.length; position++) {
        this.ids.push(sequence[position]);
        this.positions.push(position);
      }
    }
    const { hidden_size, num_hidden_layers } = this.#config;
    const embedding = this.#weight("model.embed_tokens.weight");
    let x: Float64Array = new Float64Array(this.rows * hidden_size);
    for (let t = 0; t < this.rows; t++) {
      for (let c = 0; c < hidden_size; c++) {
        x[t * hidden_size + c] = embedding[this.ids[t] * hidden_size + c];
      }
    }
    for (let layer = 0; layer < num_hidden_layers; layer++) x = this.#block(x, layer);
    this.#last = x;
    this.#normedLast = this.#rmsNorm(x, "model.norm.weight");
    this.logits = this.#linear(this.#normedLast, "lm_head");
  }

  get rows(): number {
    return this.ids.length;
  }

  /** The name of a linear layer's weight. */
  #weightName(layer: string): string {
    const tied = layer === "lm_head" && this.#config.tie_word_embeddings;
    return `${tied ? "model.embed_tokens" : layer}.weight`;
  }

  #weight(name: string): Vector {
    const weight = this.#model.weights.get(name);
    if (weight === undefined) throw new Error(`the reference model has no ${name}`);
    return weight;
  }

  /** Adapter tensors of a linear layer with the input they see (after dropout), if it has any. */
  #adapted(layer: string, x: Float64Array) {
    const lora = this.#model.lora;
    const prefix = `base_model.model.${layer}`;
    const a = lora?.weights.get(`${prefix}.lora_A.weight`);
    const b = lora?.weights.get(`${prefix}.lora_B.weight`);
    if (lora === undefined || a === undefined || b === undefined) return undefined;
    const mask = lora.mask?.(layer, this.#batch);
    const input = mask === undefined ? x : x.map((value, i) => value * mask[i]);
    const { rank, alpha } = lora, scale = alpha / rank;
    const magnitude = lora.weights.get(`${prefix}.lora_magnitude_vector`);
    const lengths = magnitude &&
      (lora.lengths?.(layer) ??
        rowLengths(this.#weight(this.#weightName(layer)), a, b, scale, rank));
    const dora = magnitude && lengths &&
      { lengths, factors: Float64Array.from(magnitude, (m, i) => m / lengths[i]) };
    return { a, b, mask, input, prefix, rank, scale, dora };
  }

  #linear(x: Float64Array, layer: string): Float64Array {
    const inputs = x.length / this.rows;
    const weight = this.#weight(this.#weightName(layer));
    const outputs = weight.length / inputs;
    const y = timesTransposed(x, weight, this.rows, outputs, inputs);
    const adapted = this.#adapted(layer, x);
    if (adapted !== undefined) {
      const { a, b, input, rank, scale, dora } = adapted;
      const inner = timesTransposed(input, a, this.rows, rank, inputs);
      const update = timesTransposed(inner, b, this.rows, outputs, rank);
      if (dora === undefined) addTo(y, update, scale);
      else {
        const base = timesTransposed(input, weight, this.rows, outputs, inputs);
        base.forEach((value, i) =>
          y[i] += dora.factors[i % outputs] * (value + scale * update[i]) - value
        );
      }
    }
    const bias = this.#model.weights.get(`${layer}.bias`);
    if (bias !== undefined) { for (let i = 0; i < y.length; i++) y[i] += bias[i % outputs]; }
    return y;
  }

  #linearBackward(dy: Float64Array, x: Float64Array, layer: string, out: ReferenceWindow) {
    const inputs = x.length / this.rows;
    const outputs = dy.length / this.rows;
    const weight = this.#weight(this.#weightName(layer));
    const dWeight = out.weights.get(this.#weightName(layer))!;
    addOuter(dWeight, dy, x, { m: outputs, n: inputs, k: this.rows });
    const dBias = out.weights.get(`${layer}.bias`);
    if (dBias !== undefined) dy.forEach((value, i) => dBias[i % outputs] += value);
    const dx = times(dy, weight, this.rows, inputs, outputs);
    const adapted = this.#adapted(layer, x);
    if (adapted === undefined) return dx;
    const { a, b, mask, input, prefix, rank, scale, dora } = adapted;
    const inner = timesTransposed(input, a, this.rows, rank, inputs);
    let dUpdate = dy;
    const dInput = new Float64Array(x.length);
    if (dora !== undefined) {
      const { factors, lengths } = dora;
      const z = timesTransposed(input, weight, this.rows, outputs, inputs);
      addTo(z, timesTransposed(inner, b, this.rows, outputs, rank), scale);
      const dMagnitude = out.lora.get(`${prefix}.lora_magnitude_vector`)!;
      z.forEach((value, i) => dMagnitude[i % outputs] += dy[i] * value / lengths[i % outputs]);
      dUpdate = dy.map((value, i) => value * factors[i % outputs]);
      // Of (factor − 1) ∘ (input · Wᵀ).
      const dBase = dy.map((value, i) => value * (factors[i % outputs] - 1));
      addOuter(dWeight, dBase, input, { m: outputs, n: inputs, k: this.rows });
      addTo(dInput, times(dBase, weight, this.rows, inputs, outputs));
    }
    const dInner = times(dUpdate, b, this.rows, rank, outputs);
    const dB = out.lora.get(`${prefix}.lora_B.weight`)!;
    const dA = out.lora.get(`${prefix}.lora_A.weight`)!;
    addOuter(dB, dUpdate, inner, { m: outputs, n: rank, k: this.rows, scale });
    addOuter(dA, dInner, input, { m: rank, n: inputs, k: this.rows, scale });
    addTo(dInput, times(dInner, a, this.rows, inputs, rank), scale);
    return addTo(dx, mask ? dInput.map((value, i) => value * mask[i]) : dInput);
  }

  /** 1 / rms of each row (Zhang and Sennrich 2019, with eps inside the root as in Llama). */
  #inverseRms(x: Float64Array): Float64Array {
    const { hidden_size, rms_norm_eps } = this.#config;
    const inverse = new Float64Array(this.rows);
    for (let t = 0; t < this.rows; t++) {
      let sum = 0;
      for (let c = 0; c < hidden_size; c++) sum += x[t * hidden_size + c] ** 2;
      inverse[t] = 1 / Math.sqrt(sum / hidden_size + rms_norm_eps);
    }
    return inverse;
  }

  #rmsNorm(x: Float64Array, name: string): Float64Array {
    const { hidden_size } = this.#config;
    const weight = this.#weight(name);
    const inverse = this.#inverseRms(x);
    return x.map((value, i) =>
      weight[i % hidden_size] * value * inverse[Math.floor(i / hidden_size)]
    );
  }

  #rmsNormBackward(dy: Float64Array, x: Float64Array, name: string, out: ReferenceWindow) {
    const { hidden_size } = this.#config;
    const weight = this.#weight(name);
    const dWeight = out.weights.get(name)!;
    const inverse = this.#inverseRms(x);
    const dx = new Float64Array(x.length);
    for (let t = 0; t < this.rows; t++) {
      const row = t * hidden_size;
      let dot = 0;
      for (let c = 0; c < hidden_size; c++) {
        const unit = x[row + c] * inverse[t];
        dWeight[c] += dy[row + c] * unit;
        dot += dy[row + c] * weight[c] * unit;
      }
      for (let c = 0; c < hidden_size; c++) {
        const unit = x[row + c] * inverse[t];
        dx[row + c] = inverse[t] * (dy[row + c] * weight[c] - (unit * dot) / hidden_size);
      }
    }
    return dx;
  }

  /** RoPE in place on [T, heads, head_dim]; feature i turns with i + head_dim/2; sign -1 undoes it. */
  #rotate(x: Float64Array, heads: number, sign: 1 | -1): Float64Array {
    const { head_dim, rope_theta } = this.#config;
    const half = head_dim / 2;
    for (let t = 0; t < this.rows; t++) {
      for (let i = 0; i < half; i++) {
        const angle = sign * this.positions[t] * rope_theta ** ((-2 * i) / head_dim);
        const cos = Math.cos(angle), sin = Math.sin(angle);
        for (let head = 0; head < heads; head++) {
          const at = (t * heads + head) * head_dim + i;
          const first = x[at], second = x[at + half];
          x[at] = first * cos - second * sin;
          x[at + half] = second * cos + first * sin;
        }
      }
    }
    return x;
  }

  /** The first row that row t may attend to: its sample's, or the first within the window. */
  #firstKey(t: number): number {
    return Math.max(t - this.positions[t], t - (this.#config.sliding_window ?? Infinity) + 1);
  }

  /** Calls back for every (head, query row, key row) that may attend, with offsets into q and k. */
  #pairs(visit: (head: number, t: number, s: number, q: number, k: number) => void): void {
    const { num_attention_heads: heads, num_key_value_heads: kvHeads, head_dim } = this.#config;
    const group = heads / kvHeads;
    for (let head = 0; head < heads; head++) {
      const kvHead = Math.floor(head / group);
      for (let t = 0; t < this.rows; t++) {
        for (let s = this.#firstKey(t); s <= t; s++) {
          visit(head, t, s, (t * heads + head) * head_dim, (s * kvHeads + kvHead) * head_dim);
        }
      }
    }
  }

  #attention(q: Float64Array, k: Float64Array, v: Float64Array) {
    const { num_attention_heads: heads, head_dim } = this.#config;
    const rows = this.rows;
    const probabilities = new Float64Array(heads * rows * rows);
    this.#pairs((head, t, s, atQ, atK) => {
      let dot = 0;
      for (let d = 0; d < head_dim; d++) dot += q[atQ + d] * k[atK + d];
      probabilities[(head * rows + t) * rows + s] = dot / Math.sqrt(head_dim);
    });
    for (let head = 0; head < heads; head++) {
      for (let t = 0; t < rows; t++) {
        const at = (head * rows + t) * rows;
        const own = probabilities.subarray(at + this.#firstKey(t), at + t + 1);
        const top = Math.max(...own);
        let sum = 0;
        for (let i = 0; i < own.length; i++) sum += own[i] = Math.exp(own[i] - top);
        for (let i = 0; i < own.length; i++) own[i] /= sum;
      }
    }
    const mixed = new Float64Array(q.length);
    this.#pairs((head, t, s, atQ, atK) => {
      const p = probabilities[(head * rows + t) * rows + s];
      for (let d = 0; d < head_dim; d++) mixed[atQ + d] += p * v[atK + d];
    });
    return { probabilities, mixed };
  }

  #attentionBackward(dMixed: Float64Array, { q, k, v, probabilities }: BlockTape) {
    const { num_attention_heads: heads, head_dim } = this.#config;
    const rows = this.rows;
    const dq = new Float64Array(q.length);
    const dk = new Float64Array(k.length);
    const dv = new Float64Array(v.length);
    const dp = new Float64Array(probabilities.length);
    const rowDot = new Float64Array(heads * rows);
    this.#pairs((head, t, s, atQ, atK) => {
      const at = (head * rows + t) * rows + s;
      for (let d = 0; d < head_dim; d++) {
        dp[at] += dMixed[atQ + d] * v[atK + d];
        dv[atK + d] += probabilities[at] * dMixed[atQ + d];
      }
      rowDot[head * rows + t] += dp[at] * probabilities[at];
    });
    this.#pairs((head, t, s, atQ, atK) => {
      const at = (head * rows + t) * rows + s;
      const dScore = (probabilities[at] * (dp[at] - rowDot[head * rows + t])) / Math.sqrt(head_dim);
      for (let d = 0; d < head_dim; d++) {
        dq[atQ + d] += dScore * k[atK + d];
        dk[atK + d] += dScore * q[atQ + d];
      }
    });
    return { dq, dk, dv };
  }

  #block(x: Float64Array, layer: number): Float64Array {
    const { num_attention_heads: heads, num_key_value_heads: kvHeads } = this.#config;
    const at = `model.layers.${layer}.`;
    const normed = this.#rmsNorm(x, `${at}input_layernorm.weight`);
    const q = this.#rotate(this.#linear(normed, `${at}self_attn.q_proj`), heads, 1);
    const k = this.#rotate(this.#linear(normed, `${at}self_attn.k_proj`), kvHeads, 1);
    const v = this.#linear(normed, `${at}self_attn.v_proj`);
    const { probabilities, mixed } = this.#attention(q, k, v);
    const residualMid = addTo(this.#linear(mixed, `${at}self_attn.o_proj`), x);
    const normedMid = this.#rmsNorm(residualMid, `${at}post_attention_layernorm.weight`);
    const gate = this.#linear(normedMid, `${at}mlp.gate_proj`);
    const up = this.#linear(normedMid, `${at}mlp.up_proj`);
    const gated = gate.map((value, i) => value * sigmoid(value) * up[i]);
    this.blocks.push({
      x,
      normed,
      q,
      k,
      v,
      probabilities,
      mixed,
      residualMid,
      normedMid,
      gate,
      up,
      gated,
    });
    return addTo(this.#linear(gated, `${at}mlp.down_proj`), residualMid);
  }

  #blockBackward(dy: Float64Array, layer: number, out: ReferenceWindow): Float64Array {
    const { num_attention_heads: heads, num_key_value_heads: kvHeads } = this.#config;
    const at = `model.layers.${layer}.`;
    const tape = this.blocks[layer];
    const { x, normed, mixed, residualMid, normedMid, gate, up, gated } = tape;
    const dGated = this.#linearBackward(dy, gated, `${at}mlp.down_proj`, out);
    const dUp = dGated.map((value, i) => value * gate[i] * sigmoid(gate[i]));
    const dGate = dGated.map((value, i) => {
      const s = sigmoid(gate[i]);
      return value * up[i] * s * (1 + gate[i] * (1 - s));
    });
    const dNormedMid = addTo(
      this.#linearBackward(dUp, normedMid, `${at}mlp.up_proj`, out),
      this.#linearBackward(dGate, normedMid, `${at}mlp.gate_proj`, out),
    );
    const postNorm = `${at}post_attention_layernorm.weight`;
    const dResidualMid = addTo(this.#rmsNormBackward(dNormedMid, residualMid, postNorm, out), dy);
    const dMixed = this.#linearBackward(dResidualMid, mixed, `${at}self_attn.o_proj`, out);
    const { dq, dk, dv } = this.#attentionBackward(dMixed, tape);
    const dNormed = this.#linearBackward(dv, normed, `${at}self_attn.v_proj`, out);
    this.#rotate(dq, heads, -1);
    this.#rotate(dk, kvHeads, -1);
    addTo(dNormed, this.#linearBackward(dq, normed, `${at}self_attn.q_proj`, out));
    addTo(dNormed, this.#linearBackward(dk, normed, `${at}self_attn.k_proj`, out));
    return addTo(
      this.#rmsNormBackward(dNormed, x, `${at}input_layernorm.weight`, out),
      dResidualMid,
    );
  }

  /** Adds to `out` the gradients of a loss whose gradient by the logits [T, vocab] is `dLogits`. */
  backward(dLogits: Float64Array, out: ReferenceWindow): void {
    const { hidden_size, num_hidden_layers } = this.#config;
    const dNormed = this.#linearBackward(dLogits, this.#normedLast, "lm_head", out);
    let dx: Float64Array = this.#rmsNormBackward(dNormed, this.#last, "model.norm.weight", out);
    for (let layer = num_hidden_layers - 1; layer >= 0; layer--) {
      dx = this.#blockBackward(dx, layer, out);
    }
    const dEmbedding = out.weights.get("model.embed_tokens.weight")!;
    for (let i = 0; i < dx.length; i++) {
      const t = Math.floor(i / hidden_size);
      dEmbedding[this.ids[t] * hidden_size + (i % hidden_size)] += dx[i];
    }
  }
}
