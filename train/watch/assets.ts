/**
 * The page's own files, and uPlot's, as the package has them. Nothing of them is secret, and nothing else is served.
 *
 * @module
 */
import { stripTypeScriptTypes } from "node:module";
import uplotStyle from "uplot/dist/uPlot.min.css" with { type: "text" };
import uplotScript from "uplot/dist/uPlot.esm.js" with { type: "text" };

/** A file as a browser gets it. */
export interface Asset {
  readonly type: string;
  readonly text: string;
}

const SCRIPT = "text/javascript; charset=utf-8", STYLE = "text/css; charset=utf-8";

/** The page's files by their paths. They are read, as an import would be checked against the server's types. */
const FILES = {
  "/": "index.html",
  "/icon.svg": "icon.svg",
  "/style.css": "style.css",
  "/api.ts": "api.ts",
  "/app.ts": "app.ts",
  "/chart.ts": "chart.ts",
  "/elements.ts": "elements.ts",
  "/one_run.ts": "one_run.ts",
  "/run_list.ts": "run_list.ts",
  "/view.ts": "view.ts",
} as const;

/** Types by the end of a name. */
const TYPES: Readonly<Record<string, string>> = {
  html: "text/html; charset=utf-8",
  svg: "image/svg+xml",
  css: STYLE,
  ts: SCRIPT,
};

/** A module as browsers take it: without types, and with uPlot by its address. */
function script(source: string): string {
  return stripTypeScriptTypes(source).replace(/from "uplot"/, 'from "./uplot.js"');
}

/** Every file by its path. */
export function assets(): ReadonlyMap<string, Asset> {
  const all = new Map<string, Asset>([
    ["/uplot.css", { type: STYLE, text: uplotStyle }],
    ["/uplot.js", { type: SCRIPT, text: uplotScript }],
  ]);
  for (const [path, name] of Object.entries(FILES)) {
    const text = Deno.readTextFileSync(new URL(`./page/${name}`, import.meta.url));
    const type = TYPES[name.slice(name.lastIndexOf(".") + 1)];
    all.set(path, { type, text: type === SCRIPT ? script(text) : text });
  }
  return all;
}
