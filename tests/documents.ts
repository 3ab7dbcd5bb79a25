/** Markdown as the tests of the documentation read it: tables, links, headings and commands. */
import { dirname, join, normalize } from "node:path";
import { ROOT } from "../scripts/compile.ts";

/** A file's text, by its path from the project's folder. */
export const read = (path: string): string => Deno.readTextFileSync(join(ROOT, path));

/** Every Markdown file of a folder and of those in it. */
function markdownIn(folder: string): string[] {
  return [...Deno.readDirSync(join(ROOT, folder))].flatMap(({ name, isDirectory }) => {
    const path = `${folder}/${name}`;
    return isDirectory ? markdownIn(path) : name.endsWith(".md") ? [path] : [];
  });
}

/** What users and developers read. */
export const DOCUMENTS: string[] = ["README.md", "CONTRIBUTING.md", ...markdownIn("docs").sort()];

/** The text without its blocks of code, in which nothing is a link, a heading or a table. */
const withoutBlocks = (text: string) => text.replace(/^( *)```[^]*?^\1```$/gm, "");

/** A link's file, from the project's folder, and the heading that it leads to. */
export interface Link {
  target: string;
  anchor?: string;
}

/** The links and pictures of a document that lead to the repository's own files. */
export function linksOf(path: string): Link[] {
  return [...withoutBlocks(read(path)).matchAll(/\]\(([^)\s]+)\)/g)]
    .map(([, target]) => target)
    .filter((target) => !/^https?:/.test(target))
    .map((link) => {
      const [file, anchor] = link.split("#");
      return { target: file ? normalize(join(dirname(path), file)) : path, anchor };
    });
}

/** The names by which a document's headings are linked, as GitHub makes them. */
export function anchorsOf(path: string): string[] {
  return [...withoutBlocks(read(path)).matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
    heading.toLowerCase().replace(/[^\p{L}\p{N}\s_-]/gu, "").trim().replaceAll(" ", "-")
  );
}

/** The cells of a table's row. */
function cellsOf(line: string): string[] {
  return line.slice(1, -1).split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

/** A table's rows without its heading, and the paragraph before it. */
export interface Table {
  before: string;
  heading: string[];
  rows: string[][];
}

/** Every table of a document. */
export function tablesOf(path: string): Table[] {
  const paragraphs = withoutBlocks(read(path)).split(/\n\n+/);
  return paragraphs.flatMap((paragraph, i) => {
    if (!paragraph.startsWith("| ")) return [];
    const [heading, , ...rows] = paragraph.trimEnd().split("\n").map(cellsOf);
    return [{ before: (paragraphs[i - 1] ?? "").replace(/\s+/g, " "), heading, rows }];
  });
}

/** A text as it is in a program's help: without the marks of code. */
export const plain = (cell: string): string => cell.replaceAll("`", "");

/** The words of a line for a shell, quotation marks taken away. */
function words(line: string): string[] {
  return [...line.matchAll(/(?:[^\s"']|"[^"]*"|'[^']*')+/g)].map(([word]) =>
    word.replace(/"([^"]*)"|'([^']*)'/g, "$1$2")
  );
}

/** The commands of Lorikeet in a document's blocks for a shell, each as its words after `./lorikeet`. */
export function commandsOf(path: string): string[][] {
  return [...read(path).matchAll(/^( *)```sh\n([^]*?)^\1```$/gm)].flatMap(([, , block]) =>
    block.replace(/\\\n/g, " ").split("\n")
      .map((line) => words(line.replace(/(^|\s)#.*$/, "")))
      .filter(([first]) => first === "./lorikeet")
      .map(([, ...rest]) => rest)
  );
}

/** A flag as a command's help has it. */
export interface FlagHelp {
  /** `--model <path>`. */
  flag: string;
  /** `required`, a value, or nothing. */
  fallback: string;
  meaning: string;
}

/** The flags that a help lists. */
export function flagsOfHelp(help: string): FlagHelp[] {
  const flags: { flag: string; text: string }[] = [];
  for (const line of (help.split("\nOptions:\n")[1] ?? "").split("\n")) {
    const start = /^ {2}(--\S+(?: <[^>]*>)?)(?: {2,}(.*))?$/.exec(line);
    if (start) flags.push({ flag: start[1], text: start[2] ?? "" });
    else if (line.trim() && flags.length > 0) flags[flags.length - 1].text += ` ${line.trim()}`;
  }
  return flags.map(({ flag, text }) => {
    const [, meaning, required, value] =
      /^(.*?)(?: \((?:(required)|default: ?(.*?))\))?$/.exec(text.trim()) ?? [];
    return { flag, fallback: required ?? value ?? "", meaning };
  });
}
