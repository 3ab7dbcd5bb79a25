/**
 * What stands before a row's answer: instructions, few-shot examples and the question, plain or as a conversation.
 *
 * The joints follow `fewshot_context` and `build_qa_turn` of lm-evaluation-harness (lm_eval/api/task.py).
 *
 * @module
 */
import { UserError } from "../../kernels/errors.ts";
import type { Document } from "./documents.ts";
import { beginsWithSpace, endsInSpace } from "./python/strings.ts";
import type { Task } from "./task.ts";
import type { Target, TaskTexts } from "./task_texts.ts";

/** A turn of a conversation, and what stands after it in plain text. */
export interface Turn {
  role: "system" | "user" | "assistant";
  content: string;
  delimiter: string;
}

/** What of a context the user chooses. */
export interface ContextSettings {
  systemInstruction: string | undefined;
  /** Renders a conversation; absent for plain text. `continues`: the last turn is the assistant's and goes on. */
  chat: ((turns: readonly Turn[], continues: boolean) => string) | undefined;
  /** Whether few-shot examples are turns of their own. */
  fewshotAsMultiturn: boolean;
}

/** Two texts, with the delimiter between them where both are there and neither has white space there. */
function delimited(prefix: string, suffix: string, delimiter: string): string {
  if (prefix === "" || suffix === "") return prefix + suffix;
  const apart = endsInSpace(prefix) || beginsWithSpace(suffix);
  return apart ? prefix + suffix : prefix + delimiter + suffix;
}

const plainText = (turns: readonly Turn[]) =>
  turns.map(({ content, delimiter }) => content + delimiter).join("");

/** All turns but the system's as one of the user, and what the assistant's answer begins with. */
function asSingleTurn(turns: readonly Turn[]): Turn[] {
  const system = turns[0]?.role === "system" ? [turns[0]] : [];
  const rest = turns.slice(system.length);
  const begun = rest.at(-1)?.role === "assistant" ? rest.slice(-1) : [];
  const asked = rest.slice(0, rest.length - begun.length)
    .map((turn, i, all) => i === all.length - 1 ? { ...turn, delimiter: "" } : turn);
  return [...system, { role: "user", content: plainText(asked), delimiter: "" }, ...begun];
}

/** A question with what comes after it. */
interface Question {
  text: string;
  /** The text that the answer begins with. */
  prefix: string;
  answer: string;
  targetDelimiter: string;
  fewshotDelimiter: string;
}

function questionTurns(question: Question): Turn[] {
  const { text, prefix, answer, targetDelimiter, fewshotDelimiter } = question;
  const isApart = text === "" || endsInSpace(text) || beginsWithSpace(prefix);
  const delimits = answer !== "" && prefix === "" || prefix !== "" && !isApart;
  const turns: Turn[] = [
    { role: "user", content: text, delimiter: delimits ? targetDelimiter : "" },
  ];
  if (answer !== "") {
    const content = delimited(prefix, answer, " ");
    turns.push({ role: "assistant", content, delimiter: fewshotDelimiter });
  } else if (prefix !== "") turns.push({ role: "assistant", content: prefix, delimiter: "" });
  return turns;
}

/** Makes the contexts of a task's rows. */
export class Contexts {
  constructor(
    readonly task: Task,
    readonly texts: TaskTexts,
    readonly settings: ContextSettings,
    /** Whether the choices are questions, and the target is what may follow each. */
    readonly choicesAreQuestions: boolean,
  ) {}

  /** The text of an example's answer. */
  #answer(target: Target, choices: readonly string[] | undefined, document: Document): string {
    const answer = typeof target === "number" && choices !== undefined
      ? choices.at(target)
      : Array.isArray(target)
      ? target[0]
      : target;
    if (typeof answer === "string") return answer;
    throw new UserError(
      `${document.where()}, ${this.task.where}: doc_to_target of a few-shot example is ${
        JSON.stringify(target)
      }; expected ${
        choices === undefined ? "text" : `text or one of the choices 0 to ${choices.length - 1}`
      }`,
    );
  }

  #example(document: Document): Turn[] {
    const { keys, fewshot } = this.task, { texts } = this;
    const choices = texts.choices(fewshot.doc_to_choice ?? keys.doc_to_choice, document);
    const asked = texts.question(fewshot.doc_to_text ?? keys.doc_to_text ?? "", document);
    const target = texts.target(fewshot.doc_to_target ?? keys.doc_to_target ?? "", document);
    const prefix = texts.around(fewshot.gen_prefix ?? keys.gen_prefix, "gen_prefix", document);
    return questionTurns({
      text: this.#questionText(asked, choices, document),
      prefix,
      answer: this.#answer(target, this.choicesAreQuestions ? undefined : choices, document),
      targetDelimiter: fewshot.target_delimiter ?? keys.target_delimiter,
      fewshotDelimiter: fewshot.fewshot_delimiter ?? keys.fewshot_delimiter,
    });
  }

  #questionText(
    asked: string | number,
    choices: readonly string[] | undefined,
    document: Document,
  ): string {
    if (typeof asked === "string") return asked;
    const text = this.choicesAreQuestions ? choices?.[asked] : undefined;
    if (text !== undefined) return text;
    const most = (choices?.length ?? 1) - 1;
    throw new UserError(
      `${document.where()}, ${this.task.where}: doc_to_text is ${asked}; expected ${
        this.choicesAreQuestions ? `one of the choices 0 to ${most}` : "text"
      }`,
    );
  }

  /**
   * The context of a row; where the choices are questions, one for each of them.
   *
   * @param examples Rows that are shown with their answers before it.
   */
  of(document: Document, examples: readonly Document[]): string[] {
    const { task: { keys }, texts, settings } = this;
    const description = texts.around(keys.description, "description", document);
    const system = delimited(
      settings.systemInstruction ?? "",
      description,
      keys.fewshot_delimiter,
    );
    const before: Turn[] = system === ""
      ? []
      : [{ role: "system", content: system, delimiter: "" }];
    for (const example of examples) before.push(...this.#example(example));
    const prefix = texts.around(keys.gen_prefix, "gen_prefix", document);
    const choices = texts.choices(keys.doc_to_choice, document);
    const asked = this.choicesAreQuestions
      ? choices ?? []
      : [this.#questionText(texts.question(keys.doc_to_text ?? "", document), choices, document)];
    return asked.map((text) => {
      const question = { text, prefix, answer: "", fewshotDelimiter: "" };
      // Such questions are followed by the target, which brings its delimiter.
      const targetDelimiter = this.choicesAreQuestions ? "" : keys.target_delimiter;
      return this.#rendered([...before, ...questionTurns({ ...question, targetDelimiter })]);
    });
  }

  #rendered(turns: readonly Turn[]): string {
    const { chat, fewshotAsMultiturn } = this.settings;
    if (chat === undefined) return plainText(turns);
    return chat(
      fewshotAsMultiturn ? turns : asSingleTurn(turns),
      turns.at(-1)?.role === "assistant",
    );
  }
}
