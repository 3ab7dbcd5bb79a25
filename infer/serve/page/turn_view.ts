/**
 * A turn of the conversation on the page: what was asked, and the answers, side by side.
 *
 * @module
 */
import { element, setText } from "../../../http/page/elements.ts";
import { AnswerView } from "./answer_view.ts";
import type { Answer, Turn } from "./conversation.ts";
import { editor } from "./editor.ts";

/** What a person can do with a turn. */
export interface TurnActions {
  /** Asks something else instead, of all models that are shown. @returns Whether they could be asked. */
  edit(prompt: string): Promise<boolean>;
  /** Asks the model of a column, anew where it has answered. */
  ask(column: number): void;
  stop(answer: Answer): void;
  correct(column: number, text: string): void;
}

/** How turns are shown. */
export interface Shown {
  /** The model of each column that is shown. */
  readonly models: readonly string[];
  readonly probabilities: boolean;
}

/** A turn's part of the page. */
export class TurnView {
  readonly item: HTMLLIElement;
  readonly #actions: TurnActions;
  readonly #prompt = element("p", { class: "text", dir: "auto" });
  readonly #answers = element("div", { class: "answers" });
  readonly #edit = element("button", { type: "button", class: "quiet" }, "Edit");
  #views: (AnswerView | HTMLElement)[] = [];

  constructor(actions: TurnActions) {
    this.#actions = actions;
    const group = { role: "group", "aria-label": "Your message", class: "buttons" };
    const article = element(
      "article",
      { class: "prompt" },
      element("header", {}, element("h3", {}, "You"), element("div", group, this.#edit)),
      this.#prompt,
    );
    this.item = element("li", {}, article, this.#answers);
    this.#edit.addEventListener("click", () => this.#change());
  }

  /** Shows the turn as it is now; what stays the same keeps its elements, and so the focus. */
  update({ prompt, answers }: Turn, { models, probabilities }: Shown): void {
    setText(this.#prompt, prompt);
    const views = models.map((model, column) => {
      const answer = answers[column] ?? null, view = this.#views[column];
      if (answer === null) return this.#question(view, model, column);
      return view instanceof AnswerView && view.answer === answer
        ? view
        : new AnswerView(answer, this.#actionsOf(answer, column));
    });
    for (const [column, view] of views.entries()) {
      const shown = this.#answers.children[column];
      const wanted = view instanceof AnswerView ? view.article : view;
      if (shown === undefined) this.#answers.append(wanted);
      else if (shown !== wanted) shown.replaceWith(wanted);
    }
    for (const _ of this.#views.splice(views.length)) this.#answers.lastElementChild?.remove();
    this.#views = views;
    for (const view of views) if (view instanceof AnswerView) view.update(probabilities);
  }

  /** Shows what has come of a column's answer. */
  grow(column: number, probabilities: boolean): void {
    const view = this.#views[column];
    if (view instanceof AnswerView) view.update(probabilities);
  }

  #actionsOf(answer: Answer, column: number) {
    return {
      retry: () => this.#actions.ask(column),
      stop: () => this.#actions.stop(answer),
      correct: (text: string) => this.#actions.correct(column, text),
    };
  }

  /** What stands in the place of an answer that was not asked for. */
  #question(
    view: AnswerView | HTMLElement | undefined,
    model: string,
    column: number,
  ): HTMLElement {
    const words = `Ask ${model}`;
    if (view instanceof HTMLElement && view.textContent === words) return view;
    const button = element("button", { type: "button" }, words);
    button.addEventListener("click", () => this.#actions.ask(column));
    return element("div", { class: "answer question" }, button);
  }

  #change(): void {
    const article = this.#edit.closest("article");
    if (article === null) return;
    const form = editor({
      text: this.#prompt.textContent ?? "",
      label: "Your message",
      action: "Send again",
      changed: (text) => this.#actions.edit(text),
      done: () => {
        form.replaceWith(article);
        this.#edit.focus();
      },
    });
    article.replaceWith(form);
    form.querySelector("textarea")?.focus();
  }
}
