/**
 * From a sample of any kind to token ids and targets: the one way of training, scoring and evaluation.
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import { present } from "../../kernels/present.ts";
import {
  type AlpacaSample,
  alpacaTurns,
  encodePrompt,
  encodeSample,
  openingOf,
  renderPrompt,
  type TokenizedSample,
} from "./prompt.ts";
import { type ChatSample, conversationOf, isChat, type Sample } from "./sample.ts";
import { type Span, targetsAfter } from "./targets.ts";
import type { ChatTurnEncoder, EncodedConversation } from "./templates/chat_turns.ts";
import type { JsonText } from "./templates/chat_rendering.ts";
import {
  encodeAnswers,
  encodePlain,
  encodePlainTurns,
  plainMessages,
} from "./templates/plain_templates.ts";
import { type NamedTemplate, templateOf } from "./templates/template_names.ts";
import type { Tokenizer } from "./tokenizer/tokenizer.ts";

/** What of a conversation is learnt: the assistant's last message, all of its messages, or every token. */
export type TrainOn = "last" | "assistant" | "all";

/** How samples are encoded. */
export interface EncodingOptions {
  /** Folder or file of the tokenizer, where the model's own template is. */
  tokenizerPath: string;
  /** As of {@linkcode templateOf}; with `auto`, instructions are in Alpaca's. Default: `auto`. */
  template?: string;
  /** Tools of conversations that bring none. */
  tools?: JsonText;
  /** Variables of the template, as a JSON object. */
  template_kwargs?: string;
  /** The day that templates are told which ask for it, as 2026-01-31. Default: today. */
  template_date?: string;
  /** Default: `last`. */
  train_on?: TrainOn;
}

/** The same ids up to a length, of which at least the first is no target. */
function cut(ids: readonly number[], targets: readonly Span[], maxLength: number): TokenizedSample {
  const end = Math.min(ids.length, maxLength);
  const kept = targets.map(([from, to]): Span => [Math.max(1, from), Math.min(end, to)]);
  return {
    ids: Uint32Array.from(ids.slice(0, end)),
    targets: kept.filter(([from, to]) => from < to),
    truncated: ids.length > maxLength,
  };
}

/** Puts before what is wrong with a sample where that is. */
function named<T>({ where }: Pick<ChatSample, "where">, encode: () => T): T {
  try {
    return encode();
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    throw new UserError(`${where()}: ${error.message}`);
  }
}

/** Characters of an instruction by which a message names it. */
const NAMED_CHARACTERS = 60;

/** Encodes samples of a run. What one of them needs is to be opened before it is encoded. */
export class SampleEncoder {
  readonly #named: NamedTemplate;
  readonly #trainOn: TrainOn;
  #chats: ChatTurnEncoder | undefined;
  #toolsLost = 0;
  /** Why no conversation can be encoded. */
  #fault: unknown;

  /** @throws {UserError} where the template is a file that can't be read. */
  constructor(readonly tokenizer: Tokenizer, readonly options: EncodingOptions) {
    this.#named = templateOf(options.template ?? "auto", options.tokenizerPath);
    this.#trainOn = options.train_on ?? "last";
  }

  /**
   * Reads the template that samples like this one need, if it was not read before.
   *
   * @throws {UserError} where there is no such template, or it is no Jinja.
   */
  async openFor(sample: Sample): Promise<void> {
    if (this.#named.kind !== "chat" || this.#chats !== undefined) return;
    if (isChat(sample) || "instruction" in sample && this.#writesInstructions) {
      this.#chats = await this.#openChats();
    }
  }

  /**
   * Reads the template that samples of any kind may need. What is wrong with it is told by the first sample that
   * needs it.
   */
  async openForAny(): Promise<void> {
    if (this.#named.kind !== "chat" || this.#chats !== undefined) return;
    try {
      this.#chats = await this.#openChats();
    } catch (error) {
      this.#fault = error;
    }
  }

  /**
   * Ids and targets, cut at `maxLength` ids.
   *
   * @param sample One that {@linkcode openFor} was asked for, or like it.
   * @throws {UserError} where a conversation does not fit its template; names the sample.
   */
  encode(sample: Sample, maxLength: number): TokenizedSample {
    if (isChat(sample)) return this.#chat(sample, maxLength);
    if ("instruction" in sample) return this.#instruction(sample, maxLength);
    return this.#whole(encodeSample(this.tokenizer, sample, maxLength));
  }

  /** Whether instructions are in a template that is not Alpaca's. */
  get #writesInstructions(): boolean {
    const { template = "auto" } = this.options;
    return template !== "auto" && template !== "alpaca";
  }

  /** Lines on what templates left out of conversations, for people. */
  get notes(): string[] {
    const lost = this.#toolsLost;
    if (lost === 0) return this.#chats?.notes ?? [];
    const samples = lost === 1 ? "1 sample" : `${lost} samples`;
    return [`Template ${this.#named.name} writes nothing of the tools of ${samples}`];
  }

  /** A sample without turns, of which all is learnt where all is to be. */
  #whole(sample: TokenizedSample): TokenizedSample {
    return this.#trainOn === "all" ? { ...sample, targets: targetsAfter(1, sample.ids) } : sample;
  }

  #instruction(sample: AlpacaSample, maxLength: number): TokenizedSample {
    if (this.#writesInstructions) {
      const messages = conversationOf(sample), blank = new Set<number>();
      const answers = messages.flatMap(({ role }, i) => role === "assistant" ? [i] : []);
      const begin = JSON.stringify(sample.instruction.slice(0, NAMED_CHARACTERS));
      const where = () => `the instruction ${begin}`;
      return this.#chat({ messages, answers, blank, prompt: 0, where }, maxLength);
    }
    if (this.#trainOn !== "assistant" || sample.history === undefined) {
      return this.#whole(encodeSample(this.tokenizer, sample, maxLength));
    }
    const { instruction, input, output, history } = sample;
    const { text, answers } = alpacaTurns(openingOf(sample), [
      ...history.map(([instruction, answer]) => ({ instruction, answer })),
      { instruction, input, answer: output },
    ]);
    const encoded = encodeAnswers(text, answers, this.tokenizer);
    return cut(encoded.ids, encoded.answers.flat(), maxLength);
  }

  #chat(sample: ChatSample, maxLength: number): TokenizedSample {
    if (this.#fault !== undefined) throw this.#fault;
    const { ids, targets } = named(sample, () => this.#encodeChat(sample));
    const all = this.#trainOn === "all" && sample.prompt === 0;
    return cut(ids, all ? [[0, ids.length]] : targets, maxLength);
  }

  /** The messages that are to be learnt, if they say anything. */
  #wanted({ answers, blank }: ChatSample): readonly number[] {
    const wanted = this.#trainOn === "last" ? answers.slice(-1) : answers;
    return wanted.every((number) => blank.has(number)) ? [] : wanted;
  }

  /** The ids of a conversation, and the targets that depend on its turns. */
  #encodeChat(sample: ChatSample): EncodedConversation {
    const { prompt } = sample, all = this.#trainOn === "all";
    const wanted = all ? (prompt === 0 ? [] : [prompt]) : this.#wanted(sample);
    const { kind } = this.#named;
    if (kind === "chat") {
      const chats = present(this.#chats, "a chat template");
      return chats.encode(sample, { answers: wanted, andRest: all });
    }
    if (sample.tools !== undefined) this.#toolsLost++;
    const messages = plainMessages(sample.messages, kind);
    const { ids, turns } = encodePlainTurns(kind, messages, this.tokenizer);
    const targets = wanted.flatMap((number) => turns.get(number) ?? []);
    const from = targets.at(0)?.[0] ?? ids.length;
    return { ids: [...ids], targets: all ? [[from, ids.length]] : targets };
  }

  /**
   * Ids of a conversation up to where the assistant is asked for what ends it.
   *
   * @throws {UserError} as {@linkcode encode} does.
   */
  prompt({ messages, ...sample }: ChatSample): Uint32Array {
    const last = messages.findLastIndex(({ role }) => role !== "assistant");
    const asked = { ...sample, messages: messages.slice(0, last + 1) }, { kind } = this.#named;
    return named(sample, () =>
      Uint32Array.from(
        kind === "chat"
          ? present(this.#chats, "a chat template").prompt(asked)
          : encodePlain(kind, plainMessages(asked.messages, kind), this.tokenizer),
      ));
  }

  /** The ids that ask for the answer to an instruction alone. @throws {UserError} as {@linkcode encode} does. */
  question(instruction: string): Uint32Array {
    const asked: AlpacaSample = { instruction, input: "", output: "" };
    if (!this.#writesInstructions) {
      return encodePrompt(this.tokenizer, renderPrompt(asked, "alpaca"));
    }
    const messages = conversationOf(asked), where = () => "eval_prompts";
    return this.prompt({ messages, answers: [], blank: new Set(), prompt: 0, where });
  }

  async #openChats(): Promise<ChatTurnEncoder> {
    const { tokenizerPath, template_kwargs, template_date, tools } = this.options;
    const { ChatTurnEncoder } = await import("./templates/chat_turns.ts");
    return new ChatTurnEncoder(this.tokenizer, {
      folder: tokenizerPath,
      template: this.#named.source,
      tools,
      variables: template_kwargs === undefined
        ? undefined
        : { json: template_kwargs, name: "template_kwargs" },
    }, template_date === undefined ? new Date() : new Date(`${template_date}T00:00`));
  }
}
