/**
 * A text that a person changes in its place.
 *
 * @module
 */
import { element } from "../../../http/page/elements.ts";

/** Whether a key is Enter that ends a text, and no Enter of an input method, which ends a word. */
export function isEnter(event: KeyboardEvent): boolean {
  // Safari tells of an input method's last key after its end, by its number alone.
  const composes = event.isComposing || event.keyCode === 229;
  return event.key === "Enter" && !event.shiftKey && !composes;
}

/** What is edited, and what becomes of it. */
export interface Editing {
  readonly text: string;
  /** What the text is, and what its change is called. */
  readonly label: string;
  readonly action: string;
  /** Called with a text that is not empty. @returns Whether it was taken; it stays in its field otherwise. */
  readonly changed: (text: string) => Promise<boolean> | boolean;
  /** Called in either case, at the end. */
  readonly done: () => void;
}

/** A form with a text in it, for the place where the text was; it wants the focus once it is there. */
export function editor({ text, label, action, changed, done }: Editing): HTMLFormElement {
  const field = element("textarea", {
    class: "field",
    rows: "2",
    dir: "auto",
    "aria-label": label,
  });
  const cancel = element("button", { type: "button" }, "Cancel");
  const submit = element("button", { class: "strong" }, action);
  const form = element(
    "form",
    { class: "editor" },
    field,
    element("div", { class: "buttons" }, submit, cancel),
  );
  field.value = text;
  cancel.addEventListener("click", done);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (field.value.trim() === "") field.focus();
    else if (await changed(field.value)) done();
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      event.stopPropagation();
      done();
    } else if (event.target === field && isEnter(event)) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  return form;
}
