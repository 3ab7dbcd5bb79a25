/** A process that opens a large data file and reads samples from everywhere in it, and prints what memory that took. */
import { readFileSync } from "node:fs";
import { loadDataset } from "../../../../model/text/data/dataset.ts";
import { loadTokenizer } from "../../../../model/text/tokenizer/load.ts";

/** The most memory that the process ever had, in MB. */
function peakMemory(): number {
  const [, kilobytes] = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8")) ??
    [];
  return Math.round(Number(kilobytes) / 1000);
}

const [data, vocabulary] = Deno.args, tokenizer = await loadTokenizer(vocabulary);
// What one sample takes is not the data's.
tokenizer.encode("one");
const before = peakMemory();
const limits = { tokenizerPath: vocabulary, max_length: 256, context: 4096 };
const list = await loadDataset(tokenizer, { data, ...limits, say: () => {}, streams: true });
for (let i = 0; i < 2000; i++) list.at(Math.floor(i * list.length / 2000));
console.log(JSON.stringify({ samples: list.length, before, peak: peakMemory() }));
