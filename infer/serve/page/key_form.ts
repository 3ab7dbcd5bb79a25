/**
 * The form that asks for the server's key, with what is wrong with one beside its field.
 *
 * @module
 */
import { byId, setText } from "../../../http/page/elements.ts";
import { Problem } from "./api.ts";

/** The form of the key. */
export class KeyForm {
  readonly #form = byId("key-form", HTMLFormElement);
  readonly #field = byId("key", HTMLInputElement);
  readonly #problem = byId("key-problem", HTMLElement);

  /** @param use Uses a key. @throws {Problem} where it can't be one. */
  constructor(use: (key: string) => void) {
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      try {
        use(this.#field.value);
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        this.ask(error.message);
      }
    });
    this.#field.addEventListener("input", () => this.#say(""));
  }

  /** Asks for a key, and says why. */
  ask(problem: string): void {
    this.#form.hidden = false;
    this.#say(problem);
    this.#field.focus();
  }

  /** The key is right, or none is wanted. @returns Whether one was asked for. */
  done(): boolean {
    const wasAsked = !this.#form.hidden;
    this.#form.hidden = true;
    this.#field.value = "";
    this.#say("");
    return wasAsked;
  }

  #say(problem: string): void {
    setText(this.#problem, problem);
    if (problem === "") this.#field.removeAttribute("aria-invalid");
    else this.#field.setAttribute("aria-invalid", "true");
  }
}
