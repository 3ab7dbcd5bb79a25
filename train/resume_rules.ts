/**
 * What of a configuration must stay as it was for a resumed run to be the run it goes on with.
 *
 * @module
 */
import { UsageError } from "../kernels/errors.ts";
import { isObject } from "../model/formats/json_file.ts";
import type { TrainConfig } from "./schema.ts";

/**
 * Whether a resumed run must have a key as the run it goes on with, or is free to differ: `same` is what decides
 * the steps or what they work on, as far as the state itself does not hold it. `lora` speaks for all of its keys.
 */
const RESUME_RULES: Readonly<Record<keyof TrainConfig, "same" | "free">> = {
  model: "same",
  tokenizer: "free", // the ids that it gives must be the same, wherever it is
  add_bos: "free", // as the tokenizer
  adapter: "free", // the state holds it
  layers: "same",
  data: "free", // as the tokenizer
  samples: "same",
  eval_fraction: "same",
  max_length: "same",
  output: "free",
  epochs: "free",
  max_steps: "free",
  batch_size: "same",
  gradient_accumulation_steps: "same",
  packing: "same",
  share_prefixes: "same",
  loss_normalization: "same",
  learning_rate: "free",
  schedule: "free",
  warmup_steps: "free",
  optimizer: "same",
  betas: "same",
  eps: "same",
  weight_decay: "same",
  max_grad_norm: "same",
  precision: "same",
  exact_products: "same",
  initial_loss_scale: "same",
  lora: "same",
  checkpointing: "free",
  seed: "same",
  shuffle: "same",
  save_every: "free",
  resume: "free",
  profile: "free",
  print_wgsl: "free",
  gpu: "free",
};

/**
 * The configuration's keys that must be the same for a resumed run to be the run it goes on with, with their
 * values; those of groups one by one.
 */
function fixedSettings(config: Record<string, unknown>): Map<string, unknown> {
  const settings = new Map<string, unknown>();
  for (const [key, rule] of Object.entries(RESUME_RULES)) {
    const value = config[key];
    if (rule === "free") continue;
    settings.set(key, isObject(value) ? "on" : value === false && key === "lora" ? "off" : value);
    if (!isObject(value)) continue;
    for (const [inner, setting] of Object.entries(value)) settings.set(`${key}.${inner}`, setting);
  }
  return settings;
}

/**
 * Refuses a configuration that is not the one that a state was made with.
 *
 * @param path The state's file, for the message.
 * @throws {UserError} with exit code 2, which names the key and both values.
 */
export function checkResumedConfig(
  stored: Record<string, unknown>,
  config: TrainConfig,
  path: string,
): void {
  const [was, is] = [fixedSettings(stored), fixedSettings({ ...config })];
  for (const key of new Set([...is.keys(), ...was.keys()])) {
    const [before, now] = [was.get(key), is.get(key)].map((value) => JSON.stringify(value));
    if (before === now) continue;
    throw new UsageError(
      `${path}: the run was made with ${key} ${before ?? "unset"}, not ${now ?? "unset"}; ` +
        "expected the configuration it began with",
    );
  }
}
