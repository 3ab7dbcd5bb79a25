/**
 * Damaged GGUF files of models: one whole, and one in two files. Each ends in a UserError that names the file, or in a
 * valid load of every weight and of the tokenizer.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { weightShapes } from "../../model/families/config.ts";
import { openGguf } from "../../model/formats/gguf/weights.ts";
import { ggufTokenizer } from "../../model/text/tokenizer/gguf/gguf_tokenizer.ts";
import { readTemplates } from "../../model/formats/gguf/vocabulary.ts";
import { ggufBytes, value, type ValueToWrite } from "../model/formats/gguf/gguf_writer.ts";
import { ENTRIES, TENSORS } from "../model/formats/gguf/tiny_model.ts";
import { fuzz, mutateBytes, type Picker } from "./mutate.ts";

const split = (no: number): [string, ValueToWrite][] => [
  ["split.no", value.u16(no)],
  ["split.count", value.u16(2)],
  ["split.tensors.count", value.i32(TENSORS.length)],
];

const WHOLE = ggufBytes({ metadata: ENTRIES, tensors: TENSORS });
const [FIRST, SECOND] = ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"];
const PARTS = {
  [FIRST]: ggufBytes({ metadata: [...split(0), ...ENTRIES], tensors: TENSORS.slice(0, 4) }),
  [SECOND]: ggufBytes({ metadata: split(1), tensors: TENSORS.slice(4) }),
};
/** Where what describes the model ends, and its weights begin. */
const HEAD = WHOLE.length - TENSORS.reduce((sum, { data: { length } }) => sum + length, 0);

/** Reads a model, its weights by parts and in both forms. Numbers of four bits take less memory in the file than in a program. */
async function loadModel(path: string): Promise<void> {
  const source = openGguf(path), part = new Uint8Array(640);
  try {
    for (const name of weightShapes(source.config).keys()) {
      const { bytes } = source.info(name);
      for (let begin = 0; begin < bytes; begin += part.length) {
        await source.read(name, begin, part.subarray(0, bytes - begin));
      }
      for (const { bytes, read } of source.quantized(name)?.planes ?? []) {
        for (let begin = 0; begin < bytes; begin += part.length) {
          await read(begin, part.subarray(0, bytes - begin));
        }
      }
    }
  } finally {
    source.close();
  }
}

/** Most damage is done to what describes the model. */
function damaged(bytes: Uint8Array, pick: Picker): Uint8Array<ArrayBuffer> {
  if (pick(4) === 0) return mutateBytes(bytes, pick);
  const end = Math.min(bytes.length, HEAD);
  const head = mutateBytes(bytes.subarray(0, end), pick);
  const all = new Uint8Array(head.length + bytes.length - end);
  all.set(head);
  all.set(bytes.subarray(end), head.length);
  return all;
}

Deno.test("20,000 damaged GGUF files load whole or are refused in a sentence", async () => {
  const { loaded, problems } = await fuzz({
    seed: 20261129,
    rounds: 20_000,
    damage: (pick) => ({ "m.gguf": damaged(WHOLE, pick) }),
    load: (folder) => loadModel(join(folder, "m.gguf")),
    total: 8,
  });
  assert.ok(loaded > 1000 && loaded < 18_000, `${loaded} loaded`);
  assert.ok(problems.size > 80, `${problems.size}: ${[...problems].join("\n")}`);
});

Deno.test("1,000 damaged models in two GGUF files load whole or are refused in a sentence", async () => {
  const { loaded, problems } = await fuzz({
    seed: 20261130,
    rounds: 1000,
    damage: (pick) => {
      const name = [FIRST, SECOND][pick(2)] as keyof typeof PARTS;
      return { ...PARTS, [name]: damaged(PARTS[name], pick) };
    },
    load: (folder) => loadModel(join(folder, [FIRST, SECOND][0])),
    total: 8,
  });
  assert.ok(loaded > 50 && loaded < 900, `${loaded} loaded`);
  assert.ok(problems.size > 40, `${problems.size}: ${[...problems].join("\n")}`);
});

Deno.test("3,000 damaged GGUF files give a tokenizer and templates, or are refused in a sentence", async () => {
  const { loaded, problems } = await fuzz({
    seed: 20261131,
    rounds: 3000,
    damage: (pick) => ({ "m.gguf": damaged(WHOLE, pick) }),
    load: async (folder) => {
      const path = join(folder, "m.gguf");
      readTemplates(path);
      const { pipeline } = await ggufTokenizer(path);
      pipeline.encode("a b\nab</s>", "all");
    },
    total: 16,
  });
  assert.ok(loaded > 100 && loaded < 2800, `${loaded} loaded`);
  assert.ok(problems.size > 40, `${problems.size}: ${[...problems].join("\n")}`);
});
