/**
 * What GGUF files say of a family in another way than config.json does, as llama.cpp has it.
 *
 * @module
 */
import type { RopeScaling } from "../../kernels/ops/rope/frequencies.ts";
import type { LinearModule } from "./linear_modules.ts";
import type { NormPlace } from "./spec.ts";

/** A key of the metadata that holds a field of config.json. */
export interface GgufField {
  /** Without the architecture's name before it. */
  readonly key: string;
  readonly field: string;
  /** `windows`: whether each layer has a window; where a file doesn't say, the family's layers are what they are by default. */
  readonly type: "u32" | "f32" | "windows";
}

/** How llama.cpp has a family. */
export interface GgufFamily {
  /** `general.architecture`. */
  readonly architecture: string;
  /** Whether features 2i and 2i + 1 of a head are rotated as a pair there, so that the rows of q and k are permuted. */
  readonly permutesHeads: boolean;
  /** Whether `rope.dimension_count` may be a part of a head. */
  readonly rotatesParts: boolean;
  /** Names of the norms in a block. */
  readonly norms: Readonly<Record<NormPlace, string>>;
  /** Linear layers that may have biases. */
  readonly biases: readonly LinearModule[];
  /** Kinds of RoPE scaling that are computed. */
  readonly scalings: readonly RopeScaling["type"][];
  /** Keys besides those of every family. */
  readonly fields: readonly GgufField[];
  /** config.json with what the keys hold at its top, where the family has that within another field. */
  flat(json: Record<string, unknown>): Record<string, unknown>;
  /**
   * Fields of config.json that llama.cpp has no key for, as it takes them. A model that says otherwise is not written.
   *
   * @param said The fields that a file says.
   */
  implied(said: Readonly<Record<string, unknown>>): Record<string, unknown>;
}

/** `sliding_window` of config.json. */
export const WINDOW_FIELD: GgufField = {
  key: "attention.sliding_window",
  field: "sliding_window",
  type: "u32",
};

/** `layer_types` of config.json. */
export const LAYERS_FIELD: GgufField = {
  key: "attention.sliding_window_pattern",
  field: "layer_types",
  type: "windows",
};

/** Biases of q, k and v. */
export const QKV_BIASES: readonly LinearModule[] = ["q_proj", "k_proj", "v_proj"];

/** A model whose features i and i + half are rotated as a pair, without biases or keys of its own. */
export const PLAIN_GGUF: Omit<GgufFamily, "architecture"> = {
  permutesHeads: false,
  rotatesParts: false,
  norms: {
    preAttention: "attn_norm",
    postAttention: "post_attention_norm",
    preMlp: "ffn_norm",
    postMlp: "post_ffw_norm",
  },
  biases: [],
  scalings: ["linear", "yarn"],
  fields: [],
  flat: (json) => json,
  implied: () => ({}),
};

/** A model that llama.cpp has beside Llama. */
export const LLAMA_LIKE_GGUF: Omit<GgufFamily, "architecture"> = {
  ...PLAIN_GGUF,
  permutesHeads: true,
  biases: [...QKV_BIASES, "o_proj", "gate_proj", "up_proj", "down_proj"],
  scalings: ["linear", "llama3", "yarn", "longrope"],
};

/** Llama and Mistral, which its window tells apart. */
export const LLAMA_GGUF: GgufFamily = {
  ...LLAMA_LIKE_GGUF,
  architecture: "llama",
  fields: [WINDOW_FIELD],
  implied: ({ sliding_window: window }) => ({ model_type: window ? "mistral" : "llama" }),
};
