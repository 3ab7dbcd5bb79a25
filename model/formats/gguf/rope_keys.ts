/**
 * RoPE's scaling in GGUF: keys of the metadata, and tensors of what the frequencies are divided by.
 *
 * @module
 */

import { UserError } from "../../../kernels/errors.ts";
import type { ModelConfig } from "../../families/config.ts";
import type { GgufFamily } from "../../families/gguf.ts";
import { type ArchitectureKeys, shortest } from "./architecture_keys.ts";
import { LONG_FACTORS, ROPE_FACTORS, SHORT_FACTORS } from "./names.ts";
import { ropeFactors, ropeScaling } from "./rope_factors.ts";
import type { GgufModel } from "./split.ts";
import { f32, type GgufValue, text, u32 } from "./values.ts";
import type { GgufTensor } from "./write_gguf.ts";

/** What llama.cpp takes of YaRN where a file doesn't say it. */
const BETA_FAST = 32, BETA_SLOW = 1;

/** What YaRN multiplies rotated queries and keys by as a rule, which llama.cpp does whatever a file says. */
const yarnFactor = (factor: number, weight = 1) =>
  factor <= 1 ? 1 : 0.1 * weight * Math.log(factor) + 1;

/** `linear, yarn or longrope`. */
const listed = (names: readonly string[]) =>
  [names.slice(0, -1).join(", "), names.at(-1)].filter(Boolean).join(" or ");

/**
 * The keys of a model's scaling; Llama 3.1's is a tensor.
 *
 * @throws UserError for a kind that llama.cpp doesn't have in the family.
 */
export function scalingKeys(
  { rope_scaling: scaling }: ModelConfig,
  { architecture, scalings }: GgufFamily,
): [string, GgufValue][] {
  if (scaling === null) return [];
  if (!scalings.includes(scaling.type)) {
    throw new UserError(
      `rope_scaling is "${scaling.type}", which GGUF has no key for with architecture "${architecture}"; expected a ` +
        `model with ${listed(scalings)} scaling, or none`,
    );
  }
  switch (scaling.type) {
    case "linear":
      return [["rope.scaling.type", text("linear")], ["rope.scaling.factor", f32(scaling.factor)]];
    case "yarn": {
      const { factor, beta_fast, beta_slow, attention_factor } = scaling;
      if (!scaling.truncate) {
        throw new UserError(
          "rope_scaling has truncate false, which GGUF has no key for; expected true",
        );
      }
      const rest = attention_factor / yarnFactor(factor);
      const keys: [string, GgufValue][] = [
        ["rope.scaling.type", text("yarn")],
        ["rope.scaling.factor", f32(factor)],
        ["rope.scaling.original_context_length", u32(scaling.original_max_position_embeddings)],
      ];
      if (Math.abs(rest - 1) > 1e-6) keys.push(["rope.scaling.attn_factor", f32(rest)]);
      if (beta_fast !== BETA_FAST) keys.push(["rope.scaling.yarn_beta_fast", f32(beta_fast)]);
      if (beta_slow !== BETA_SLOW) keys.push(["rope.scaling.yarn_beta_slow", f32(beta_slow)]);
      return keys;
    }
    case "longrope":
      return [
        ["rope.scaling.type", text("longrope")],
        ["rope.scaling.attn_factor", f32(scaling.attention_factor)],
        ["rope.scaling.original_context_length", u32(scaling.original_max_position_embeddings)],
      ];
    default:
      return [];
  }
}

/** Tensors of what RoPE's frequencies are divided by; none where the keys say it all. */
export function scalingTensors(
  { rope_scaling: scaling, head_dim, rope_theta }: ModelConfig,
): GgufTensor[] {
  const tensor = (name: string, factors: readonly number[]): GgufTensor => {
    const data = [new Uint8Array(Float32Array.from(factors).buffer)];
    return { name, type: "F32", shape: [factors.length], data };
  };
  switch (scaling?.type) {
    case "llama3":
      return [tensor(ROPE_FACTORS, ropeFactors(scaling, head_dim, rope_theta))];
    case "longrope":
      return [
        tensor(LONG_FACTORS, scaling.long_factor),
        tensor(SHORT_FACTORS, scaling.short_factor),
      ];
    default:
      return [];
  }
}

/** The factors that a file has under a name, one for each pair that is rotated. */
function storedFactors(
  { tensors, metadata: { path } }: GgufModel,
  name: string,
  pairs: number,
): Float32Array | undefined {
  const place = tensors.get(name);
  if (place === undefined) return undefined;
  if (place.type.name !== "F32" || place.bytes !== pairs * 4) {
    throw new UserError(
      `${path}: tensor "${name}" has ${place.bytes} bytes in ${place.type.name}, expected ${pairs} numbers in F32`,
    );
  }
  const bytes = new Uint8Array(place.bytes);
  place.file.readSync(place.position, bytes);
  return new Float32Array(bytes.buffer);
}

/** YaRN as the metadata have it. */
function yarn(keys: ArchitectureKeys, factor: number, context: number): Record<string, unknown> {
  keys.expect("rope.scaling.yarn_ext_factor", [1, -1]);
  // mscale_all_dim, with an mscale of 1; none where it is 0.
  const all = keys.number("rope.scaling.yarn_log_multiplier") ?? 0;
  const rest = (keys.number("rope.scaling.attn_factor") ?? 1) *
    (keys.number("rope.scaling.yarn_attn_factor") ?? 1);
  return {
    type: "yarn",
    factor,
    original_max_position_embeddings: keys.optional(
      "rope.scaling.original_context_length",
      Number.MAX_SAFE_INTEGER,
    ) ?? context,
    beta_fast: keys.number("rope.scaling.yarn_beta_fast") ?? BETA_FAST,
    beta_slow: keys.number("rope.scaling.yarn_beta_slow") ?? BETA_SLOW,
    attention_factor: rest * yarnFactor(factor) / (all === 0 ? 1 : yarnFactor(factor, all)),
  };
}

/** What a scaling is read for. */
interface ScaledModel {
  headDim: number;
  theta: number;
  /** Pairs of a head that are rotated. */
  pairs: number;
  /** The longest context. */
  context: number;
}

/**
 * The scaling of a file as `rope_scaling` of config.json; null where there is none.
 *
 * @throws UserError that names the key or the tensor.
 */
export function readScaling(
  model: GgufModel,
  keys: ArchitectureKeys,
  { headDim, theta, pairs, context }: ScaledModel,
): Record<string, unknown> | null {
  const { metadata } = model,
    factor = keys.number("rope.scaling.factor") ?? keys.number("rope.scale_linear");
  const type = metadata.text(keys.key("rope.scaling.type")) ??
    (factor === undefined ? "none" : "linear");
  const [long, short] = [LONG_FACTORS, SHORT_FACTORS].map((name) =>
    storedFactors(model, name, pairs)
  );
  if (long !== undefined && short !== undefined) {
    return {
      type: "longrope",
      long_factor: Array.from(long, shortest),
      short_factor: Array.from(short, shortest),
      original_max_position_embeddings: keys.optional(
        "rope.scaling.original_context_length",
        Number.MAX_SAFE_INTEGER,
      ) ?? context,
      attention_factor: keys.number("rope.scaling.attn_factor") ?? 1,
    };
  }
  if (type === "yarn" && factor !== undefined) return yarn(keys, factor, context);
  if (type === "linear" && factor !== undefined && factor !== 0) return { type, factor };
  if (type !== "none" && type !== "linear") {
    metadata.fail(
      keys.key("rope.scaling.type"),
      `"none", "linear", "yarn" with its factor, or "longrope" with its tensors: another scaling is not supported`,
    );
  }
  const factors = storedFactors(model, ROPE_FACTORS, headDim / 2);
  const scaling = factors && ropeScaling(factors, { headDim, theta, context });
  return scaling === undefined ? null : { ...scaling };
}
