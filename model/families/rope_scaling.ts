/**
 * What `config.json` says about RoPE. Releases 4 of `transformers` write `rope_theta` beside
 * `rope_scaling` (whose type is `type` or, since 4.43, `rope_type`), releases 5 `rope_parameters` with
 * both in one.
 *
 * @module
 */

import type { RopeScaling } from "../../kernels/ops/rope/rope.ts";
import { Fields } from "../files/json_fields.ts";
import { brief, isObject } from "../files/json_file.ts";

/** RoPE's base and scaling, as in `ModelConfig`. */
export interface RopeConfig {
  rope_theta: number;
  rope_scaling: RopeScaling | null;
}

const positive = (value: unknown): value is number =>
  typeof value === "number" && value > 0 && Number.isFinite(value);

const atLeastOne = (value: unknown): value is number => positive(value) && value >= 1;

/** What each kind of scaling must say besides its type. */
const SCALING_FIELDS: Record<string, Record<string, (value: unknown) => boolean>> = {
  default: {},
  linear: { factor: atLeastOne },
  dynamic: { factor: atLeastOne },
  llama3: {
    factor: atLeastOne,
    low_freq_factor: positive,
    high_freq_factor: positive,
    original_max_position_embeddings: (value) => positive(value) && Number.isSafeInteger(value),
  },
};

/** The scaling that one field announces; null where it is the plain one. */
function parseScaling(fields: Fields, field: string, context: number): RopeScaling | null {
  const value = fields.json[field];
  if (!isObject(value)) return fields.fail(field, "an object or null");
  const given = [value.rope_type, value.type].filter((name) => (name ?? null) !== null);
  const type = given[0] ?? "default";
  if (given.some((name) => name !== type)) fields.fail(field, "a type and a rope_type that agree");
  if (typeof type !== "string" || !Object.hasOwn(SCALING_FIELDS, type)) {
    return fields.fail(
      field,
      `type "default", "linear", "dynamic" or "llama3": ${brief(type)} is not supported`,
    );
  }
  // Keys that leave this kind of scaling as it is.
  const inert: Record<string, unknown> = { rope_type: type, type, rope_theta: value.rope_theta };
  inert.partial_rotary_factor = 1;
  if (type === "dynamic") inert.original_max_position_embeddings = context;
  const validators = SCALING_FIELDS[type];
  for (const key of Object.keys(value)) {
    if (Object.hasOwn(validators, key) || value[key] === null || inert[key] === value[key]) {
      continue;
    }
    fields.fail(field, `no ${brief(key)} of that value with type "${type}"`);
  }
  for (const [key, ok] of Object.entries(validators)) {
    if (!ok(value[key])) {
      const least = key === "factor" ? "of at least 1" : "above 0";
      fields.fail(field, `a number "${key}" ${least} with type "${type}"`);
    }
  }
  if (type === "default") return null;
  const scaling = Object.fromEntries(Object.keys(validators).map((key) => [key, value[key]]));
  if (
    type === "llama3" && !(scaling.low_freq_factor as number < (scaling.high_freq_factor as number))
  ) {
    fields.fail(field, "a low_freq_factor below high_freq_factor");
  }
  return { type, ...scaling } as RopeScaling;
}

/**
 * Reads base and scaling of RoPE.
 *
 * @param options `context`: max_position_embeddings; `theta`: the base where the file has none.
 * @throws UserError that names the field: yarn, longrope, mrope and other kinds, missing or wrong
 *   factors, two fields that disagree.
 */
export function readRope(
  fields: Fields,
  { context, theta: absent }: { context: number; theta: number },
): RopeConfig {
  let theta = fields.has("rope_theta")
    ? fields.number("rope_theta", positive, "a positive number")
    : undefined;
  let scaling: RopeScaling | null | undefined;
  for (const field of ["rope_scaling", "rope_parameters"]) {
    if (!fields.has(field)) continue;
    const parsed = parseScaling(fields, field, context);
    if (scaling !== undefined && JSON.stringify(scaling) !== JSON.stringify(parsed)) {
      fields.fail(field, "the same scaling as in rope_scaling");
    }
    scaling = parsed;
    const { rope_theta: inner } = fields.json[field] as Record<string, unknown>;
    if ((inner ?? null) === null) continue;
    if (!positive(inner) || (theta !== undefined && theta !== inner)) {
      fields.fail(field, "a positive rope_theta, the same wherever the file gives it");
    }
    theta = inner as number;
  }
  return { rope_theta: theta ?? absent, rope_scaling: scaling ?? null };
}

/** Which layers attend to everything, and which to a window: the names in `layer_types` and `rope_parameters`. */
export type LayerType = "full_attention" | "sliding_attention";

/**
 * What a file says about RoPE in the layers of a type: its entry of `rope_parameters`. Releases 4 write `rope_theta`
 * and `rope_scaling` for the layers without a window, and `rope_local_base_freq` for the others.
 *
 * @throws UserError where `rope_parameters` is not by type.
 */
export function ropeFields(fields: Fields, type: LayerType): Fields {
  const { json, file } = fields, byType = json.rope_parameters ?? {};
  const isNamed = (name: string) => name === "full_attention" || name === "sliding_attention";
  if (!isObject(byType) || !Object.keys(byType).every(isNamed)) {
    return fields.fail(
      "rope_parameters",
      '"full_attention" and "sliding_attention", each with its own',
    );
  }
  const { rope_theta, rope_scaling, rope_local_base_freq } = json;
  const older = type === "full_attention"
    ? { rope_theta, rope_scaling }
    : { rope_theta: rope_local_base_freq };
  return new Fields({ ...older, rope_parameters: byType[type] }, file);
}

/** Releases that know `llama3` call its type `rope_type`; the others are older than that name. */
export function ropeScalingJson(scaling: RopeScaling | null): Record<string, unknown> | null {
  if (scaling?.type !== "llama3") return scaling;
  const { type: rope_type, ...rest } = scaling;
  return { ...rest, rope_type };
}

/** The same for classes of `transformers` that were written later: they know `rope_type` alone. */
export function ropeTypeJson(scaling: RopeScaling | null): Record<string, unknown> | null {
  if (scaling === null) return null;
  const { type: rope_type, ...rest } = scaling;
  return { ...rest, rope_type };
}
