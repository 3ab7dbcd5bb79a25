/**
 * The page's own files, and uPlot's, as the package has them. Nothing else is served.
 *
 * @module
 */
import uplotStyle from "uplot/dist/uPlot.min.css" with { type: "text" };
import uplotScript from "uplot/dist/uPlot.esm.js" with { type: "text" };
import { type PageFile, pageFiles } from "../../http/page_files.ts";

/** Every file by its path. */
export function assets(): ReadonlyMap<string, PageFile> {
  return pageFiles({
    folder: new URL("./page/", import.meta.url),
    names: [
      "index.html",
      "icon.svg",
      "style.css",
      "api.ts",
      "app.ts",
      "chart.ts",
      "marks.ts",
      "one_run.ts",
      "run_list.ts",
      "view.ts",
    ],
    packages: { "uplot.css": uplotStyle, "uplot.js": uplotScript },
  }, "/");
}
