/**
 * Answers as they are made: a sequence's tokens become pieces of text, with what is told of each token.
 *
 * @module
 */
import type { TokenLogprobs } from "../../model/engine/engine.ts";
import { Answer } from "../../model/engine/answer.ts";
import type { Tokenizer } from "../../model/text/tokenizer/tokenizer.ts";
import { ApiError } from "./api_error.ts";
import type { Generation } from "./generation.ts";

/** A token, as text. */
export interface TokenText {
  readonly text: string;
  readonly logprob: number;
}

/** A token of an answer, and the likeliest ones in its place. */
export interface ToldToken extends TokenText {
  readonly top: readonly TokenText[];
}

/** What is new of an answer. */
export interface AnswerPart {
  readonly text: string;
  /** Absent where nothing is told of tokens. */
  readonly tokens?: readonly ToldToken[];
  /** Tokens that it came of. */
  readonly count: number;
  /** Why the answer ended, with its last part. */
  readonly finished?: "stop" | "length";
  /** The token of the model's own that ended it, which has no text in it. */
  readonly ending?: ToldToken;
}

/** Tokens before one that decide what its text is: whether a space begins it. */
const CONTEXT_TOKENS = 4;

/** Tokens before one at most, where a character of many tokens is among them. */
const MOST_CONTEXT = 16;

/** A text without the character that its end has only part of. */
const whole = (text: string) => text.replace(/\ufffd+$/, "");

/** Texts of an answer's tokens: what each adds to those before it. */
class TokenTexts {
  #ids: readonly number[];

  /** @param before Ids that come before the answer. */
  constructor(readonly tokenizer: Tokenizer, before: readonly number[]) {
    this.#ids = before.slice(-MOST_CONTEXT);
  }

  /** The text of a token that may come next. */
  of(id: number): string {
    const before = this.tokenizer.decode(this.#ids);
    const text = this.tokenizer.decode([...this.#ids, id]);
    return text.startsWith(before) ? text.slice(before.length) : this.tokenizer.decode([id]);
  }

  /** The text of the next token. A character that several tokens make is the last one's. */
  next(id: number): string {
    const { tokenizer } = this, ids = [...this.#ids, id];
    const before = whole(tokenizer.decode(this.#ids)), text = whole(tokenizer.decode(ids));
    const few = ids.slice(-CONTEXT_TOKENS), isWhole = !tokenizer.decode(few).includes("\ufffd");
    this.#ids = isWhole ? few : ids.slice(-MOST_CONTEXT);
    return text.startsWith(before) ? text.slice(before.length) : tokenizer.decode([id]);
  }
}

/** How a sequence's answer is read. */
export interface ReadingOptions {
  readonly tokenizer: Tokenizer;
  /** Texts that end the answer. */
  readonly stops: readonly string[];
  /** Whether its tokens are told of. */
  readonly told: boolean;
  /** Ids that the answer's text goes on from; none where it stands for itself. */
  readonly before: readonly number[];
}

/** Text of ids that follow others: a space that begins it stays. */
function decodeAfter(tokenizer: Tokenizer, before: readonly number[]) {
  const context = before.slice(-CONTEXT_TOKENS), { length } = tokenizer.decode(context);
  return (ids: readonly number[]) => tokenizer.decode([...context, ...ids]).slice(length);
}

/**
 * Reads a sequence's answer; a stop text ends the sequence, too.
 *
 * @throws {ApiError} where it does not come to its end.
 */
export async function* readAnswer(
  generation: Generation,
  { tokenizer, stops, told, before }: ReadingOptions,
): AsyncGenerator<AnswerPart> {
  let text = "";
  const decode = decodeAfter(tokenizer, before);
  const answer = new Answer(decode, stops, (piece) => text += piece);
  const texts = new TokenTexts(tokenizer, before);
  const tellOf = (id: number, { logprob, top }: TokenLogprobs): ToldToken => {
    const likely = top.map((token) => ({ text: texts.of(token.id), logprob: token.logprob }));
    return { text: texts.next(id), logprob, top: likely };
  };
  let finished: AnswerPart["finished"];
  for await (const piece of generation) {
    if (piece.problem !== undefined) {
      const isEnding = piece.problem === "the server is ending";
      throw new ApiError(isEnding ? 503 : 500, piece.problem, { code: "engine_error" });
    }
    const tokens: ToldToken[] = [];
    let count = 0;
    // Where it does not matter which of them ends the answer, they become text all at once.
    const groups = stops.length === 0 && !told ? [piece.ids] : piece.ids.map((id) => [id]);
    for (const ids of groups) {
      const record = piece.logprobs?.[count];
      if (told && record !== undefined) tokens.push(tellOf(ids[0], record));
      count += ids.length;
      if (answer.push(...ids)) continue;
      finished = "stop";
      break;
    }
    const last = finished === undefined && told ? piece.ending : undefined;
    const ending = last && tellOf(last.id, last.logprobs);
    finished ??= piece.finished;
    if (finished !== undefined) answer.end();
    const part = { text, count, finished, ...(told ? { tokens } : {}), ending };
    text = "";
    yield part;
    if (finished !== undefined) return;
  }
  throw new ApiError(408, "the answer took too long, or its client has left", { code: "timeout" });
}

/** Parts of several answers, as they come. Their owner ends the answers where their reader leaves. */
export async function* together<T>(
  answers: readonly AsyncGenerator<T>[],
): AsyncGenerator<{ index: number; part: T }> {
  const next = async (index: number) => ({ index, result: await answers[index].next() });
  const waiting = new Map(answers.map((_, index) => [index, next(index)]));
  while (waiting.size > 0) {
    const { index, result } = await Promise.race(waiting.values());
    waiting.delete(index);
    if (result.done) continue;
    waiting.set(index, next(index));
    yield { index, part: result.value };
  }
}
