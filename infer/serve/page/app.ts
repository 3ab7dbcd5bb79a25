/**
 * The page: asks the models for answers, and shows the conversation.
 *
 * @module
 */
import { byId, element, setText } from "../../../http/page/elements.ts";
import { type AnswerPart, Api, KeyNeeded, ModelGone, Problem } from "./api.ts";
import { Columns } from "./columns.ts";
import { type Answer, messagesOf, type Turn } from "./conversation.ts";
import { isEnter } from "./editor.ts";
import { keep, type Kept, readKept } from "./kept.ts";
import { KeyForm } from "./key_form.ts";
import { Saving } from "./saving.ts";
import { Scrolling } from "./scrolling.ts";
import { Settings } from "./settings.ts";
import { ALTERNATIVES, hideAlternatives } from "./tokens.ts";
import { TurnView } from "./turn_view.ts";

/** Writing on a phone takes half of it: the keyboard comes when it is asked for. */
const TOUCH = matchMedia("(pointer: coarse)");

/** Adds a part to an answer, so many milliseconds after it was asked for. */
function add(answer: Answer, { text, tokens, count }: AnswerPart, after: number): void {
  answer.text += text;
  if (tokens.length > 0) (answer.tokens ??= []).push(...tokens);
  if (text !== "" || tokens.length > 0) {
    answer.first ??= after;
    answer.took = after;
  }
  answer.count = count ?? answer.count;
}

class Page {
  readonly #api = new Api();
  readonly #turnList = byId("turns", HTMLOListElement);
  readonly #prompt = byId("prompt", HTMLTextAreaElement);
  readonly #send = byId("send", HTMLButtonElement);
  readonly #stop = byId("stop", HTMLButtonElement);
  readonly #notice = byId("notice-text", HTMLElement);
  readonly #undo = byId("undo", HTMLButtonElement);
  readonly #announcer = byId("announcer", HTMLElement);
  readonly #probabilities = byId("probabilities", HTMLButtonElement);
  readonly #settings: Settings;
  readonly #columns: Columns;
  readonly #saving: Saving;
  readonly #keyForm = new KeyForm((key) => this.#useKey(key));
  readonly #scrolling = new Scrolling(
    this.#turnList,
    () => this.#running.size > 0,
    () => this.#focusPrompt(),
  );
  #turns: Turn[];
  #views: TurnView[] = [];
  #told: boolean;
  /** What ends each answer that is being made. */
  readonly #running = new Map<Answer, AbortController>();
  /** The turns before the last change of what was said already. */
  #before: Turn[] | undefined;

  constructor() {
    const kept = readKept(), changed = () => this.#show();
    this.#turns = kept.turns;
    this.#told = kept.probabilities;
    this.#settings = new Settings(kept.settings, changed);
    this.#columns = new Columns(kept, changed);
    this.#saving = new Saving(() => this.#kept);
    this.#prompt.value = kept.draft;
    byId("new", HTMLButtonElement).addEventListener("click", () => {
      this.#replace([], "A new conversation has begun.");
      this.#focusPrompt();
    });
    this.#probabilities.addEventListener("click", () => {
      this.#told = !this.#told;
      const isNew = this.#told && this.#turns.length > 0;
      this.#say(isNew ? "Answers that are made from now on have probabilities." : "");
      this.#show();
    });
    this.#undo.addEventListener("click", () => this.#takeBack());
    this.#stop.addEventListener("click", () => this.#stopAll());
    byId("composer", HTMLFormElement).addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#sendPrompt();
    });
    this.#prompt.addEventListener("keydown", (event) => {
      if (!isEnter(event)) return;
      event.preventDefault();
      void this.#sendPrompt();
    });
    addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !event.isComposing && !hideAlternatives()) this.#stopAll();
    });
    addEventListener("pagehide", () => {
      // The browser ends them then, which is no fault of the server's.
      this.#stopAll();
      keep(this.#kept);
    });
    document.addEventListener("visibilitychange", () => keep(this.#kept));
    this.#show();
    void this.#connect();
  }

  get #kept(): Kept {
    return {
      turns: this.#turns,
      draft: this.#prompt.value,
      models: this.#columns.all,
      compares: this.#columns.compares,
      probabilities: this.#told,
      settings: this.#settings.values,
    };
  }

  /** Learns what is served. @returns Whether it is known. */
  async #connect(): Promise<boolean> {
    try {
      this.#columns.offer(await this.#api.models());
      this.#say("");
      this.#show();
      if (this.#keyForm.done()) this.#focusPrompt();
      return true;
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      const isOfKey = error instanceof KeyNeeded;
      this.#say(isOfKey ? "" : error.message);
      if (isOfKey) this.#keyForm.ask(error.message);
      return false;
    }
  }

  /** @throws {Problem} where it can't be a key. */
  #useKey(key: string): void {
    this.#api.useKey(key);
    void this.#connect();
  }

  /** Says something about the page, and whether it can be taken back. */
  #say(text: string, before?: Turn[]): void {
    setText(this.#notice, text);
    this.#before = before;
    this.#undo.hidden = before === undefined;
  }

  /** Shows everything as it is now, and keeps it. */
  #show(): void {
    const shown = { models: this.#columns.shown, probabilities: this.#told };
    for (const view of this.#views.splice(this.#turns.length)) view.item.remove();
    for (const [i, turn] of this.#turns.entries()) {
      if (this.#views[i] === undefined) {
        this.#views[i] = this.#viewOf(i);
        this.#turnList.append(this.#views[i].item);
      }
      this.#views[i].update(turn, shown);
    }
    const runs = this.#running.size > 0;
    const hadFocus = document.activeElement === this.#stop;
    this.#send.hidden = runs;
    this.#stop.hidden = !runs;
    if (!runs && hadFocus) this.#focusPrompt();
    byId("empty", HTMLElement).hidden = this.#turns.length > 0;
    this.#probabilities.setAttribute("aria-pressed", String(this.#told));
    const kept = this.#kept;
    this.#saving.update(kept);
    if (!runs && !keep(kept)) this.#say("The conversation is too long to be kept over a reload.");
  }

  #viewOf(i: number): TurnView {
    return new TurnView({
      edit: (prompt) => this.#ask(i, prompt),
      ask: (column) => void this.#askAgain(i, column),
      stop: (answer) => {
        this.#running.get(answer)?.abort();
        this.#focusPrompt();
      },
      correct: (column, text) => {
        const { models } = this.#kept;
        const model = this.#turns[i].answers[column]?.model ?? models[column];
        const answer: Answer = { model, text, state: "stop" };
        this.#replace(this.#withAnswer(i, column, answer), "The answer was changed.");
        this.#focusPrompt();
      },
    });
  }

  #withAnswer(i: number, column: number, answer: Answer): Turn[] {
    return this.#turns.map((turn, at) => {
      if (at !== i) return turn;
      const answers = this.#columns.all.map((_, own) =>
        own === column ? answer : turn.answers[own] ?? null
      );
      return { ...turn, answers };
    });
  }

  /** Puts other turns in the place of what was said, which can be taken back. */
  #replace(turns: Turn[], said: string): void {
    const before = this.#turns;
    this.#use(turns);
    this.#say(before.length > 0 ? said : "", before.length > 0 ? before : undefined);
    this.#show();
  }

  /** Goes on with other turns, and ends the answers that are in none of them. */
  #use(turns: Turn[]): void {
    this.#turns = turns;
    const kept = new Set(turns.flatMap(({ answers }) => answers));
    for (const [answer, controller] of this.#running) if (!kept.has(answer)) controller.abort();
  }

  #takeBack(): void {
    if (this.#before === undefined) return;
    this.#use(this.#before);
    this.#say("");
    this.#show();
    this.#focusPrompt();
  }

  #focusPrompt(): void {
    if (!TOUCH.matches) this.#prompt.focus();
  }

  #stopAll(): void {
    for (const controller of this.#running.values()) controller.abort();
  }

  /** How tokens are to be drawn; undefined where that is typed wrong, or it is not known yet what is served. */
  async #sampling(): Promise<Record<string, number> | undefined> {
    const sampling = this.#settings.sampling();
    const isKnown = sampling !== undefined &&
      (this.#columns.shown.length > 0 || await this.#connect());
    return isKnown ? sampling : undefined;
  }

  async #sendPrompt(): Promise<void> {
    const text = this.#prompt.value;
    if (text.trim() === "" || this.#running.size > 0) return;
    this.#prompt.value = "";
    if (await this.#ask(this.#turns.length, text)) this.#focusPrompt();
    else this.#prompt.value = text + this.#prompt.value;
  }

  /**
   * Asks the models that are shown, in the place of a turn and of all that came after it.
   *
   * @returns Whether they could be asked; what was typed is not lost otherwise.
   */
  async #ask(i: number, prompt: string): Promise<boolean> {
    const sampling = await this.#sampling();
    if (sampling === undefined) return false;
    const turns = [...this.#turns.slice(0, i), { prompt, answers: [] }];
    if (i < this.#turns.length) this.#replace(turns, "What came from here on was replaced.");
    else {
      this.#say("");
      this.#turns = turns;
    }
    this.#scrolling.follow();
    for (const column of this.#columns.shown.keys()) void this.#answer(i, column, sampling);
    return true;
  }

  /** Asks the model of a column, anew where it has answered: then what came after it goes. */
  async #askAgain(i: number, column: number): Promise<void> {
    const sampling = await this.#sampling();
    if (sampling === undefined) return;
    if (this.#turns[i].answers[column]) {
      this.#replace(this.#turns.slice(0, i + 1), "The answer was replaced.");
    }
    const answered = this.#answer(i, column, sampling);
    this.#stop.focus();
    await answered;
  }

  /** Has a column's model answer a turn. */
  async #answer(i: number, column: number, sampling: Record<string, number>): Promise<void> {
    const model = this.#columns.all[column], controller = new AbortController();
    const system = this.#settings.system, turn = this.#turns[i];
    const messages = [
      ...messagesOf(system, this.#turns.slice(0, i), column),
      { role: "user" as const, content: turn.prompt },
    ];
    const answer: Answer = { model, text: "", state: "running" };
    this.#turns = this.#withAnswer(i, column, answer);
    this.#running.set(answer, controller);
    this.#announcer.replaceChildren();
    this.#show();
    const began = performance.now(), view = this.#views[i];
    const request = { model, messages, sampling, told: this.#told ? ALTERNATIVES : 0 };
    let ended: AnswerPart["finished"];
    try {
      for await (const part of this.#api.answer(request, controller.signal)) {
        ended = part.finished ?? ended;
        add(answer, part, performance.now() - began);
        view.grow(column, this.#told);
      }
      answer.state = ended ?? "stop";
    } catch (error) {
      answer.state = controller.signal.aborted ? "stopped" : "failed";
      if (error instanceof Problem) answer.problem = error.message;
      else if (!controller.signal.aborted) throw error;
      if (error instanceof KeyNeeded) this.#keyForm.ask(error.message);
      if (error instanceof ModelGone) void this.#connect();
    } finally {
      this.#running.delete(answer);
      this.#show();
      const words = answer.problem ?? `${model} has answered: ${answer.text}`;
      this.#announcer.append(element("p", {}, words));
    }
  }
}

new Page();
