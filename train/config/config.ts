/**
 * From a command line and a YAML file to a checked configuration.
 *
 * @module
 */

import type { z } from "zod";
import builtinYaml from "../../examples/builtin.yaml" with { type: "text" };
import { helpIfAsked, readFlags, refuse } from "../../cli/command_line.ts";
import {
  asFlag,
  checkValues,
  type Given,
  type Givens,
  shown,
  suggestion,
} from "../../cli/settings.ts";
import { readConfigFile, readYaml } from "./config_file.ts";
import { dataFiles, weightsProblem } from "./data_keys.ts";
import { type RunOptions, runOptions, TRAIN } from "./flags.ts";
import { isObject } from "../../model/files/json_file.ts";
import { didYouMean } from "../../kernels/suggestion.ts";
import { NOTHING_TO_SKIP } from "../../model/transformer/quantization.ts";
import {
  KEYS,
  LORA_SWITCH,
  type loraSchema,
  loraSettings,
  type TrainConfig,
  type trainSchema,
} from "./schema.ts";
import { type ObjectiveKeys, objectiveProblems, ownSettings } from "./objective_keys.ts";
import { allowableKeys } from "./resume_keys.ts";
import { storedGivens } from "./resumed_config.ts";
import type { RunFolderKeys } from "./schema.ts";

export { trainHelp } from "./flags.ts";
export { type Checkpointing, jsonSchema, type LoraSettings, type TrainConfig } from "./schema.ts";

/** Whether LoRA is on: its own switch, or a flag that sets one of its keys. */
function loraSwitch(file: Givens, flags: Givens, problems: string[]): boolean {
  const read = (given: Given | undefined): boolean | undefined => {
    if (given === undefined) return undefined;
    const value = given.value ?? undefined;
    if (value === undefined || typeof value === "boolean") return value;
    if (value === "on" || value === "off") return value === "on";
    problems.push(`${given.where} is ${shown(value)}; expected ${LORA_SWITCH.expected}`);
  };
  const byFlag = read(flags.get("lora"));
  const byFile = read(file.get("lora"));
  const inner = [...flags.keys()].find((name) => name.startsWith("lora."));
  if (byFlag === false && inner) {
    problems.push(`${asFlag(inner)} and --lora off exclude each other; expected one of them`);
  }
  return byFlag ?? (inner !== undefined || (byFile ?? true));
}

/** What one key demands of another; a rule is asked only when its keys are right by themselves. */
function checkTogether(checked: Map<string, unknown>, lora: boolean, problems: string[]): void {
  const rule = (keys: (keyof TrainConfig)[], broken: (config: TrainConfig) => string | false) => {
    if (!keys.every((key) => checked.has(key))) return;
    const problem = broken(Object.fromEntries(checked) as TrainConfig);
    if (problem) problems.push(problem);
  };
  rule(
    ["warmup_steps", "schedule"],
    (c) =>
      c.warmup_steps > 0 && c.schedule === "constant" &&
      `warmup_steps is ${c.warmup_steps} but schedule is constant; expected schedule linear or cosine`,
  );
  rule(
    ["warmup_steps", "max_steps"],
    (c) =>
      c.warmup_steps > (c.max_steps ?? Infinity) &&
      `warmup_steps is ${c.warmup_steps}; expected at most max_steps, which is ${c.max_steps}`,
  );
  rule(
    ["optimizer", "weight_decay"],
    (c) =>
      c.optimizer === "sgd" && c.weight_decay > 0 &&
      `weight_decay is ${c.weight_decay} but optimizer is sgd, which has none; expected optimizer adamw`,
  );
  rule(
    ["resume", "adapter"],
    (c) =>
      c.resume !== undefined && c.resume !== "auto" && c.adapter !== undefined &&
      "resume and adapter exclude each other; expected one of them (a state holds its adapter)",
  );
  rule(
    ["eval_data", "eval_fraction"],
    (c) =>
      c.eval_data !== undefined && c.eval_fraction > 0 &&
      "eval_data and eval_fraction exclude each other; expected one of them",
  );
  for (const key of ["eval_every", "eval_samples", "keep_best", "early_stopping"] as const) {
    rule(
      [key, "eval_data", "eval_fraction"],
      (c) =>
        Number(c[key]) > 0 && c.eval_data === undefined && c.eval_fraction === 0 &&
        `${key} is ${c[key]} but nothing is held out; expected eval_data or eval_fraction`,
    );
  }
  rule(
    ["early_stopping", "early_stopping_min_delta"],
    (c) =>
      c.early_stopping_min_delta > 0 && c.early_stopping === 0 &&
      `early_stopping_min_delta is ${c.early_stopping_min_delta} but early_stopping is 0; ` +
        "expected early_stopping of at least 1",
  );
  rule(
    ["eval_prompts", "eval_data", "eval_fraction"],
    (c) =>
      c.eval_prompts.length > 0 && c.eval_data === undefined && c.eval_fraction === 0 &&
      "eval_prompts are given but nothing is held out; expected eval_data or eval_fraction",
  );
  rule(
    ["adapter"],
    (c) =>
      c.adapter !== undefined && !lora &&
      "adapter is given but lora is off; expected lora on, or no adapter",
  );
  rule(
    ["quantization"],
    (c) =>
      c.quantization !== "none" && !lora &&
      `quantization is ${c.quantization} but lora is off, which trains the weights themselves; expected lora on, ` +
        "or quantization none",
  );
  rule(
    ["quantization", "quantization_skip"],
    (c) => c.quantization === "none" && c.quantization_skip.length > 0 && NOTHING_TO_SKIP,
  );
  if (checked.has("objective")) {
    problems.push(...objectiveProblems(Object.fromEntries(checked), lora));
  }
}

/** The keys of `allow_change`, one by one. */
function allowedChanges(given: readonly string[], problems: string[]): string[] {
  const keys = given.flatMap((text) => text.split(",")).map((name) => name.trim());
  const known = allowableKeys();
  for (const key of keys) {
    if (!known.includes(key)) {
      problems.push(
        `allow_change has "${key}"${didYouMean(key, known)}; expected keys out of ${
          known.join(", ")
        }`,
      );
    }
  }
  return keys;
}

/** Checks given values, alone and together, and fills in the defaults of the others. */
function completeConfig(givens: Givens, lora: boolean, problems: string[]): TrainConfig {
  const checked = checkValues(KEYS, givens, problems);
  if (checked.has("allow_change")) {
    checked.set("allow_change", allowedChanges(checked.get("allow_change") as string[], problems));
  }
  if (checked.has("data")) {
    const data = dataFiles(checked.get("data") as z.output<typeof trainSchema>["data"]);
    checked.set("data", data);
    const problem = weightsProblem(data);
    if (problem !== undefined) problems.push(problem);
  }
  checkTogether(checked, lora, problems);
  refuse(problems);
  const config: Record<string, unknown> = {};
  const settings: Record<string, unknown> = {};
  for (const [name, value] of checked) {
    if (name.startsWith("lora.")) settings[name.slice(5)] = value;
    else config[name] = value;
  }
  const keys = config as ObjectiveKeys;
  Object.assign(config, ownSettings(keys.objective, keys));
  config.lora = lora ? loraSettings(settings as z.output<typeof loraSchema>) : false;
  return config as TrainConfig;
}

/** A part of a configuration, with the keys of a YAML file; `lora` is on, off, or on with some of its keys. */
export type PartialTrainConfig =
  & Omit<Partial<z.input<typeof trainSchema>>, "lora">
  & { lora?: boolean | Partial<z.input<typeof loraSchema>> };

/**
 * The complete configuration of a run that is set up in code: every key that is left out or undefined has its default,
 * and keys are checked, alone and together, as those of a YAML file are.
 *
 * @throws {UsageError} of all problems, one a line.
 */
export function makeTrainConfig({ lora = true, ...rest }: PartialTrainConfig): TrainConfig {
  const problems: string[] = [];
  if (typeof lora !== "boolean" && !isObject(lora)) {
    problems.push(`lora is ${shown(lora)}; expected true, false or an object of its keys`);
  }
  const settings = isObject(lora) ? lora : {};
  const named = Object.entries(settings).map(([key, value]) => [`lora.${key}`, value] as const);
  const givens: Givens = new Map();
  for (const [name, value] of [...Object.entries(rest), ...named]) {
    if (!KEYS.some((key) => key.name === name)) {
      problems.push(`unknown key "${name}"${suggestion(name, KEYS)}`);
    }
    givens.set(name, { value, where: name, place: "the program" });
  }
  return completeConfig(givens, lora !== false, problems);
}

/** A checked configuration, and which keys of `lora` it was given: the others may come from an adapter. */
export interface TrainArguments {
  config: TrainConfig;
  givenLora: ReadonlySet<string>;
}

/** What a command line asks for: a configuration, where each key of it was given, and what else is to be done. */
export interface TrainCommand extends TrainArguments, RunOptions {
  /** The flag, or the file and line, of every key that was given. */
  places: ReadonlyMap<string, string>;
}

/**
 * The configuration that `[CONFIG.yaml] [--flag value …]` asks for, every default filled in. Flags
 * win over the file; without a file, `--model` and `--data`, examples/builtin.yaml is the file.
 * Paths are relative to the working folder. `--help` prints the help.
 *
 * @throws {UsageError} of all problems, one a line.
 */
export function parseTrainArguments(args: string[]): TrainConfig {
  return readTrainArguments(args).config;
}

/**
 * Finds the run that `output` and `resume` name.
 *
 * @returns The file and the configuration of its newest state, where keys are to be taken over from it.
 */
export type FindRun = (
  keys: RunFolderKeys,
) => { path: string; config: Record<string, unknown> } | undefined;

/** Where a run is to go on, as far as that is well said; undefined where it is to begin. */
function folderKeys(givens: Givens): RunFolderKeys | undefined {
  const keys = KEYS.filter(({ name }) => name === "output" || name === "resume");
  const { output, resume } = Object.fromEntries(checkValues(keys, givens, [])) as RunFolderKeys;
  return resume === undefined ? undefined : { output, resume };
}

/**
 * As {@linkcode parseTrainArguments}, with the keys that were given and the flags that are no keys.
 *
 * @param find Called where `resume` is given: keys that are not given are then those that it finds.
 */
export function readTrainArguments(args: string[], find: FindRun = () => undefined): TrainCommand {
  helpIfAsked(TRAIN, args);
  const problems: string[] = [];
  const { givens: flags, operands: files } = readFlags(TRAIN, args, problems);
  if (files.length > 1) {
    problems.push(`got "${files.join('" and "')}"; expected at most one configuration file`);
  }
  let file: Givens = new Map();
  if (files.length === 1) file = readConfigFile(files[0], problems);
  const keys = folderKeys(new Map([...file, ...flags]));
  // A command that is wrong already names its mistakes first.
  const run = keys && problems.length === 0 ? find(keys) : undefined;
  if (run !== undefined) file = new Map([...storedGivens(run.config, run.path), ...file]);
  else if (files.length === 0 && !flags.has("model") && !flags.has("data")) {
    file = readYaml(builtinYaml, "examples/builtin.yaml", problems);
  }
  const options = runOptions(flags, problems);
  const givens: Givens = new Map([...file, ...flags]);
  const config = completeConfig(givens, loraSwitch(file, flags, problems), problems);
  const prefix = "lora.";
  const givenLora = new Set(
    [...givens.keys()].filter((name) => name.startsWith(prefix)).map((name) =>
      name.slice(prefix.length)
    ),
  );
  const places = new Map([...givens].map(([name, { place }]) => [name, place]));
  return { config, givenLora, places, ...options };
}
