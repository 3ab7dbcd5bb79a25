/**
 * The configuration that a run has in the end, as a YAML file that says of every value where it came from.
 *
 * @module
 */
import { printable, printableJson } from "../../kernels/terminal.ts";
import { replaceText } from "../../model/files/durable.ts";
import { type MemoryFigures, memoryNote } from "./memory_note.ts";
import { KEYS, type TrainConfig } from "./schema.ts";

/** What the values of a configuration came from. */
export interface Origins {
  /** Where the keys that were given were given. */
  places: ReadonlyMap<string, string>;
  /** The state that the run goes on from. */
  state?: string;
  /** The memory that the run takes, where it is known. */
  memory?: MemoryFigures;
}

/** Keys of `lora` that an adapter to start from decides. */
const OF_ADAPTER = [
  "rank",
  "alpha",
  "dropout",
  "targets",
  "layers",
  "modules_to_save",
  "rslora",
  "dora",
];

/** Words that YAML reads as text, as they are. */
const WORD = /^(?!(?:true|false|null|yes|no|on|off)$)[a-z][\w.\/-]*$/i;

function yamlValue(value: unknown): string {
  return typeof value === "string" && WORD.test(value) ? value : printableJson(value);
}

/** A comment is one line. */
const comment = (text: string) => `# ${printable(text).replaceAll("\n", "\\n")}`;

/** Where a key's value came from: where it was given, what it was taken over from, or its default. */
function originOf(
  name: string,
  config: TrainConfig,
  { places, state }: Origins,
): { origin: string; takenOver: boolean } {
  const place = places.get(name), [, inner] = name.split(".");
  if (place !== undefined) return { origin: place, takenOver: false };
  const { adapter, lora } = config;
  const takenOver = lora !== false && lora.adapter !== undefined && OF_ADAPTER.includes(inner);
  if (!takenOver) return { origin: "default", takenOver };
  return { origin: adapter === undefined ? `state ${state}` : `adapter ${adapter}`, takenOver };
}

/** A line of the file. */
function line(
  name: string,
  value: unknown,
  { origin, takenOver }: { origin: string; takenOver: boolean },
): string {
  const [group, inner] = name.split("."), indent = inner === undefined ? "" : "  ";
  const written = value === undefined ? "" : ` ${yamlValue(value)}`;
  // What an adapter says need not be what a configuration can: whoever starts from it has it anyway.
  return indent + (takenOver ? "# " : "") + `${inner ?? group}:${written}  ${comment(origin)}`;
}

/**
 * A configuration as YAML: every key with its value, and in a comment the flag, the file and line, the adapter or the
 * state that it came from, or `default`. Keys without a value are there without one. Read as a configuration, it is
 * the same. The run's memory stands at its end.
 *
 * @param config With the keys of `lora` that an adapter decides.
 */
export function effectiveYaml(config: TrainConfig, origins: Origins): string {
  const { lora } = config, values: Record<string, unknown> = { ...config };
  const lines = KEYS.flatMap(({ name }) => {
    const [group, inner] = name.split(".");
    const from = originOf(name, config, origins);
    if (inner === undefined) {
      if (group !== "lora") return [line(name, values[name], from)];
      return [`lora:${lora === false ? " off" : ""}  ${comment(from.origin)}`];
    }
    if (lora === false) return [];
    const settings: Record<string, unknown> = { ...lora };
    return [line(name, settings[inner], from)];
  });
  return [
    "# The configuration that this run had, and where each value of it came from.",
    comment(`Paths are relative to ${Deno.cwd()}`),
    ...lines,
    ...(origins.memory === undefined ? [] : [memoryNote(origins.memory)]),
    "",
  ].join("\n");
}

/** Writes a run's configuration to a file, whole or not at all. @throws {UserError} where it can't. */
export function writeEffectiveConfig(path: string, config: TrainConfig, origins: Origins): void {
  replaceText(path, effectiveYaml(config, origins));
}
