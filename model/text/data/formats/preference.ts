/**
 * Rows of preferences: two answers to a prompt, of which one is better, or an answer that is good or bad. Each answer makes a
 * row of its own, which the other formats read.
 *
 * @module
 */
import { UserError } from "../../../../kernels/errors.ts";
import { didYouMean } from "../../../../kernels/suggestion.ts";
import type { PreferencePart } from "../../prompt.ts";
import { asText, type Fields, isFields, kindOf, type Row, type Value } from "../row.ts";

/** What is made of rows: `pairs` of answers, or answers with `labels`, which pairs are taken apart for. */
export type Judgement = "pairs" | "labels";

/** Names of what says whether an answer is good: TRL's, and LLaMA-Factory's. */
const LABELS = ["label", "kto_tag"] as const;
/** OpenAI's names of both answers, beside an `input` with messages and tools. */
const OPENAI = { chosen: "preferred_output", rejected: "non_preferred_output" };
/** Fields that rows of preferences have beside those of other formats. */
export const PREFERENCE_FIELDS: readonly string[] = ["chosen", "rejected", ...LABELS]
  .concat("input", Object.values(OPENAI));
/** Names of an answer in other formats, and of what else is learnt there. */
const ANSWERS = ["completion", "output", "response"];
const LEARNT = [...ANSWERS, "text", "messages", "conversations"];

/** What a row holds, and where it is. */
export type RowContent = Pick<Row, "where" | "value">;

/** An answer of a row of preferences. */
export interface JudgedRow {
  part: Exclude<PreferencePart, "prompt">;
  /** The row that another format reads. */
  row: RowContent;
  /** What the answer is called in the row of the file. */
  name: string;
  /** The field of the file whose messages are the row's `prompt`, where it has another name. */
  asked?: string;
}

/** Whether a row has a preference and nothing else to learn. */
export function isPreference({ value }: Pick<Row, "value">): boolean {
  const hasOne = (names: string[]) => isFields(value) && names.some((name) => has(value, name));
  return hasOne(["chosen", "rejected", ...Object.values(OPENAI)]) && !hasOne(LEARNT);
}

function has(fields: Fields, name: string): boolean {
  return Object.hasOwn(fields, name) && fields[name] !== null;
}

/** What rows are expected to have, for messages. */
const EXPECTED = {
  pairs: "chosen and rejected, beside prompt or instruction",
  labels: "completion or output, with a label of true or false, or chosen and rejected",
};

/**
 * The answers of a row.
 *
 * @returns Those that stay together: the chosen and the rejected one of `pairs`, each alone of `labels`.
 * @throws {UserError} where a field is missing or wrong; names the row.
 */
export function judgedRows(
  { where, value: given }: RowContent,
  judgement: Judgement,
): JudgedRow[][] {
  if (!isFields(given)) {
    throw new UserError(
      `${where()} is ${kindOf(given)}; expected an object with ${EXPECTED[judgement]}`,
    );
  }
  const value = renamed(given);
  if (judgement === "pairs" || has(value, "chosen") || has(value, "rejected")) {
    const pair = pairOf(where, value, judgement);
    return judgement === "pairs" ? [pair] : pair.map((one) => [one]);
  }
  const name = LABELS.find((name) => has(value, name));
  if (name === undefined) {
    throw new UserError(
      `${where()} has neither a label nor chosen and rejected; expected ${EXPECTED.labels}`,
    );
  }
  const part = isGood(where, name, value[name]) ? "chosen" : "rejected";
  const { [name]: _, ...rest } = value;
  const answer = ANSWERS.find((name) => has(rest, name)) ?? ANSWERS[0];
  return [[{ part, row: { where, value: rest }, name: answer }]];
}

/** A row of OpenAI's under the names that others have; another row as it is. */
function renamed(value: Fields): Fields {
  const { chosen, rejected } = OPENAI;
  if (!has(value, chosen) && !has(value, rejected)) return value;
  const { input = null, [chosen]: better = null, [rejected]: worse = null, ...rest } = value;
  const { messages = null, tools = null } = isFields(input) ? input : {};
  return { ...rest, prompt: messages, tools, chosen: better, rejected: worse };
}

/** Whether a label says that an answer is good. */
function isGood(where: () => string, name: string, value: Value): boolean {
  switch (asText(value)?.trim().toLowerCase()) {
    case "true":
    case "1":
      return true;
    case "false":
    case "0":
      return false;
  }
  const is = asText(value) === undefined ? kindOf(value) : JSON.stringify(asText(value));
  throw new UserError(`${where()}: ${name} is ${is}; expected true or false`);
}

/** An answer of a pair: text, or messages, of which one may stand alone. */
function answerOf(
  where: () => string,
  value: Fields,
  { name, judgement }: { name: "chosen" | "rejected"; judgement: Judgement },
): string | Value[] {
  if (!has(value, name)) {
    const near = didYouMean(name, Object.keys(value).filter((other) => has(value, other)));
    throw new UserError(`${where()}: ${name} is missing; expected ${EXPECTED[judgement]}${near}`);
  }
  const answer = value[name];
  if (Array.isArray(answer)) return answer;
  if (isFields(answer) && ("role" in answer || "from" in answer)) return [answer];
  const text = asText(answer);
  if (text !== undefined) return text;
  throw new UserError(
    `${where()}: ${name} is ${kindOf(answer)}; expected text or a list of messages`,
  );
}

/** Fields that may hold the messages before an answer: TRL's, and LLaMA-Factory's. */
const ASKED = ["prompt", "messages", "conversations"];

/** Both answers as rows; a prompt that they begin with is taken off them. */
function pairOf(where: () => string, value: Fields, judgement: Judgement): JudgedRow[] {
  const [chosen, rejected] = (["chosen", "rejected"] as const).map((name) =>
    answerOf(where, value, { name, judgement })
  );
  const { chosen: _, rejected: __, ...rest } = value;
  const rows = (prompt: Fields, better: Fields, worse: Fields): JudgedRow[] => {
    const row = (part: "chosen" | "rejected", answer: Fields) => {
      return { part, row: { where, value: { ...rest, ...prompt, ...answer } }, name: part };
    };
    return [row("chosen", better), row("rejected", worse)];
  };
  if (typeof chosen !== "string" && typeof rejected !== "string") {
    const asked = ASKED.find((name) => Array.isArray(rest[name]));
    if (asked !== undefined) {
      const prompt = rest[asked];
      ASKED.forEach((name) => delete rest[name]);
      return rows({ prompt }, { completion: chosen }, { completion: rejected })
        .map((row) => ({ ...row, asked }));
    }
    // Some files have the question as text beside whole conversations.
    const length = commonLength(chosen, rejected), prompt = chosen.slice(0, length);
    if (length === 0) throw new UserError(`${where()}: ${withoutPrompt(judgement)}`);
    const [better, worse] = [chosen, rejected].map((all) => ({ completion: all.slice(length) }));
    return rows({ prompt }, better, worse);
  }
  if (typeof chosen !== "string" || typeof rejected !== "string") {
    throw new UserError(
      `${where()}: one of chosen and rejected is a list of messages and the other is text; expected both alike`,
    );
  }
  if (has(value, "instruction")) return rows({}, { output: chosen }, { output: rejected });
  if (has(value, "prompt")) return rows({}, { completion: chosen }, { completion: rejected });
  const prompt = commonText(chosen, rejected);
  if (prompt.trim() === "") throw new UserError(`${where()}: ${withoutPrompt(judgement)}`);
  const [better, worse] = [chosen, rejected].map((all) => ({
    completion: all.slice(prompt.length),
  }));
  return rows({ prompt }, better, worse);
}

/** What is wrong with a row of which no prompt can be made. */
function withoutPrompt(judgement: Judgement): string {
  return `prompt is missing, and chosen and rejected don't begin alike; expected ${
    EXPECTED[judgement]
  }`;
}

/** How many messages two conversations have in common at their beginning; the last of neither is one of them. */
function commonLength(a: readonly Value[], b: readonly Value[]): number {
  const most = Math.min(a.length, b.length) - 1;
  let length = 0;
  while (length < most && JSON.stringify(a[length]) === JSON.stringify(b[length])) length++;
  return length;
}

/** What two texts begin with, without a space at its end, which belongs to the word after it, as TRL has it. */
function commonText(a: string, b: string): string {
  const others = [...b];
  let text = "";
  for (const [i, character] of [...a].entries()) {
    if (others[i] !== character) break;
    text += character;
  }
  return text.endsWith(" ") ? text.slice(0, -1) : text;
}
