/**
 * What of a configuration must stay as it was for a resumed run to be the run it goes on with.
 *
 * @module
 */
import { UsageError } from "../kernels/errors.ts";
import { isObject } from "../model/files/json_file.ts";
import { KEYS, resumeRules, type TrainConfig } from "./schema.ts";

/**
 * The configuration's keys that must be the same for a resumed run to be the run it goes on with, with their
 * values; those of groups one by one.
 */
function fixedSettings(config: Record<string, unknown>): Map<string, unknown> {
  const settings = new Map<string, unknown>();
  for (const [key, rule] of resumeRules()) {
    const value = config[key];
    if (rule === "free") continue;
    settings.set(key, isObject(value) ? "on" : value === false && key === "lora" ? "off" : value);
    if (!isObject(value)) continue;
    for (const [inner, setting] of Object.entries(value)) settings.set(`${key}.${inner}`, setting);
  }
  return settings;
}

/** What keys are that a state doesn't name: it is older than they are, and their defaults are what was done before. */
function defaults(): Map<string, unknown> {
  return new Map(KEYS.map(({ name, default: value }) => [name, value]));
}

/**
 * Refuses a configuration that is not the one that a state was made with.
 *
 * @param path The state's file, for the message.
 * @throws {UsageError} that names the key and both values.
 */
export function checkResumedConfig(
  stored: Record<string, unknown>,
  config: TrainConfig,
  path: string,
): void {
  const [was, is] = [fixedSettings(stored), fixedSettings({ ...config })], unnamed = defaults();
  for (const key of new Set([...is.keys(), ...was.keys()])) {
    const values = [was.get(key) ?? unnamed.get(key), is.get(key)];
    const [before, now] = values.map((value) => JSON.stringify(value));
    if (before === now) continue;
    throw new UsageError(
      `${path}: the run was made with ${key} ${before ?? "unset"}, not ${now ?? "unset"}; ` +
        "expected the configuration it began with",
    );
  }
}
