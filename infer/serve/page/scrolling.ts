/**
 * The end of the conversation: it stays in view while a person reads there, and a button leads back to it.
 *
 * @module
 */
import { byId } from "../../../http/page/elements.ts";

/** Pixels from the end of the page at which a person reads what comes. */
const AT_END = 80;

/** Keeps the end in view. */
export class Scrolling {
  readonly #toEnd = byId("to-end", HTMLButtonElement);
  #follows = true;

  /**
   * @param list What grows.
   * @param grows Whether answers are being made.
   * @param returned Called when a person has gone back to the end by the button.
   */
  constructor(list: HTMLElement, grows: () => boolean, returned: () => void) {
    addEventListener("scroll", () => {
      this.#follows = this.#isAtEnd;
      this.#toEnd.hidden = this.#follows;
    }, { passive: true });
    this.#toEnd.addEventListener("click", () => {
      this.#scrollToEnd();
      returned();
    });
    new ResizeObserver(() => {
      if (this.#follows && grows()) this.#scrollToEnd();
      this.#toEnd.hidden = this.#isAtEnd;
    }).observe(list);
  }

  /** Keeps the end in view from now on, wherever a person has scrolled. */
  follow(): void {
    this.#follows = true;
  }

  get #isAtEnd(): boolean {
    return innerHeight + scrollY > document.documentElement.scrollHeight - AT_END;
  }

  #scrollToEnd(): void {
    scrollTo(0, document.documentElement.scrollHeight);
  }
}
