/**
 * The configuration of a run that is gone on with: what is not given again is as the run has it.
 *
 * @module
 */
import type { Givens } from "../../cli/settings.ts";
import { isObject } from "../../model/files/json_file.ts";
import { KEYS } from "./schema.ts";

/** Keys that are of one part of a run, and have their defaults in the next: what it writes and what it is run on. */
const OF_A_PART: readonly string[] = [
  ...["output", "resume", "adapter", "allow_change", "verify_weights"],
  ...["profile", "print_wgsl", "gpu"],
];

/** Keys of `lora` that the adapter does not decide which a run began from. */
const BESIDE_ADAPTER: readonly string[] = ["lora.dropout", "lora.plus_ratio", "lora.init"];

/**
 * The keys of a run as if they had been given.
 *
 * @param config Its configuration, as a state has it.
 * @param path The state's file.
 */
export function storedGivens(config: Record<string, unknown>, path: string): Givens {
  const givens: Givens = new Map();
  const { lora } = config, hasAdapter = isObject(lora) && lora.adapter !== undefined;
  for (const { name } of KEYS) {
    if (OF_A_PART.includes(name)) continue;
    const [group, inner] = name.split(".");
    if (inner !== undefined && hasAdapter && !BESIDE_ADAPTER.includes(name)) continue;
    const within = config[group];
    const value = inner === undefined
      ? isObject(within) ? true : within
      : isObject(within)
      ? within[inner]
      : undefined;
    // An empty list would be refused where a key is optional.
    if (value !== undefined) givens.set(name, { value, where: `${name} (${path})`, place: path });
  }
  return givens;
}
