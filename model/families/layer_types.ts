/**
 * Windows by layer: `layer_types` of `config.json`, and the keys by which older releases say the same.
 *
 * @module
 */
import type { Fields } from "../files/json_fields.ts";
import { brief } from "../files/json_file.ts";
import { type BaseConfig, MOST_WINDOW } from "./base_config.ts";
import { llamaSpec } from "./llama_spec.ts";
import type { LayerType } from "./rope_scaling.ts";
import type { ArchSpec } from "./spec.ts";

/** The configuration of a family whose layers attend to everything or to a window. */
export interface LayeredConfig extends BaseConfig {
  /** As many as layers. */
  layer_types: LayerType[];
}

const isLayerType = (value: unknown): value is LayerType =>
  value === "full_attention" || value === "sliding_attention";

/**
 * That `layer_types` says the same of every layer as the window does.
 *
 * @throws UserError that names the field.
 */
export function checkLayerTypes(fields: Fields, window: number | null): void {
  if (!fields.has("layer_types")) return;
  const types = fields.json.layer_types;
  const expected = window === null ? "full_attention" : "sliding_attention";
  if (!Array.isArray(types) || types.some((type) => type !== expected)) {
    fields.fail("layer_types", `"${expected}" in every layer`);
  }
}

/** `sliding_window`; null where the file says null. @throws UserError that names the field. */
export function readWindow(fields: Fields, absent: number | null): number | null {
  if (fields.json.sliding_window === undefined) return absent;
  return fields.has("sliding_window") ? fields.count("sliding_window", MOST_WINDOW) : null;
}

/** A window by layer, and what the layers are where `config.json` doesn't say it. */
export interface WindowRule {
  /** Keys that a query attends to in a layer that has the window; null where none can have it. */
  window: number | null;
  /** False where `use_sliding_window` is what forbids it. */
  isUsed?: boolean;
  /** Whether a layer has it where the file has no `layer_types`. */
  absent: (layer: number) => boolean;
}

/**
 * Which layers have the window.
 *
 * @param layers How many there are.
 * @throws UserError that names the field: other types of layers, not as many as layers, a window without its width.
 */
export function readLayerTypes(
  fields: Fields,
  layers: number,
  { window, isUsed = true, absent }: WindowRule,
): LayerType[] {
  const said = fields.has("layer_types") ? fields.json.layer_types : undefined;
  const types: unknown[] = Array.isArray(said)
    ? said
    : Array.from({ length: layers }, (_, i) => absent(i) ? "sliding_attention" : "full_attention");
  const isList = said === undefined || Array.isArray(said);
  if (!isList || types.length !== layers) {
    fields.fail("layer_types", `a list of ${layers}, one for each of num_hidden_layers`);
  }
  const known = types.filter(isLayerType);
  if (known.length !== layers) {
    const other = brief(types.find((type) => !isLayerType(type)));
    fields.fail(
      "layer_types",
      `"full_attention" or "sliding_attention" for each layer: ${other} is not supported`,
    );
  }
  if (window === null && known.includes("sliding_attention")) {
    if (!isUsed) fields.fail("use_sliding_window", "true where layer_types has sliding_attention");
    fields.fail("sliding_window", "the number of keys that layers of sliding_attention attend to");
  }
  return known;
}

/** Every how many layers one attends to everything, the others to a window; null where they don't repeat so. */
export function patternOf(types: readonly LayerType[]): number | null {
  const first = types.indexOf("full_attention");
  if (first < 0) return null;
  const period = first + 1;
  const repeats = types.every((type, i) =>
    (type === "full_attention") === ((i + 1) % period === 0)
  );
  return repeats ? period : null;
}

/** A Llama's specification with the window in these layers only. */
export function layeredSpec(config: LayeredConfig): ArchSpec {
  const spec = llamaSpec(config);
  return {
    ...spec,
    layers: spec.layers.map((layer, i) => ({
      ...layer,
      window: config.layer_types[i] === "sliding_attention" ? config.sliding_window : null,
    })),
  };
}
