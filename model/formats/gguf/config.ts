/**
 * From a GGUF file's metadata to a model's configuration.
 *
 * @module
 */

import { UserError } from "../../../kernels/errors.ts";
import { type ModelConfig, parseConfig } from "../../families/config.ts";
import { brief } from "../../files/json_file.ts";
import type { GgufModel } from "./split.ts";
import type { Metadata } from "./metadata.ts";
import { EMBEDDING, OUTPUT, ROPE_FACTORS } from "./names.ts";
import { ropeScaling } from "./rope_factors.ts";
import { endTokens, readVocabulary } from "./vocabulary.ts";

/** Sizes beyond any Llama, small enough that no product overflows. */
const MAX_SIZE = 2 ** 22, MAX_LAYERS = 4096, MAX_CONTEXT = 2 ** 31, MAX_WINDOW = 2 ** 31;

/** Most of a head's width: the kernels' own limit. */
const MAX_HEAD = 256;

/** Keys that change what a model computes, each with the values that leave a Llama as it is. */
const PLAIN: Readonly<Record<string, readonly (number | boolean)[]>> = {
  "expert_count": [0],
  "attention.max_alibi_bias": [0],
  "attention.clamp_kqv": [0],
  "attention.causal": [true],
  "attention.scale": [0],
  "attn_logit_softcapping": [0],
  "final_logit_softcapping": [0],
  "logit_scale": [0, 1],
  "embedding_scale": [0, 1],
  "residual_scale": [0, 1],
  "use_parallel_residual": [false],
};

/** The shortest decimal that is the same number as f32, to which what is in the file was rounded. */
function shortest(value: number): number {
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === Math.fround(value)) return short;
  }
  return value;
}

/** The metadata of one architecture. */
class ArchitectureKeys {
  constructor(readonly metadata: Metadata, readonly architecture: string) {}

  key(name: string): string {
    return `${this.architecture}.${name}`;
  }

  /** A whole number that has to be there. */
  count(name: string, most: number): number {
    const count = this.metadata.count(this.key(name), most);
    return count ?? this.metadata.fail(this.key(name), `a whole number from 1 to ${most}`);
  }

  optional(name: string, most: number, least = 1): number | undefined {
    return this.metadata.count(this.key(name), most, least);
  }

  number(name: string): number | undefined {
    const value = this.metadata.number(this.key(name));
    return value === undefined ? undefined : shortest(value);
  }

  /** Refuses a key unless it is absent or says what is computed anyway. */
  expect(name: string, values: readonly unknown[]): void {
    const key = this.key(name);
    if (!this.metadata.has(key) || values.some((value) => this.metadata.is(key, value))) return;
    this.metadata.fail(key, `${values.map(String).join(" or ")}: nothing else is supported`);
  }
}

/** The scaling of RoPE that the metadata name; what `rope_freqs.weight` says is read elsewhere. */
function namedScaling(keys: ArchitectureKeys): Record<string, unknown> | null {
  const factor = keys.number("rope.scaling.factor") ?? keys.number("rope.scale_linear");
  const type = keys.metadata.text(keys.key("rope.scaling.type")) ??
    (factor === undefined ? "none" : "linear");
  if (type === "none" || type === "linear" && (factor === undefined || factor === 0)) return null;
  if (type === "linear") return { type, factor };
  return keys.metadata.fail(
    keys.key("rope.scaling.type"),
    `"none" or "linear": another scaling is not supported`,
  );
}

/** That the embedding is a matrix of that width; its rows are the vocabulary. */
function vocabularySize({ tensors, metadata: { path } }: GgufModel, hidden: number): number {
  const shape = tensors.get(EMBEDDING)?.shape;
  if (shape === undefined) throw new UserError(`${path}: tensor "${EMBEDDING}" is missing`);
  const [rows, columns] = shape;
  if (shape.length === 2 && columns === hidden) return rows;
  throw new UserError(
    `${path}: tensor "${EMBEDDING}" has shape ${
      brief(shape)
    }, expected two dimensions, the second ${hidden}`,
  );
}

/** What the frequencies of RoPE are divided by, where the file has it. */
function storedFactors(
  { tensors, metadata: { path } }: GgufModel,
  headDim: number,
): Float32Array | undefined {
  const place = tensors.get(ROPE_FACTORS);
  if (place === undefined) return undefined;
  if (place.type.name !== "F32" || place.bytes !== headDim / 2 * 4) {
    throw new UserError(
      `${path}: tensor "${ROPE_FACTORS}" has ${place.bytes} bytes in ${place.type.name}, expected ` +
        `${headDim / 2} numbers in F32`,
    );
  }
  const bytes = new Uint8Array(place.bytes);
  place.file.readSync(place.position, bytes);
  return new Float32Array(bytes.buffer);
}

/**
 * The configuration of a model. What the metadata leave out is what llama.cpp takes, or what the tensors say.
 *
 * @throws UserError that names the file and the key, for what is missing, malformed or not supported.
 */
export function ggufConfig(model: GgufModel): ModelConfig {
  const { metadata, tensors } = model, { path } = metadata;
  // An adapter has its model's architecture, a projector of pictures one of its own.
  const type = metadata.text("general.type");
  if (type !== undefined && type !== "model") metadata.fail("general.type", `"model"`);
  const architecture = metadata.text("general.architecture");
  if (architecture !== "llama") {
    return metadata.fail("general.architecture", `"llama", which Llama and Mistral are in GGUF`);
  }
  const keys = new ArchitectureKeys(metadata, architecture);
  for (const [name, values] of Object.entries(PLAIN)) keys.expect(name, values);
  const hidden_size = keys.count("embedding_length", MAX_SIZE);
  const heads = keys.count("attention.head_count", MAX_SIZE);
  const headDim = keys.optional("attention.key_length", MAX_HEAD) ?? hidden_size / heads;
  if (!Number.isInteger(headDim)) {
    metadata.fail(keys.key("attention.head_count"), `a divisor of embedding_length ${hidden_size}`);
  }
  keys.expect("attention.value_length", [headDim]);
  keys.expect("rope.dimension_count", [headDim]);
  const theta = keys.number("rope.freq_base") ?? 10000;
  const factors = storedFactors(model, headDim);
  const divided = factors && ropeScaling(factors, { headDim, theta, file: path });
  const vocab_size = vocabularySize(model, hidden_size);
  const window = keys.optional("attention.sliding_window", MAX_WINDOW, 0);
  const vocabulary = readVocabulary(metadata);
  const ends = vocabulary === undefined ? [] : endTokens(vocabulary);
  return parseConfig({
    model_type: window ? "mistral" : "llama",
    sliding_window: window || null,
    vocab_size,
    hidden_size,
    intermediate_size: keys.count("feed_forward_length", MAX_SIZE),
    num_hidden_layers: keys.count("block_count", MAX_LAYERS),
    num_attention_heads: heads,
    num_key_value_heads: keys.optional("attention.head_count_kv", heads) ?? heads,
    head_dim: headDim,
    max_position_embeddings: keys.count("context_length", MAX_CONTEXT),
    rms_norm_eps: keys.number("attention.layer_norm_rms_epsilon") ??
      metadata.fail(keys.key("attention.layer_norm_rms_epsilon"), "a number between 0 and 1"),
    rope_theta: theta,
    rope_scaling: namedScaling(keys) ?? divided,
    attention_bias: tensors.has("blk.0.attn_q.bias"),
    mlp_bias: tensors.has("blk.0.ffn_gate.bias"),
    tie_word_embeddings: !tensors.has(OUTPUT),
    bos_token_id: vocabulary?.ids.bos ?? null,
    eos_token_id: ends.length > 0 ? ends : null,
  }, path);
}
