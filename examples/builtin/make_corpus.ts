/**
 * Writes what the built-in model is made from:
 *
 *     deno run --allow-read --allow-write examples/builtin/make_corpus.ts CORPUS.jsonl [DOCUMENTS]
 *
 * CORPUS.jsonl gets {"text": …} documents for pretraining, and CORPUS.jsonl.txt the same text plain,
 * as spm_train wants it; instructions.json (the training set) and held_out.json (prompts that training never sees, with
 * the answers expected) are written beside this script. The same seed gives the same files.
 */
import { drawInstructions, type Sample } from "./instructions.ts";
import { Random } from "./random.ts";
import { writeText } from "./texts.ts";

const SEED = 7;
const [corpusPath, documents = "25000"] = Deno.args;
if (corpusPath === undefined || !/^[1-9][0-9]*$/.test(documents)) {
  console.error("usage: make_corpus.ts CORPUS.jsonl [DOCUMENTS]");
  Deno.exit(2);
}

const words = (texts: Iterable<string>) => {
  let count = 0;
  for (const text of texts) count += text.split(/\s+/).length;
  return count;
};

const random = new Random(SEED);
const texts = new Set<string>();
while (texts.size < Number(documents)) {
  texts.add(writeText(random, texts.size / Number(documents)));
}
await Deno.writeTextFile(
  corpusPath,
  Array.from(texts, (text) => JSON.stringify({ text }) + "\n").join(""),
);
await Deno.writeTextFile(`${corpusPath}.txt`, Array.from(texts, (text) => text + "\n").join(""));
console.log(`${corpusPath}: ${texts.size} documents, ${words(texts)} words`);

const { train, heldOut } = drawInstructions(
  new Random(SEED + 1),
  { value: 130, bird: 50, names: 30, species: 60, opposite: 40 },
  { value: 4, bird: 2, names: 2, species: 2, opposite: 2 },
);
for (const [name, samples] of [["instructions.json", train], ["held_out.json", heldOut]] as const) {
  const lines = samples.map((sample: Sample) => "  " + JSON.stringify(sample));
  const path = new URL(name, import.meta.url);
  await Deno.writeTextFile(path, `[\n${lines.join(",\n")}\n]\n`);
  const inOutputs = words(samples.map((sample) => sample.output));
  console.log(`${name}: ${samples.length} samples, ${inOutputs} words in the outputs`);
}
