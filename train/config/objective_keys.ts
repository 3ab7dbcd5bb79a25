/**
 * The keys that say what is minimised, and which of them an objective has.
 *
 * @module
 */
import { z } from "zod";
import { aboveZero, atLeastZero, choice, flag, shown, worded } from "../../cli/settings.ts";
import type { Judgement } from "../../model/text/data/formats/preference.ts";
import { MARGIN_LOSSES } from "../objective/margin_loss.ts";

/** What can be minimised. */
export const OBJECTIVES = ["sft", "dpo", "orpo", "kto", "simpo"] as const;
export type ObjectiveName = typeof OBJECTIVES[number];

/**
 * The keys, with the same rules as those of `trainSchema`. All but `objective` have no default of their own: what they
 * are without one says {@linkcode objectiveDefaults}.
 */
export const objectiveKeys = {
  objective: choice(OBJECTIVES).default("sft").describe(
    "What is learnt: answers (sft), or which of two answers is better (dpo, orpo, simpo) or which are good (kto).",
  ).meta({ resume: "same" }),
  beta: aboveZero().optional().describe(
    "How much rewards weigh against staying near the reference (dpo, kto: 0.1), their scale (simpo: 2), " +
      "or the weight of the odds ratio (orpo: 0.1).",
  ).meta({ resume: "allowed" }),
  loss_type: choice(MARGIN_LOSSES).optional().describe(
    "The loss of a pair's margin with dpo; without it, sigmoid.",
  ).meta({ resume: "allowed" }),
  label_smoothing: worded(
    z.number().min(0).lt(0.5),
    "number",
    "a number of at least 0 and less than 0.5",
  ).optional().describe(
    "Share of pairs thought to be the wrong way round, with dpo (sigmoid, robust) and simpo; without it, 0.",
  ).meta({ resume: "allowed" }),
  length_normalization: flag().optional().describe(
    "Whether dpo and simpo take means over an answer's tokens instead of sums; without it, simpo and ipo do.",
  ).meta({ resume: "allowed" }),
  simpo_gamma: atLeastZero().optional().describe(
    "By how much simpo's chosen reward is to lead; without it, 0.5.",
  ).meta({ resume: "allowed" }),
  desirable_weight: atLeastZero().optional().describe(
    "Weight of kto's good answers; without it, 1.",
  ).meta({ resume: "allowed" }),
  undesirable_weight: atLeastZero().optional().describe(
    "Weight of kto's bad answers; without it, 1.",
  ).meta({ resume: "allowed" }),
};

/** The values of these keys in a configuration. */
export type ObjectiveKeys = z.output<z.ZodObject<typeof objectiveKeys>>;
/** A key that only some objectives have. */
type OwnKey = Exclude<keyof ObjectiveKeys, "objective">;
const OWN_KEYS = Object.keys(objectiveKeys).filter((key): key is OwnKey => key !== "objective");

/** The keys of its own that an objective has, with their defaults. */
const DEFAULTS = {
  sft: {},
  dpo: { beta: 0.1, loss_type: "sigmoid", label_smoothing: 0, length_normalization: false },
  orpo: { beta: 0.1 },
  kto: { beta: 0.1, desirable_weight: 1, undesirable_weight: 1 },
  simpo: { beta: 2, simpo_gamma: 0.5, label_smoothing: 0, length_normalization: true },
} as const satisfies Record<ObjectiveName, Partial<Required<ObjectiveKeys>>>;

/** The keys of its own that an objective has, all with a value. */
export type OwnSettings<N extends ObjectiveName> = {
  -readonly [key in keyof typeof DEFAULTS[N]]: key extends OwnKey ? NonNullable<ObjectiveKeys[key]>
    : never;
};

/** The keys of its own that an objective has, as a configuration sets them and with their defaults. */
export function ownSettings<N extends ObjectiveName>(
  name: N,
  given: Partial<ObjectiveKeys>,
): OwnSettings<N> {
  const defaults: Partial<ObjectiveKeys> = name === "dpo" && given.loss_type === "ipo"
    ? { ...DEFAULTS.dpo, length_normalization: true }
    : DEFAULTS[name];
  const entries = Object.entries(defaults).map((
    [key, value],
  ) => [key, given[key as OwnKey] ?? value]);
  return Object.fromEntries(entries) as OwnSettings<N>;
}

/** What is made of the rows of data for an objective; undefined where they are no preferences. */
export function judgementOf(objective: ObjectiveName): Judgement | undefined {
  if (objective === "sft") return undefined;
  return objective === "kto" ? "labels" : "pairs";
}

const list = (words: readonly string[]) =>
  words.length < 2 ? words.join() : `${words.slice(0, -1).join(", ")} or ${words.at(-1)}`;

/** What else of a configuration an objective depends on. */
export interface BesideObjective {
  batch_size?: number;
  loss_normalization?: string;
}

/** What is wrong with the keys of an objective, a sentence each. */
export function objectiveProblems(
  config: Partial<ObjectiveKeys> & BesideObjective,
  lora: boolean,
): string[] {
  const { objective = "sft", loss_type = "sigmoid" } = config, problems: string[] = [];
  for (const key of OWN_KEYS) {
    if (config[key] === undefined || key in DEFAULTS[objective]) continue;
    const having = OBJECTIVES.filter((name) => key in DEFAULTS[name]);
    problems.push(
      `${key} is ${shown(config[key])} but objective is ${objective}, which has no such key; ` +
        `expected objective ${list(having)}`,
    );
  }
  if (objective === "sft") return problems;
  if (objective === "dpo" && config.label_smoothing && ["hinge", "ipo"].includes(loss_type)) {
    problems.push(
      `label_smoothing is ${config.label_smoothing} but loss_type is ${loss_type}, which has none; ` +
        "expected loss_type sigmoid or robust",
    );
  }
  if (!lora && (objective === "dpo" || objective === "kto")) {
    problems.push(
      `objective is ${objective} but lora is off: its reference is the model with its adapter off; ` +
        "expected lora on, or objective orpo or simpo",
    );
  }
  if (objective === "kto" && config.batch_size === 1) {
    problems.push(
      "batch_size is 1 but objective is kto, which compares answers with those of the same micro-batch to other " +
        "prompts; expected batch_size of at least 2",
    );
  }
  if (config.loss_normalization === "token") {
    problems.push(
      `loss_normalization is token but objective is ${objective}, whose loss is a mean over rows of data; ` +
        "expected loss_normalization sample, or objective sft",
    );
  }
  return problems;
}
