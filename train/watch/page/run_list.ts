/**
 * The table of runs.
 *
 * @module
 */
import { byId, element, setText } from "../../../http/page/elements.ts";
import { clock, short, swatch } from "./marks.ts";
import type { RunReport, RunStatus } from "./view.ts";

/** States in words. */
const STATES: Record<RunStatus, string> = {
  waiting: "no step yet",
  running: "running",
  stopping: "asked to stop",
  silent: "silent",
  finished: "finished",
  missing: "folder is gone",
};

/** What stands in the cells after a run's name, by the heading. */
const CELLS: Record<string, (run: RunReport) => string> = {
  State: ({ status, age, unreadable }) => {
    const text = status === "silent" && age !== null ? `silent for ${clock(age)}` : STATES[status];
    return unreadable === 0 ? text : `${text}, ${unreadable} lines unreadable`;
  },
  Step: ({ step }) => String(step),
  Epoch: ({ epoch }) => epoch === null ? "–" : epoch.toFixed(2),
  Loss: ({ loss }) => short(loss),
  "Held-out loss": ({ evaluations }) => short(evaluations.at(-1)?.loss ?? null),
  "Tokens/s": ({ tokens, seconds }) => seconds > 0 ? String(Math.round(tokens / seconds)) : "–",
  Memory: ({ memory }) => memory === null ? "–" : `${short(memory.total)} MB`,
  Skipped: ({ skipped }) => String(skipped),
  Time: ({ seconds }) => clock(seconds),
};

/** Whether a run may be stopped. */
const goesOn = ({ status }: RunReport) => ["waiting", "running", "silent"].includes(status);

/** A run's row, whose texts change and whose elements stay: a button keeps the focus. */
class Row {
  readonly row: HTMLTableRowElement;
  readonly box = element("input", { type: "checkbox", checked: "" });
  readonly #cells = new Map<string, HTMLTableCellElement>();
  readonly #stop: HTMLButtonElement;

  constructor(run: RunReport, changed: () => void, stop: (run: RunReport) => void) {
    this.#stop = element("button", { type: "button", class: "danger" }, "Stop…");
    this.#stop.setAttribute("aria-label", `Stop ${run.name}`);
    this.#stop.addEventListener("click", () => stop(run));
    this.box.addEventListener("change", changed);
    for (const label of Object.keys(CELLS)) {
      this.#cells.set(label, element("td", { role: "cell", "data-label": label }));
    }
    this.row = element(
      "tr",
      { role: "row" },
      element(
        "th",
        { role: "rowheader", scope: "row" },
        element("label", {}, this.box, swatch(run.id), run.name),
      ),
      ...this.#cells.values(),
      element("td", { role: "cell" }, this.#stop),
    );
  }

  update(run: RunReport): void {
    for (const [label, cell] of this.#cells) setText(cell, CELLS[label](run));
    this.#stop.hidden = !goesOn(run);
  }
}

/** The table, with a box for each run that says whether the charts show it. */
export class RunList {
  readonly #body = byId("runs", HTMLTableSectionElement);
  readonly #rows = new Map<number, Row>();
  readonly #changed: () => void;
  readonly #stop: (run: RunReport) => void;

  /**
   * @param changed Called when other runs are to be shown.
   * @param stop Called when a run is to be stopped.
   */
  constructor(changed: () => void, stop: (run: RunReport) => void) {
    this.#changed = changed;
    this.#stop = stop;
  }

  update(runs: readonly RunReport[]): void {
    for (const run of runs) {
      let row = this.#rows.get(run.id);
      if (row === undefined) {
        row = new Row(run, this.#changed, this.#stop);
        this.#rows.set(run.id, row);
        this.#body.append(row.row);
      }
      row.update(run);
    }
  }

  /** Whether the charts show a run. */
  shows({ id }: Pick<RunReport, "id">): boolean {
    return this.#rows.get(id)?.box.checked ?? true;
  }
}
