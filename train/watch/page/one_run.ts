/**
 * What is looked at of one run at a time: answers, memory, configuration.
 *
 * @module
 */
import { byId, element, setText } from "../../../http/page/elements.ts";
import type { Api } from "./api.ts";
import { short } from "./marks.ts";
import type { RunReport, SampleAnswer } from "./view.ts";

/** Gives a list of choices other entries, and keeps what is chosen where that is still there. */
function choose(select: HTMLSelectElement, entries: readonly (readonly [string, string])[]): void {
  const shown = [...select.options].map(({ value, text }) => [value, text]);
  if (JSON.stringify(shown) === JSON.stringify(entries)) return;
  const { value } = select;
  select.replaceChildren(...entries.map(([key, text]) => element("option", { value: key }, text)));
  if (entries.some(([key]) => key === value)) select.value = value;
}

function article({ prompt, answer, expected }: SampleAnswer): HTMLElement {
  const parts = [["Prompt", prompt], ["Answer", answer]];
  if (expected !== undefined) parts.push(["Expected", expected]);
  return element(
    "article",
    {},
    ...parts.flatMap(([title, text]) => [element("h4", {}, title), element("p", {}, text)]),
  );
}

/** The part of the page about one run. */
export class OneRun {
  readonly #api: Api;
  readonly #run = byId("one-run", HTMLSelectElement);
  readonly #evaluation = byId("evaluation", HTMLSelectElement);
  readonly #evaluationLabel = byId("evaluation-label", HTMLElement);
  readonly #samples = byId("samples", HTMLElement);
  readonly #memory = byId("memory", HTMLElement);
  readonly #configuration = byId("configuration", HTMLElement);
  /** What is shown: nothing is asked for or drawn twice. */
  #shown = "";
  /** Whether the last evaluation is to be shown also when a new one comes. */
  #follows = true;

  /** @param changed Called when a person chooses something else. */
  constructor(api: Api, changed: () => void) {
    this.#api = api;
    this.#run.addEventListener("change", () => {
      this.#follows = true;
      changed();
    });
    this.#evaluation.addEventListener("change", () => {
      this.#follows = this.#evaluation.selectedIndex === 0;
      changed();
    });
  }

  async update(runs: readonly RunReport[]): Promise<void> {
    choose(this.#run, runs.map(({ id, name }) => [String(id), name]));
    const run = runs.find(({ id }) => String(id) === this.#run.value);
    if (run === undefined) return;
    const steps = [...run.samples].reverse().map(String);
    choose(this.#evaluation, steps.map((step) => [step, step]));
    if (this.#follows) this.#evaluation.selectedIndex = 0;
    this.#evaluationLabel.hidden = steps.length === 0;
    const step = this.#evaluation.value, shown = `${run.id} ${run.version} ${step}`;
    if (shown === this.#shown) return;
    const configuration = await this.#api.configuration(run.id);
    const samples = step === "" ? [] : await this.#api.samples(run.id, Number(step));
    this.#shown = shown;
    setText(this.#configuration, configuration || "The run wrote none down.");
    this.#samples.replaceChildren(
      ...samples.length > 0
        ? samples.map(article)
        : [element("p", { class: "hint" }, "The run's evaluations have no answers.")],
    );
    this.#memory.replaceChildren(this.#memoryOf(run));
  }

  #memoryOf({ memory }: RunReport): HTMLElement {
    if (memory === null) {
      return element("p", { class: "hint" }, "The run has not written down its memory.");
    }
    const { total, categories } = memory, all = Object.entries({ ...categories, total });
    return element(
      "ul",
      {},
      ...all.map(([name, size]) => {
        const meter = { min: "0", max: String(total), value: String(size), "aria-label": name };
        return element(
          "li",
          {},
          element("span", {}, name),
          element("meter", meter),
          element("span", {}, `${short(size)} MB`),
        );
      }),
    );
  }
}
