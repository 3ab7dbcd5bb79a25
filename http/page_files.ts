/**
 * The files of a page, as a browser gets them. Nothing of them is secret.
 *
 * @module
 */
import { stripTypeScriptTypes } from "node:module";

/** A file as a browser gets it. */
export interface PageFile {
  readonly type: string;
  readonly text: string;
}

/** What a page is made of. */
export interface PageParts {
  /** The folder of its own files: `new URL("./page/", import.meta.url)`. */
  readonly folder: URL;
  /** Names of its own files. They are read, as an import would be checked against the server's types. */
  readonly names: readonly string[];
  /** Files of npm packages by the names that a browser knows them by; `x.js` is what its modules import as `x`. */
  readonly packages: Readonly<Record<string, string>>;
}

/** What pages have in common lies in a folder that modules find from theirs, three folders deep. */
const COMMON = new URL("./page/", import.meta.url), COMMON_NAMES = ["base.css", "elements.ts"];

/** Where a browser finds the common files: above the root of a server is its root. */
const COMMON_PATH = "/http/page/";

/** The page itself, which is found at the root. */
const INDEX = "index.html";

const SCRIPT = "text/javascript; charset=utf-8";

/** Types by the end of a name. */
const TYPES: Readonly<Record<string, string>> = {
  html: "text/html; charset=utf-8",
  svg: "image/svg+xml",
  css: "text/css; charset=utf-8",
  js: SCRIPT,
  ts: SCRIPT,
};

/** A module as browsers take it: without types, and with packages by their addresses. */
function script(source: string, packages: readonly string[]): string {
  return stripTypeScriptTypes(source).replace(
    /(?<=^import [^;]*)"([\w-]+)"/gm,
    (written, name) => packages.includes(`${name}.js`) ? `"./${name}.js"` : written,
  );
}

function pageFile(name: string, text: string, packages: readonly string[]): PageFile {
  const end = name.slice(name.lastIndexOf(".") + 1);
  return { type: TYPES[end], text: end === "ts" ? script(text, packages) : text };
}

/**
 * The files of a page by their paths on the server.
 *
 * @param base Where the files beside the page are, its own and those of packages: `/`, or a folder.
 */
export function pageFiles(
  { folder, names, packages }: PageParts,
  base: string,
): ReadonlyMap<string, PageFile> {
  const all = new Map<string, PageFile>(), known = Object.keys(packages);
  const read = (from: URL, path: string, name: string) => {
    const text = Deno.readTextFileSync(new URL(name, from));
    all.set(name === INDEX ? "/" : `${path}${name}`, pageFile(name, text, known));
  };
  for (const [name, text] of Object.entries(packages)) {
    // A browser's tools would ask for the map that is not here.
    all.set(`${base}${name}`, pageFile(name, text.replace(/^\/\/# sourceMappingURL=.*$/m, ""), []));
  }
  for (const name of names) read(folder, base, name);
  for (const name of COMMON_NAMES) read(COMMON, COMMON_PATH, name);
  return all;
}
