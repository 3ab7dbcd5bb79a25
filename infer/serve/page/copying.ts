/**
 * Buttons that copy a text.
 *
 * @module
 */
import { element, setText } from "../../../http/page/elements.ts";

/** Milliseconds for which a button says whether it has copied. */
const COPIED = 2000;

/** Whether there is something to copy to: a browser lets pages copy that come from this machine, or by TLS. */
export const COPIES = isSecureContext;

/** A button of a name that copies a text, as it is then. */
export function copyButton(name: string, text: () => string): HTMLButtonElement {
  const button = element("button", { type: "button", class: "quiet" }, name);
  button.addEventListener("click", async () => {
    // A person may have forbidden it.
    const copied = await navigator.clipboard.writeText(text()).then(() => true, () => false);
    setText(button, copied ? "Copied" : "Not copied");
    setTimeout(() => setText(button, name), COPIED);
  });
  return button;
}
