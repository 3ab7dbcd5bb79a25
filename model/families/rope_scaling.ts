/**
 * What `config.json` says about RoPE. Releases 4 of `transformers` write `rope_theta` beside
 * `rope_scaling` (whose type is `type` or, since 4.43, `rope_type`), releases 5 `rope_parameters` with
 * both in one.
 *
 * @module
 */

import type { RopeScaling } from "../../kernels/ops/rope/frequencies.ts";
import { Fields } from "../files/json_fields.ts";
import { brief, isObject } from "../files/json_file.ts";
import { EARLIER_KINDS, positive, ROPE_KINDS } from "./rope_kinds.ts";

/** RoPE's base and scaling, as in `ModelConfig`. */
export interface RopeConfig {
  rope_theta: number;
  rope_scaling: RopeScaling | null;
}

/** What decides how a file's RoPE is read. */
export interface RopeReading {
  /** max_position_embeddings. */
  context: number;
  /** The base where the file has none. */
  theta: number;
  /**
   * original_max_position_embeddings where the file has it beside the scaling, whose own is not looked at; null where it is in
   * the scaling alone.
   */
  original: number | null;
  /** Whether the file may say that a part of each head is rotated. */
  partial: boolean;
}

const KIND_NAMES = Object.keys(ROPE_KINDS).map((name) => `"${name}"`);

/** The scaling that one field announces; null where it is the plain one. */
function parseScaling(fields: Fields, field: string, reading: RopeReading): RopeScaling | null {
  const value = fields.json[field], { context, original, partial } = reading;
  if (!isObject(value)) return fields.fail(field, "an object or null");
  const given = [value.rope_type, value.type].filter((name) => (name ?? null) !== null);
  const said = given[0] ?? "default";
  if (given.some((name) => name !== said)) fields.fail(field, "a type and a rope_type that agree");
  const type = typeof said === "string" ? EARLIER_KINDS[said] ?? said : said;
  if (typeof type !== "string" || !Object.hasOwn(ROPE_KINDS, type)) {
    const names = `${KIND_NAMES.slice(0, -1).join(", ")} or ${KIND_NAMES.at(-1)}`;
    return fields.fail(field, `type ${names}: ${brief(said)} is not supported`);
  }
  const { keys, scaling: scalingOf } = ROPE_KINDS[type];
  // Keys that leave this kind of scaling as it is.
  const inert: Record<string, unknown> = {
    rope_type: said,
    type: said,
    rope_theta: value.rope_theta,
    partial_rotary_factor: partial ? value.partial_rotary_factor : 1,
  };
  if (type === "dynamic") inert.original_max_position_embeddings = context;
  for (const key of Object.keys(value)) {
    if (Object.hasOwn(keys, key) || value[key] === null || inert[key] === value[key]) continue;
    fields.fail(field, `no ${brief(key)} of that value with type "${type}"`);
  }
  const values: Record<string, unknown> = {};
  for (const [key, { is, expected, may }] of Object.entries(keys)) {
    const value = (fields.json[field] as Record<string, unknown>)[key];
    if (value === undefined ? may === "be absent" : value === null && may !== undefined) continue;
    if (!is(value)) fields.fail(field, `${expected} as "${key}" with type "${type}"`);
    values[key] = value;
  }
  if (original !== null && Object.hasOwn(keys, "original_max_position_embeddings")) {
    values.original_max_position_embeddings = original;
  }
  const scaling = scalingOf(values, context);
  if (scaling?.type === "llama3" && !(scaling.low_freq_factor < scaling.high_freq_factor)) {
    fields.fail(field, "a low_freq_factor below high_freq_factor");
  }
  return scaling;
}

/**
 * Reads base and scaling of RoPE.
 *
 * @throws UserError that names the field: mrope and other kinds, missing or wrong factors, two fields that disagree.
 */
export function readRope(fields: Fields, reading: RopeReading): RopeConfig {
  let theta = fields.has("rope_theta")
    ? fields.number("rope_theta", positive, "a positive number")
    : undefined;
  let scaling: RopeScaling | null | undefined;
  for (const field of ["rope_scaling", "rope_parameters"]) {
    if (!fields.has(field)) continue;
    const parsed = parseScaling(fields, field, reading);
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
  return { rope_theta: theta ?? reading.theta, rope_scaling: scaling ?? null };
}

/** Which layers attend to everything, and which to a window: the names in `layer_types` and `rope_parameters`. */
export type LayerType = "full_attention" | "sliding_attention";

/**
 * What a file says about RoPE in the layers of a type: its entry of `rope_parameters`. Releases 4 write `rope_theta`
 * and `rope_scaling` for the layers without a window, and `rope_local_base_freq` for the others.
 *
 * @throws UserError where `rope_parameters` is not by type.
 */
export function ropeFieldsOf(fields: Fields, type: LayerType): Fields {
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

/** Releases that know the newer kinds call their type `rope_type`; `linear` and `dynamic` are older than that name. */
export function ropeScalingJson(scaling: RopeScaling | null): Record<string, unknown> | null {
  if (scaling === null || scaling.type === "linear" || scaling.type === "dynamic") return scaling;
  const { type: rope_type, ...rest } = scaling;
  return { ...rest, rope_type };
}

/** The same for classes of `transformers` that were written later: they know `rope_type` alone. */
export function ropeTypeJson(scaling: RopeScaling | null): Record<string, unknown> | null {
  if (scaling === null) return null;
  const { type: rope_type, ...rest } = scaling;
  return { ...rest, rope_type };
}
