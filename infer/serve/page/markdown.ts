/**
 * Markdown of unknown origin as elements. What a model writes as HTML stays text; what the sanitiser does not know goes.
 *
 * @module
 */
import DOMPurify from "dompurify";
import { Marked } from "marked";
import { element } from "../../../http/page/elements.ts";
import { copyButton } from "./copying.ts";

/** Headings of an answer come below those of the page, of which the lowest is of this level. */
const LEVEL = 3;

const TAGS = ["a", "blockquote", "br", "code", "del", "em", "hr", "li", "ol", "p", "pre", "strong"]
  .concat("h4", "h5", "h6", "ul", "table", "thead", "tbody", "tr", "th", "td");

const escapes: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
};

const escaped = (text: string) => text.replace(/[&<>"]/g, (character) => escapes[character]);

/** The level of the last heading. */
let level = LEVEL;

const marked = new Marked({
  gfm: true,
  renderer: {
    html: ({ text }) => escaped(text),
    heading({ tokens, depth }) {
      // Whoever goes from heading to heading misses none where a model leaves a level out.
      level = Math.min(6, LEVEL + depth, level + 1);
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>\n`;
    },
    // Whoever is asked for a picture learns that the answer was read.
    image: ({ href, text }) => `<a href="${escaped(href)}">${escaped(text || href)}</a>`,
    checkbox: ({ checked }) => checked ? "☑ " : "☐ ",
  },
});

DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.nodeName !== "A") return;
  node.setAttribute("target", "_blank");
  node.setAttribute("rel", "noopener noreferrer");
});

/** What is wider than the page scrolls by itself, also by the keyboard. */
function scrolling(name: string, wide: Element): void {
  const box = element("div", { class: "wide", tabindex: "0", role: "group", "aria-label": name });
  wide.replaceWith(box);
  box.append(wide);
}

/** What begins at the right where its own text does. */
const DIRECTED = "p, h4, h5, h6, ul, ol, blockquote, table";

/** A text's elements. @param copies Whether there is a button beside code that copies it. */
export function markdown(text: string, { copies }: { copies: boolean }): DocumentFragment {
  level = LEVEL;
  const fragment = DOMPurify.sanitize(marked.parse(text, { async: false }), {
    ALLOWED_TAGS: TAGS,
    ALLOWED_ATTR: ["align", "href", "start"],
    // Where these are not named, their values have to be addresses, too.
    ADD_URI_SAFE_ATTR: ["align", "start"],
    ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
    RETURN_DOM_FRAGMENT: true,
  });
  for (const directed of fragment.querySelectorAll(DIRECTED)) directed.setAttribute("dir", "auto");
  for (const code of fragment.querySelectorAll("pre")) {
    const box = element("div", { class: "code" });
    code.before(box);
    if (copies) box.append(copyButton("Copy code", () => code.textContent.replace(/\n$/, "")));
    box.append(code);
    scrolling("Code", code);
  }
  for (const table of fragment.querySelectorAll("table")) scrolling("Table", table);
  return fragment;
}
