/**
 * A conversation as a file: all of it as JSON, or what a column answered as a line of a training file.
 *
 * @module
 */
import { byId, element } from "../../../http/page/elements.ts";
import { COLUMNS, sampleOf } from "./conversation.ts";
import type { Kept } from "./kept.ts";

/** Gives a text to the browser to save. */
function save(name: string, type: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  element("a", { href: url, download: name }).click();
  // The browser has begun to read it by then.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** All of a conversation, to be read by programs. */
function wholeConversation({ turns, settings: { system, ...sampling } }: Kept): string {
  const given = Object.entries(sampling).filter(([, value]) => value !== "");
  const numbers = Object.fromEntries(given.map(([name, value]) => [name, Number(value)]));
  return `${JSON.stringify({ system, sampling: numbers, turns }, null, 2)}\n`;
}

/** The part of the page that saves. */
export class Saving {
  readonly #samples = Array.from(
    { length: COLUMNS },
    (_, column) => byId(`save-sample-${column}`, HTMLButtonElement),
  );

  /** @param kept What is to be saved, as it is then. */
  constructor(kept: () => Kept) {
    byId("save", HTMLButtonElement).addEventListener("click", () => {
      save("conversation.json", "application/json", wholeConversation(kept()));
    });
    for (const [column, button] of this.#samples.entries()) {
      button.addEventListener("click", () => {
        const { turns, settings, models } = kept();
        const name = models[column].replace(/[^\w.-]+/g, "-");
        save(`${name}.jsonl`, "application/jsonl", sampleOf(settings.system, turns, column) ?? "");
      });
    }
  }

  /** Offers what there is to save. */
  update({ turns, settings, models, compares }: Kept): void {
    byId("save", HTMLButtonElement).disabled = turns.length === 0;
    for (const [column, button] of this.#samples.entries()) {
      button.hidden = column > 0 && !compares;
      button.disabled = sampleOf(settings.system, turns, column) === undefined;
      button.textContent = compares ? `Training sample of ${models[column]}` : "Training sample";
    }
  }
}
