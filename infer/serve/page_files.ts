/**
 * The page's own files, and those of marked and DOMPurify, as the packages have them.
 *
 * @module
 */
import dompurifyScript from "dompurify" with { type: "text" };
import markedScript from "marked" with { type: "text" };
import { type PageFile, pageFiles } from "../../http/page_files.ts";

/** Every file by its path. */
export function servedPage(): ReadonlyMap<string, PageFile> {
  return pageFiles({
    folder: new URL("./page/", import.meta.url),
    names: [
      "index.html",
      "icon.svg",
      "style.css",
      "answers.css",
      "answer_view.ts",
      "api.ts",
      "app.ts",
      "columns.ts",
      "conversation.ts",
      "copying.ts",
      "editor.ts",
      "events.ts",
      "kept.ts",
      "key_form.ts",
      "markdown.ts",
      "saving.ts",
      "scrolling.ts",
      "settings.ts",
      "tokens.ts",
      "turn_view.ts",
    ],
    packages: { "dompurify.js": dompurifyScript, "marked.js": markedScript },
  }, "/page/");
}
