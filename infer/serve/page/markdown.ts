/**
 * Markdown of unknown origin as elements. What a model writes as HTML stays text; what the sanitiser does not know goes.
 *
 * @module
 */
import DOMPurify from "dompurify";
import { Marked } from "marked";
import { element } from "../../../http/page/elements.ts";

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

/** A text's elements. */
export function markdown(text: string): DocumentFragment {
  level = LEVEL;
  const fragment = DOMPurify.sanitize(marked.parse(text, { async: false }), {
    ALLOWED_TAGS: TAGS,
    ALLOWED_ATTR: ["href", "start"],
    ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
    RETURN_DOM_FRAGMENT: true,
  });
  for (const code of fragment.querySelectorAll("pre")) scrolling("Code", code);
  for (const table of fragment.querySelectorAll("table")) scrolling("Table", table);
  return fragment;
}
