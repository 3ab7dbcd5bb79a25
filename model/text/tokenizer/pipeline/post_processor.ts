/**
 * The post-processors of a tokenizer.json: what stands before and after a text.
 *
 * @module
 */
import { brief, isObject } from "../../../files/json_file.ts";
import { refuse, type Step, steps } from "./steps.ts";

/** Ids before and after those of a text. */
export interface Surroundings {
  prefix: number[];
  suffix: number[];
}

/** The pair of a token and its id that BERT's post-processors have. */
function pairId(step: Step, key: "cls" | "sep"): number {
  const pair = step[key];
  if (Array.isArray(pair) && typeof pair[0] === "string" && Number.isSafeInteger(pair[1])) {
    return pair[1];
  }
  const has = `has a post_processor ${brief(step.type)} with ${key} ${brief(pair)}`;
  throw new RangeError(`${has}, expected a token and its id`);
}

function template(step: Step): Surroundings {
  const { single, special_tokens } = step;
  const wrong = (what: unknown): never => {
    throw new RangeError(
      `has a post_processor TemplateProcessing with ${brief(what)}, which is not supported`,
    );
  };
  if (!Array.isArray(single)) return wrong(single);
  const around: number[][] = [[]];
  for (const part of single) {
    if (isObject(part) && isObject(part.Sequence)) around.push([]);
    else if (isObject(part) && isObject(part.SpecialToken) && isObject(special_tokens)) {
      const token = special_tokens[String(part.SpecialToken.id)];
      const ids = isObject(token) ? token.ids : undefined;
      if (!Array.isArray(ids) || !ids.every((id) => Number.isSafeInteger(id) && id >= 0)) {
        return wrong(part);
      }
      around[around.length - 1].push(...ids);
    } else return wrong(part);
  }
  if (around.length !== 2) return wrong(single);
  return { prefix: around[0], suffix: around[1] };
}

function surroundings(step: Step): Surroundings {
  switch (step.type) {
    case "TemplateProcessing":
      return template(step);
    case "BertProcessing":
    case "RobertaProcessing":
      return { prefix: [pairId(step, "cls")], suffix: [pairId(step, "sep")] };
    case "ByteLevel":
      return { prefix: [], suffix: [] };
    default:
      refuse("post_processor", step);
  }
}

/** @throws {RangeError} naming the step that can't be used. */
export function postProcessor(value: unknown): Surroundings {
  return steps(value, "post_processor", "processors").map(surroundings).reduce(
    (inner, outer) => ({
      prefix: [...outer.prefix, ...inner.prefix],
      suffix: [...inner.suffix, ...outer.suffix],
    }),
    { prefix: [], suffix: [] },
  );
}
