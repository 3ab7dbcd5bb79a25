/**
 * The models that are asked: one, or two side by side.
 *
 * @module
 */
import { byId, element } from "../../../http/page/elements.ts";
import type { Model } from "./api.ts";
import { COLUMNS } from "./conversation.ts";

/** The columns' part of the page. */
export class Columns {
  readonly #bar = byId("columns", HTMLElement);
  readonly #main = byId("conversation", HTMLElement);
  readonly #compare = byId("compare", HTMLButtonElement);
  readonly #selects = Array.from(
    { length: COLUMNS },
    (_, column) => byId(`model-${column}`, HTMLSelectElement),
  );
  #chosen: string[];
  #compares: boolean;

  /**
   * @param models What was chosen before a reload, by column.
   * @param changed Called when something else is chosen.
   */
  constructor(
    { models, compares }: { models: readonly string[]; compares: boolean },
    changed: () => void,
  ) {
    this.#chosen = [...models];
    this.#compares = compares;
    for (const [column, select] of this.#selects.entries()) {
      select.addEventListener("change", () => {
        this.#chosen[column] = select.value;
        changed();
      });
    }
    this.#compare.addEventListener("click", () => {
      this.#compares = !this.#compares;
      this.#show();
      changed();
    });
    this.#show();
  }

  /** Offers what is served; what was chosen stays where it still is. */
  offer(models: readonly Model[]): void {
    const ids = models.map(({ id }) => id);
    for (const [column, select] of this.#selects.entries()) {
      const chosen = this.#chosen[column] ?? "", first = ids[Math.min(column, ids.length - 1)];
      select.replaceChildren(
        ...models.map(({ id, parent }) =>
          element("option", { value: id }, parent === null ? id : `${id} (adapter)`)
        ),
      );
      select.value = ids.includes(chosen) ? chosen : first;
      this.#chosen[column] = select.value;
    }
  }

  get compares(): boolean {
    return this.#compares;
  }

  /** The model of each column, also of one that is not shown. */
  get all(): string[] {
    return [...this.#chosen];
  }

  /** The model of each column that is shown; empty before it is known what is served. */
  get shown(): string[] {
    return this.#chosen.slice(0, this.#compares ? COLUMNS : 1);
  }

  #show(): void {
    this.#compare.setAttribute("aria-pressed", String(this.#compares));
    this.#main.classList.toggle("compares", this.#compares);
    const [first, second] = this.#bar.querySelectorAll("label");
    second.hidden = !this.#compares;
    const name = first.querySelector("span");
    if (name !== null) name.textContent = this.#compares ? "First model" : "Model";
  }
}
