/**
 * What an adapter's file says of the weights that the adapter was trained beside, where these were quantised: an adapter
 * makes up for what quantisation changed, so whoever merges it into other weights should know.
 *
 * It is said in the metadata of the safetensors file, which go where the tensors go and which PEFT doesn't look at. (A
 * key of its own in adapter_config.json would make older releases of PEFT refuse the adapter.)
 *
 * @module
 */
import { QUANTIZATIONS, type QuantizationSettings } from "./quantization.ts";

/** How the weights of a base model were held in training. */
export interface BaseQuantization extends QuantizationSettings {
  /** The types in which the model's own files had them, where `quantization` is `none`. */
  stored: readonly string[];
}

/** The keys in the file's metadata. */
const KEYS = {
  quantization: "base_quantization",
  double: "base_double_quantization",
  skip: "base_quantization_skip",
  stored: "base_stored_in",
} as const;

const SEPARATOR = ", ";

/** What is written into the metadata; nothing where the weights were not quantised. */
export function baseMetadata(
  { quantization, double_quantization, quantization_skip: skip, stored }: BaseQuantization,
): Record<string, string> {
  if (quantization === "none") {
    return stored.length === 0 ? {} : { [KEYS.stored]: stored.join(SEPARATOR) };
  }
  return {
    [KEYS.quantization]: quantization,
    ...quantization === "nf4" ? { [KEYS.double]: String(double_quantization) } : {},
    ...skip.length > 0 ? { [KEYS.skip]: skip.join(SEPARATOR) } : {},
  };
}

/** What the metadata say; undefined where they say nothing of it. */
export function baseQuantization(
  metadata: Readonly<Record<string, string>> = {},
): BaseQuantization | undefined {
  const list = (key: string) => metadata[key]?.split(SEPARATOR) ?? [];
  const said = metadata[KEYS.quantization], stored = list(KEYS.stored);
  const quantization = QUANTIZATIONS.find((name) => name === said) ?? "none";
  if (quantization === "none" && stored.length === 0) return undefined;
  return {
    quantization,
    double_quantization: metadata[KEYS.double] !== "false",
    quantization_skip: list(KEYS.skip),
    stored,
  };
}

/** In words: `nf4`, or the types of the files. */
export function describeBase({ quantization, stored }: BaseQuantization): string {
  return quantization === "none" ? stored.join(" and ") : quantization;
}
