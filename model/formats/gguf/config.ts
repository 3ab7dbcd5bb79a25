/**
 * From a GGUF file's metadata to a model's configuration.
 *
 * @module
 */

import { UserError } from "../../../kernels/errors.ts";
import { ggufFamilies, type ModelConfig, parseConfig } from "../../families/config.ts";
import type { GgufFamily } from "../../families/gguf.ts";
import { brief } from "../../files/json_file.ts";
import { ArchitectureKeys } from "./architecture_keys.ts";
import type { Metadata } from "./metadata.ts";
import { EMBEDDING, OUTPUT } from "./names.ts";
import { readScaling } from "./rope_keys.ts";
import type { GgufModel } from "./split.ts";
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

/** The family of a file's architecture. */
function familyOf(metadata: Metadata): { model_type: string; gguf: GgufFamily } {
  const architecture = metadata.text("general.architecture"), families = ggufFamilies();
  const found = families.find(([, gguf]) => gguf.architecture === architecture);
  if (found === undefined) {
    const names = new Set(families.map(([, gguf]) => `"${gguf.architecture}"`));
    return metadata.fail("general.architecture", `one of ${[...names].join(", ")}`);
  }
  const [model_type, gguf] = found;
  return { model_type, gguf };
}

/** How many elements of a head are rotated. */
function rotatedElements(keys: ArchitectureKeys, headDim: number, partial: boolean): number {
  if (!partial) keys.expect("rope.dimension_count", [headDim]);
  return keys.optional("rope.dimension_count", headDim) ?? headDim;
}

/** What `layer_types` calls a layer. */
const layerType = (hasWindow: boolean) => hasWindow ? "sliding_attention" : "full_attention";

/**
 * The fields of config.json that a family's own keys hold. A window of no keys is none.
 *
 * @throws UserError that names the key.
 */
function ownFields(
  keys: ArchitectureKeys,
  { fields }: GgufFamily,
  layers: number,
): Record<string, unknown> {
  return Object.fromEntries(fields.map(({ key, field, type }): [string, unknown] => {
    if (type === "f32") return [field, keys.number(key)];
    if (type === "windows") return [field, keys.windows(key, layers)?.map(layerType)];
    return [field, keys.optional(key, MAX_WINDOW, 0) || null];
  }));
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
  const { model_type, gguf } = familyOf(metadata);
  const keys = new ArchitectureKeys(metadata, gguf.architecture);
  for (const [name, values] of Object.entries(PLAIN)) {
    if (!gguf.fields.some(({ key }) => key === name)) keys.expect(name, values);
  }
  const layers = keys.count("block_count", MAX_LAYERS);
  const hidden_size = keys.count("embedding_length", MAX_SIZE);
  const heads = keys.count("attention.head_count", MAX_SIZE);
  const headDim = keys.optional("attention.key_length", MAX_HEAD) ?? hidden_size / heads;
  if (!Number.isInteger(headDim)) {
    metadata.fail(keys.key("attention.head_count"), `a divisor of embedding_length ${hidden_size}`);
  }
  keys.expect("attention.value_length", [headDim]);
  const rotated = rotatedElements(keys, headDim, gguf.rotatesParts);
  const theta = keys.number("rope.freq_base") ?? 10000;
  const context = keys.count("context_length", MAX_CONTEXT);
  const scaling = readScaling(model, keys, { headDim, theta, pairs: rotated / 2, context });
  const vocabulary = readVocabulary(metadata);
  const ends = vocabulary === undefined ? [] : endTokens(vocabulary);
  const said = {
    model_type,
    vocab_size: vocabularySize(model, hidden_size),
    hidden_size,
    intermediate_size: keys.count("feed_forward_length", MAX_SIZE),
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: keys.optional("attention.head_count_kv", heads) ?? heads,
    head_dim: headDim,
    max_position_embeddings: context,
    rms_norm_eps: keys.number("attention.layer_norm_rms_epsilon") ??
      metadata.fail(keys.key("attention.layer_norm_rms_epsilon"), "a number between 0 and 1"),
    rope_theta: theta,
    rope_scaling: scaling,
    original_max_position_embeddings: scaling?.original_max_position_embeddings,
    partial_rotary_factor: rotated / headDim,
    attention_bias: tensors.has("blk.0.attn_q.bias"),
    mlp_bias: tensors.has("blk.0.ffn_gate.bias"),
    tie_word_embeddings: !tensors.has(OUTPUT),
    bos_token_id: vocabulary?.ids.bos ?? null,
    eos_token_id: ends.length > 0 ? ends : null,
    ...ownFields(keys, gguf, layers),
  };
  return parseConfig({ ...said, ...gguf.implied(said) }, path);
}
