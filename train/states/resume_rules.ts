/**
 * What must stay as it was for a resumed run to be the run that it goes on with: keys of the configuration, and the
 * contents of the files that they name.
 *
 * @module
 */
import { UsageError } from "../../kernels/errors.ts";
import { brief, isObject } from "../../model/files/json_file.ts";
import type { SamplesFingerprint } from "../../model/text/data/sample_list.ts";
import type { Fingerprints, WeightFile, WeightsFingerprint } from "./fingerprints.ts";
import { mayBeAllowed, resumeRule } from "../config/resume_keys.ts";
import { KEYS, type TrainConfig } from "../config/schema.ts";

/** Something that is not as it was. */
export interface Difference {
  /** The key of the configuration that it belongs to, which `allow_change` may name. */
  key: string;
  /** What it was and is, in words that follow "with" and "not". */
  was: string;
  is: string;
}

/** What decides a run: its configuration, the steps that it plans, and what it is made from. */
export interface RunIdentity {
  config: TrainConfig;
  /** Steps of the whole run, which a schedule depends on. */
  total: number;
  fingerprints: Fingerprints;
}

/** The same as a state says it: its configuration may be one of an older version. */
export type StoredIdentity = Omit<RunIdentity, "config"> & { config: Record<string, unknown> };

/** The keys of a configuration with their values; those of groups one by one. */
function settings(config: Record<string, unknown>): Map<string, unknown> {
  const all = new Map<string, unknown>();
  for (const [key, value] of Object.entries(config)) {
    all.set(key, isObject(value) ? "on" : value === false && key === "lora" ? "off" : value);
    if (!isObject(value)) continue;
    for (const [inner, setting] of Object.entries(value)) all.set(`${key}.${inner}`, setting);
  }
  return all;
}

/** What keys are that a state doesn't name: it is older than they are, and their defaults are what was done before. */
const defaults = (): Map<string, unknown> =>
  new Map(KEYS.map(({ name, default: value }) => [name, value]));

/** The keys of two configurations that differ and should not. */
function changedKeys(was: StoredIdentity, is: RunIdentity): Difference[] {
  const [before, now] = [settings(was.config), settings({ ...is.config })], unnamed = defaults();
  const changes: Difference[] = [];
  const constant = [before, now].every((keys) => keys.get("schedule") === "constant");
  for (const key of new Set([...now.keys(), ...before.keys()])) {
    const rule = resumeRule(key);
    // A run gets longer as it pleases, where its learning rate doesn't depend on its length.
    const free = rule === "free" || rule === "contents" ||
      (rule === "length" && (constant || was.total === is.total));
    // Where adapters are on in one alone, their keys say nothing more.
    if (free || (key.startsWith("lora.") && before.get("lora") !== now.get("lora"))) continue;
    const values = [before, now].map((keys) =>
      JSON.stringify(keys.get(key) ?? unnamed.get(key)) ?? "unset"
    );
    if (values[0] === values[1]) continue;
    changes.push({ key, was: `${key} ${values[0]}`, is: values[1] });
  }
  return changes;
}

/** A checksum as messages show it. */
const short = (sha256: string) => `…${sha256.slice(-12)}`;

/** The first weight that is another, where there is one. */
function changedWeights(
  was: WeightsFingerprint | null,
  is: WeightsFingerprint | null,
): Difference | undefined {
  const kind = (weights: WeightsFingerprint | null) => weights === null ? "random" : "files";
  if (was === null || is === null) {
    if (was === is) return undefined;
    return { key: "model", was: `model weights from ${kind(was)}`, is: `from ${kind(is)}` };
  }
  const names = new Set([...Object.keys(was.tensors), ...Object.keys(is.tensors)]);
  const changed = [...names].filter((name) => was.tensors[name] !== is.tensors[name]);
  const [name] = changed;
  if (name === undefined) {
    const [before, now] = [was.whole, is.whole];
    if (before === undefined || now === undefined || before === now) return undefined;
    return { key: "model", was: `model weights ${short(before)}`, is: short(now) };
  }
  const others = changed.length === 1 ? "" : ` (and ${changed.length - 1} others)`;
  const words = (value = "missing") => value.replace(/[0-9a-f]{64}$/, short);
  return {
    key: "model",
    was: `model weights ${brief(name)}${others} ${words(was.tensors[name])}`,
    is: words(is.tensors[name]),
  };
}

/** The contents that differ. */
function changedContents(was: Fingerprints, is: Fingerprints): Difference[] {
  const changes: Difference[] = [];
  const [before, now] = [was, is].map(({ model }) => settings({ ...model.config }));
  for (const key of new Set([...before.keys(), ...now.keys()])) {
    const [a, b] = [before, now].map((keys) => JSON.stringify(keys.get(key)) ?? "unset");
    if (a !== b) changes.push({ key: "model", was: `the model's ${key} ${a}`, is: b });
  }
  const weights = changes.length > 0
    ? undefined
    : changedWeights(was.model.weights, is.model.weights);
  if (weights !== undefined) changes.push(weights);
  if (was.tokenizer !== is.tokenizer) {
    const [a, b] = [was, is].map(({ tokenizer }) => short(tokenizer));
    changes.push({ key: "tokenizer", was: `tokenizer vocabulary ${a}`, is: b });
  }
  // A run that goes on needs its adapter no more: none is as good as the same.
  if (is.adapter !== null && is.adapter !== was.adapter) {
    const a = was.adapter === null ? "none" : short(was.adapter);
    changes.push({ key: "adapter", was: `adapter contents ${a}`, is: short(is.adapter) });
  }
  const changedSamples = (key: string, was: SamplesFingerprint, is: SamplesFingerprint) => {
    if (was.sha256 === is.sha256) return;
    const [a, b] = [was, is].map(({ samples, tokens, bytes, sha256 }) => {
      const size = bytes ? `${bytes} bytes` : `${tokens} tokens`;
      return `${samples} samples, ${size}, ${short(sha256)}`;
    });
    changes.push({ key, was: `${key} of ${a}`, is: `of ${b}` });
  };
  changedSamples("data", was.data, is.data);
  // Losses on other samples are not to be compared; a run may begin to be evaluated, or no longer be.
  if (was.evalData && is.evalData) changedSamples("eval_data", was.evalData, is.evalData);
  return changes;
}

/**
 * Refuses to go on with a run that is not the one that a state was made in.
 *
 * @param path The state's file, for the message.
 * @throws {UsageError} that names what differs and is not allowed to, with both values.
 */
export function checkIdentity(was: StoredIdentity, is: RunIdentity, path: string): void {
  const allowed = new Set(is.config.allow_change);
  const changes = [...changedKeys(was, is), ...changedContents(was.fingerprints, is.fingerprints)]
    .filter(({ key }) => !allowed.has(key));
  if (changes.length === 0) return;
  const MOST = 5;
  const parts = changes.slice(0, MOST).map(({ was, is }) => `with ${was}, not ${is}`);
  if (changes.length > MOST) parts.push(`and ${changes.length - MOST} more differ`);
  const keys = new Set(changes.map(({ key }) => key)), able = [...keys].filter(mayBeAllowed);
  const fixed = [...keys].filter((key) => !able.includes(key));
  const but = fixed.length === 0 ? "" : ` with ${fixed.join(", ")} as it was`;
  const or = able.length === 0 ? "" : `, or --allow-change ${able.join(",")}${but}`;
  throw new UsageError(
    `${path}: the run was made ${parts.join("; ")}; expected what it began with${or}`,
  );
}

/**
 * What is to be told of a model's weights: that all bytes can't be compared though somebody asked for it, or that its files
 * are not those that a run began with, though their sampled bytes are the same (a copied folder, or one in which a few bytes
 * have changed).
 */
export function weightsNote(was: Fingerprints, is: Fingerprints): string | undefined {
  const [before, now] = [was, is].map(({ model }) => model.weights);
  if (!before || !now) return;
  if (now.whole !== undefined) {
    return before.whole === undefined
      ? "The run began without --verify-weights: all bytes of the model's files are compared from now on."
      : undefined;
  }
  const key = ({ name, bytes, modified }: WeightFile) => `${name}, ${bytes} bytes, of ${modified}`;
  const known = new Set(before.files.map(key));
  const other = now.files.find((file) => !known.has(key(file)));
  if (other === undefined) return;
  const how = before.whole === undefined ? " from the start of a run" : "";
  return `The model's files are not those that the run began with (${
    key(other)
  }); the bytes that were looked ` +
    `at are the same. --verify-weights${how} compares all of them.`;
}
