/**
 * The tokens of an answer, each with how likely it was and what else could have come in its place: shown for the token
 * that the pointer or the keyboard is at.
 *
 * @module
 */
import { byId, element } from "../../../http/page/elements.ts";
import type { Likely, Token } from "./conversation.ts";

/** Likeliest tokens that are asked for. */
export const ALTERNATIVES = 5;

/** Least probabilities of how tokens are marked: those that are surer than the first are not. */
const MARKS = [0.9, 0.5, 0.2, 0.05, 0];
/** Milliseconds in which the pointer may go from a token to what is shown of it. */
const GRACE = 200;
/** Pixels between a token, what is shown of it, and the window's edge. */
const GAP = 6;

/** A token's text in quotes, which show the spaces in it. */
function quoted(text: string): string {
  return text === "" ? "no text" : JSON.stringify(text);
}

/** A log-probability in percent. */
function percent(logprob: number): string {
  const share = 100 * Math.exp(logprob);
  return share < 0.1 ? "< 0.1 %" : `${share.toFixed(1)} %`;
}

function row({ text, logprob }: Likely, isChosen: boolean): HTMLElement {
  const bar = element("span", { class: "bar", "aria-hidden": "true" });
  bar.style.width = `${100 * Math.exp(logprob)}%`;
  const name = element("span", { class: "token" }, quoted(text));
  const children = [name, element("span", { class: "share" }, percent(logprob)), bar];
  return element("li", isChosen ? { class: "chosen" } : {}, ...children);
}

/** What is shown of one token at a time. */
class Alternatives {
  readonly #box = byId("alternatives", HTMLElement);
  #token: HTMLElement | undefined;
  #timer = 0;

  constructor() {
    this.#box.addEventListener("pointerenter", () => clearTimeout(this.#timer));
    this.#box.addEventListener("pointerleave", () => this.hideSoon());
    addEventListener("scroll", () => this.#place(), { passive: true, capture: true });
    addEventListener("resize", () => this.hide());
  }

  /** Shows what is known of a token. */
  show(place: HTMLElement, token: Token): void {
    clearTimeout(this.#timer);
    if (place === this.#token) return;
    this.hide();
    this.#token = place;
    const others = token.top.filter(({ text }) => text !== token.text);
    const all = [token, ...others].toSorted((a, b) => b.logprob - a.logprob);
    this.#box.replaceChildren(element("ol", {}, ...all.map((one) => row(one, one === token))));
    place.setAttribute("aria-describedby", this.#box.id);
    this.#box.showPopover();
    this.#place();
  }

  /** Hides it. @returns Whether something was shown. */
  hide(): boolean {
    clearTimeout(this.#timer);
    if (this.#token === undefined) return false;
    this.#token.removeAttribute("aria-describedby");
    this.#token = undefined;
    this.#box.hidePopover();
    return true;
  }

  /** Hides it, unless the pointer comes to it. */
  hideSoon(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.hide(), GRACE);
  }

  /** Puts it below its token, or above it where there is no room. */
  #place(): void {
    const line = this.#token?.getClientRects()[0];
    if (line === undefined) return;
    const { width, height } = this.#box.getBoundingClientRect();
    const below = line.bottom + GAP;
    const top = below + height < innerHeight ? below : line.top - GAP - height;
    const left = Math.max(GAP, Math.min(line.left, document.body.clientWidth - width - GAP));
    this.#box.style.top = `${top}px`;
    this.#box.style.left = `${left}px`;
  }
}

let alternatives: Alternatives | undefined;

/** The one of the page. */
function theAlternatives(): Alternatives {
  return alternatives ??= new Alternatives();
}

/** Hides what is shown of a token. @returns Whether something was. */
export function hideAlternatives(): boolean {
  return alternatives?.hide() ?? false;
}

/** A text by its tokens, of which one is in the order of focus, and arrows lead to the others. */
export class TokenText {
  readonly list: HTMLElement;
  readonly #tokens: Token[] = [];

  /** @param name What the list is called. */
  constructor(name: string) {
    const role = { role: "listbox", "aria-orientation": "horizontal" };
    this.list = element("div", { class: "tokens", dir: "auto", "aria-label": name, ...role });
    this.list.addEventListener("pointerover", ({ target }) => this.#look(target));
    this.list.addEventListener("pointerleave", () => theAlternatives().hideSoon());
    this.list.addEventListener("focusin", ({ target }) => this.#look(target));
    this.list.addEventListener("focusout", () => theAlternatives().hide());
    this.list.addEventListener("keydown", (event) => this.#move(event));
    this.list.addEventListener("click", ({ target }) => {
      if (this.#tokens[this.#place(target)] !== undefined) (target as HTMLElement).focus();
    });
  }

  /** Shows tokens that have come. */
  update(tokens: readonly Token[]): void {
    for (const token of tokens.slice(this.#tokens.length)) {
      const share = Math.exp(token.logprob), mark = MARKS.findIndex((least) => share >= least);
      const text = token.text === "" ? "∅" : token.text.replaceAll("\n", "↵\n");
      const tabindex = this.#tokens.length === 0 ? "0" : "-1";
      this.list.append(element("span", { role: "option", class: `mark${mark}`, tabindex }, text));
      this.#tokens.push(token);
    }
  }

  #place(target: EventTarget | null): number {
    return target instanceof Element ? [...this.list.children].indexOf(target) : -1;
  }

  #look(target: EventTarget | null): void {
    const token = this.#tokens[this.#place(target)];
    if (token !== undefined) theAlternatives().show(target as HTMLElement, token);
  }

  #move(event: KeyboardEvent): void {
    const place = this.#place(event.target), last = this.#tokens.length - 1;
    const to = { ArrowLeft: place - 1, ArrowRight: place + 1, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = this.list.children[Math.max(0, Math.min(last, to))];
    if (!(next instanceof HTMLElement)) return;
    this.list.children[place]?.setAttribute("tabindex", "-1");
    next.tabIndex = 0;
    next.focus();
  }
}
