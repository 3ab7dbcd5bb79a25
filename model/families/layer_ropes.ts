/**
 * RoPE by type of layer: `rope_parameters` of `config.json` with an entry for each type.
 *
 * @module
 */
import type { Fields } from "../files/json_fields.ts";
import type { LayeredConfig } from "./layer_types.ts";
import { readRope, type RopeConfig, ropeFieldsOf, ropeTypeJson } from "./rope_scaling.ts";
import type { ArchSpec } from "./spec.ts";

/** A configuration whose layers with a window are rotated in another way than `rope_theta` and `rope_scaling` say. */
export interface LayerRopes extends LayeredConfig {
  /** RoPE of the layers with a window. */
  local_rope: RopeConfig;
}

/**
 * Reads RoPE of the layers with a window.
 *
 * @param options As those of {@linkcode readRope}.
 */
export function readLocalRope(
  fields: Fields,
  options: { context: number; theta: number },
): RopeConfig {
  if (fields.has("rope_local_base_freq")) {
    fields.number("rope_local_base_freq", (v) => v > 0, "a positive number");
  }
  const reading = { ...options, original: null, partial: false };
  return readRope(ropeFieldsOf(fields, "sliding_attention"), reading);
}

/** The specification with each layer's own RoPE. */
export function withLayerRopes(spec: ArchSpec, { local_rope }: LayerRopes): ArchSpec {
  const { rope_theta: theta, rope_scaling: scaling } = local_rope;
  return {
    ...spec,
    layers: spec.layers.map((layer) =>
      layer.window === null || layer.rope === null
        ? layer
        : { ...layer, rope: { ...layer.rope, theta, scaling } }
    ),
  };
}

/**
 * RoPE by type of layer: `rope_parameters` for releases from 5 on, and for those before what they can say, which is no
 * scaling of the layers with a window.
 */
export function ropesJson(config: LayerRopes): Record<string, unknown> {
  const entry = ({ rope_theta, rope_scaling }: RopeConfig) => ({
    rope_type: "default",
    ...ropeTypeJson(rope_scaling),
    rope_theta,
  });
  return {
    rope_parameters: { full_attention: entry(config), sliding_attention: entry(config.local_rope) },
    rope_scaling: ropeTypeJson(config.rope_scaling),
  };
}
