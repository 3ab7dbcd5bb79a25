/**
 * How a task's answers are generated: `generation_kwargs`, of which greedy decoding is what can be compared.
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import { brief } from "../../model/files/json_file.ts";
import type { TaskKeys } from "./task_schema.ts";

/** How answers are generated. */
export interface Generation {
  /** Texts that end an answer and are not part of it. */
  until: readonly string[];
  /** Tokens of an answer at most. */
  maxTokens: number;
}

/** The names of the most tokens of an answer, the first of which counts. */
const MOST_TOKENS = ["max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens"];
const DEFAULT_MOST = 256;
/** Settings that greedy decoding takes no notice of. */
const OF_DRAWING = ["top_p", "top_k", "min_p", "typical_p"];
/** Settings that change nothing where they are so. */
const NEUTRAL: Readonly<Record<string, unknown>> = {
  num_beams: 1,
  repetition_penalty: 1,
  length_penalty: 1,
  use_cache: true,
};

function stopTexts(until: unknown, where: string): string[] {
  const texts = [until ?? []].flat();
  if (texts.every((text) => typeof text === "string")) return texts.filter((text) => text !== "");
  throw new UserError(
    `${where}: generation_kwargs.until is ${brief(until)}; expected a text or a list of texts`,
  );
}

function mostTokens(settings: Record<string, unknown>, where: string): number {
  const name = MOST_TOKENS.find((name) => settings[name] !== undefined && settings[name] !== null);
  if (name === undefined) return DEFAULT_MOST;
  const most = settings[name];
  if (typeof most === "number" && Number.isInteger(most) && most > 0) return most;
  throw new UserError(
    `${where}: generation_kwargs.${name} is ${brief(most)}; expected a whole number above 0`,
  );
}

/** @throws {UserError} where answers would be drawn. */
function refuseDrawing(settings: Record<string, unknown>, where: string): void {
  const { do_sample, temperature = 0 } = settings;
  const warmth = typeof temperature === "string" ? Number(temperature) : temperature;
  if (do_sample !== undefined && do_sample !== null && typeof do_sample !== "boolean") {
    throw new UserError(
      `${where}: generation_kwargs.do_sample is ${brief(do_sample)}; expected true or false`,
    );
  }
  if (do_sample === false || (do_sample !== true && warmth === 0)) return;
  throw new UserError(
    `${where}: generation_kwargs has ${
      do_sample === true ? "do_sample true" : `temperature ${brief(temperature)}`
    }, and what is drawn is not the same twice; expected greedy decoding (do_sample: false)`,
  );
}

/**
 * The settings of a task that generates.
 *
 * @throws {UserError} for a setting that is wrong, not known or not supported.
 */
export function generationOf(keys: TaskKeys, where: string): Generation {
  const { fewshot_delimiter, generation_kwargs: given } = keys;
  if (given === undefined) return { until: [fewshot_delimiter], maxTokens: DEFAULT_MOST };
  refuseDrawing(given, where);
  const known = ["until", "do_sample", "temperature", ...MOST_TOKENS, ...OF_DRAWING];
  for (const [name, value] of Object.entries(given)) {
    if (known.includes(name) || value === null) continue;
    if (Object.hasOwn(NEUTRAL, name) && value === NEUTRAL[name]) continue;
    throw new UserError(
      `${where}: generation_kwargs.${name} ${
        brief(value)
      } is not supported; expected until, max_gen_toks and ` +
        "do_sample: false",
    );
  }
  const until = "until" in given ? stopTexts(given.until, where) : [fewshot_delimiter];
  return { until, maxTokens: mostTokens(given, where) };
}
