/**
 * System prompt and sampling: what a person sets for all answers to come.
 *
 * @module
 */
import { byId } from "../../../http/page/elements.ts";

/** The fields of sampling, which the API knows by the same names. */
const FIELDS = ["temperature", "top_p", "top_k", "min_p", "max_tokens", "seed"]
  .concat("repetition_penalty", "frequency_penalty", "presence_penalty");

/** Narrower windows have no room for settings beside the conversation. */
const WIDE = matchMedia("(min-width: 1000px)");

/** The settings' part of the page. */
export class Settings {
  readonly #form = byId("settings", HTMLFormElement);
  readonly #button = byId("settings-button", HTMLButtonElement);
  readonly #system = byId("system", HTMLTextAreaElement);
  readonly #fields = new Map(FIELDS.map((name) => [name, byId(name, HTMLInputElement)]));

  /** @param changed Called when something else is set. */
  constructor(kept: Readonly<Record<string, string>>, changed: () => void) {
    for (const [name, field] of this.#all) field.value = kept[name] ?? "";
    this.#form.addEventListener("input", changed);
    this.#form.addEventListener("submit", (event) => event.preventDefault());
    this.#button.addEventListener("click", () => this.#show(this.#form.hidden !== false));
    byId("defaults", HTMLButtonElement).addEventListener("click", () => {
      for (const field of this.#fields.values()) field.value = "";
      changed();
    });
    WIDE.addEventListener("change", () => this.#show(WIDE.matches));
    this.#show(WIDE.matches);
  }

  get system(): string {
    return this.#system.value;
  }

  /** What is typed in each field, by its name. */
  get values(): Record<string, string> {
    return Object.fromEntries(Array.from(this.#all, ([name, { value }]) => [name, value]));
  }

  /** Fields of a request; undefined where one is wrong, which is shown. */
  sampling(): Record<string, number> | undefined {
    if (!this.#form.checkValidity()) {
      this.#show(true);
      this.#form.reportValidity();
      return undefined;
    }
    const given = [...this.#fields].filter(([, { value }]) => value !== "");
    return Object.fromEntries(given.map(([name, { valueAsNumber }]) => [name, valueAsNumber]));
  }

  get #all(): Map<string, HTMLInputElement | HTMLTextAreaElement> {
    return new Map<string, HTMLInputElement | HTMLTextAreaElement>([...this.#fields, [
      "system",
      this.#system,
    ]]);
  }

  #show(shown: boolean): void {
    this.#form.hidden = !shown;
    this.#button.setAttribute("aria-expanded", String(shown));
  }
}
