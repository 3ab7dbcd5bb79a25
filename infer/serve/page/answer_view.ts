/**
 * An answer on the page: as Markdown, or by its tokens.
 *
 * @module
 */
import { element, setText } from "../../../http/page/elements.ts";
import type { Answer } from "./conversation.ts";
import { COPIES, copyButton } from "./copying.ts";
import { editor } from "./editor.ts";
import { markdown } from "./markdown.ts";
import { TokenText } from "./tokens.ts";

/** Milliseconds between two looks at a text that grows, and how many times what a look took. */
const PAUSE = 40, SHARE = 4;

/** What a person can do with an answer. */
export interface AnswerActions {
  retry(): void;
  stop(): void;
  /** Writes another text in its place, for what comes after it and for training. */
  correct(text: string): void;
}

/** How an answer was made, in words. */
function facts({ state, count, first, took }: Answer): string {
  const words: string[] = [];
  if (state === "running") return first === undefined ? "Waiting" : "Answering";
  if (count !== undefined) words.push(count === 1 ? "1 token" : `${count} tokens`);
  if (
    count !== undefined && count > 1 && first !== undefined && took !== undefined && took > first
  ) {
    words.push(`${(1000 * (count - 1) / (took - first)).toPrecision(3)} tokens/s`);
  }
  if (first !== undefined) words.push(`first after ${Math.round(first)} ms`);
  if (state === "length") words.push("ended by the limit of tokens");
  if (state === "stopped") words.push("stopped");
  return words.join(" · ");
}

/** An answer's part of the page. */
export class AnswerView {
  readonly answer: Answer;
  readonly article: HTMLElement;
  readonly #actions: AnswerActions;
  readonly #body = element("div", { class: "text" });
  readonly #problem = element("p", { class: "problem" });
  readonly #facts = element("p", { class: "facts" });
  readonly #buttons: Record<"stop" | "retry" | "edit" | "copy", HTMLButtonElement>;
  #tokens: TokenText | undefined;
  #editor: HTMLFormElement | undefined;
  /** Whether it is shown by its tokens. */
  #probabilities = false;
  /** What was drawn: nothing is drawn twice, as that would lose what is selected or has the focus. */
  #drawn = "";
  #timer = 0;
  #cost = 0;

  constructor(answer: Answer, actions: AnswerActions) {
    this.answer = answer;
    this.#actions = actions;
    const button = (text: string, press: () => void) => {
      const made = element("button", { type: "button", class: "quiet" }, text);
      made.addEventListener("click", press);
      return made;
    };
    this.#buttons = {
      stop: button("Stop", () => actions.stop()),
      retry: button("Retry", () => actions.retry()),
      edit: button("Edit", () => this.#edit()),
      copy: copyButton("Copy", () => this.answer.text),
    };
    const group = { role: "group", "aria-label": `Answer of ${answer.model}`, class: "buttons" };
    this.article = element(
      "article",
      { class: "answer" },
      element("h3", {}, answer.model),
      this.#body,
      this.#problem,
      element("footer", {}, this.#facts, element("div", group, ...Object.values(this.#buttons))),
    );
  }

  /** Shows the answer as it is now: soon while it grows, and at once when it has ended. */
  update(probabilities: boolean): void {
    const isOther = probabilities !== this.#probabilities || this.#drawn === "";
    this.#probabilities = probabilities;
    if (this.answer.state !== "running" || isOther) return this.#draw();
    if (this.#timer !== 0) return;
    this.#timer = setTimeout(() => this.#draw(), Math.max(PAUSE, SHARE * this.#cost));
  }

  #draw(): void {
    clearTimeout(this.#timer);
    this.#timer = 0;
    const { answer } = this, { text, tokens, state, problem } = answer;
    const now = [state, text.length, tokens?.length, this.#probabilities].join();
    if (now === this.#drawn) return;
    this.#drawn = now;
    const began = performance.now(), running = state === "running";
    if (this.#probabilities && tokens !== undefined && tokens.length > 0) {
      this.#tokens ??= new TokenText(`Tokens of the answer of ${answer.model}`);
      this.#tokens.update(tokens);
      if (this.#tokens.list.parentNode !== this.#body) {
        this.#body.replaceChildren(this.#tokens.list);
      }
    } else {
      // What is drawn anew all the time can't be pressed.
      this.#body.replaceChildren(markdown(text, { copies: COPIES && !running }));
    }
    this.#cost = performance.now() - began;
    setText(this.#problem, problem ?? "");
    this.#problem.hidden = problem === undefined;
    setText(this.#facts, facts(answer));
    this.article.setAttribute("aria-busy", String(running));
    this.#buttons.stop.hidden = !running;
    this.#buttons.retry.hidden = running;
    this.#buttons.edit.hidden = running;
    this.#buttons.copy.hidden = running || text === "" || !COPIES;
  }

  #edit(): void {
    if (this.#editor !== undefined) return;
    const form = editor({
      text: this.answer.text,
      label: `Answer of ${this.answer.model}`,
      action: "Keep",
      changed: (text) => {
        this.#actions.correct(text);
        return true;
      },
      done: () => {
        form.remove();
        this.#editor = undefined;
        this.#body.hidden = false;
        if (this.article.isConnected) this.#buttons.edit.focus();
      },
    });
    this.#editor = form;
    this.#body.hidden = true;
    this.#body.after(form);
    form.querySelector("textarea")?.focus();
  }
}
