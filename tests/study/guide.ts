/** The study guide as its tests read it: quoted blocks, and the numbers in what is left. */
import { join } from "node:path";
import { FACTS } from "../../examples/study/facts.ts";
import { SOURCES } from "../../examples/study/sources.ts";
import { ROOT } from "../../scripts/compile.ts";

/** The guide's files, from the project's folder. */
export const CHAPTERS: string[] = [
  "README",
  "llms",
  "gradient_accumulation",
  "gradient_checkpointing",
  "lora",
  "mixed_precision",
  "quantization",
].map((name) => `docs/study/${name}.md`);

/** A chapter's text. */
export function chapter(path: string): string {
  return Deno.readTextFileSync(join(ROOT, path));
}

const FENCE = /^( *)```text (examples\/study\/[^\n]+)\n([^]*?)^\1```$/gm;

/** A block that quotes an example: what is behind the fence's `text`, and its lines. */
export interface Quotation {
  example: string;
  lines: string[];
}

/** The blocks of a text that quote an example. */
export function quotations(text: string): Quotation[] {
  return [...text.matchAll(FENCE)].map(([, indent, example, body]) => ({
    example,
    lines: body.split("\n").slice(0, -1).map((line) => line.slice(indent.length)),
  }));
}

/** Lines and places whose numbers say nothing. */
const STRUCTURE = [
  /^#.*$/gm, // headings
  /^ *\d+\. /gm, // numbers of questions
  /```sh\n[^]*?```/g,
  /!?\[[^\]]*\]\([^)]*\)/g, // links, and pictures with their descriptions
];
/** Names of models and types. */
const NAMES = [
  /\b(GPT|T|C|f|fp|Top)-?\d+\b/g, // GPT-3, T5, C4, f16, fp32
  /\b(?:LLaMA|Llama)[- ]\d(?: \d+B)?\b/g, // Llama 2, LLaMA-2 7B
  /\bevery:\d\b/g,
  /\b(?:nf4|NF4|int8|Q8_0)\b/g,
];

const folded = (text: string) => text.replace(/\s+/g, " ");

/** Every number of a chapter that is neither quoted, nor a fact or a source, nor part of a name, with its surroundings. */
export function uncovered(text: string): string[] {
  let rest = text.replace(FENCE, "");
  for (const place of STRUCTURE) rest = rest.replace(place, " ");
  // A table's cells are padded to its widest one.
  rest = folded(rest);
  const phrases = [...FACTS.map(({ text }) => text), ...Object.values(SOURCES)].map(folded)
    .sort((a, b) => b.length - a.length);
  for (const phrase of phrases) rest = rest.replaceAll(phrase, " … ");
  for (const name of NAMES) rest = rest.replace(name, " ");
  return [...rest.matchAll(/\d/g)].map(({ index }) =>
    rest.slice(Math.max(0, index - 30), index + 20)
  );
}
