/**
 * Damaged model folders of PyTorch's own files: shards in both formats, the index and config.json. Each ends in a
 * UserError that names the file, or in a valid load of every weight.
 */
import assert from "node:assert/strict";
import { weightShapes } from "../../model/families/config.ts";
import { openHuggingFace } from "../../model/formats/huggingface.ts";
import { fixturePath } from "../fixtures.ts";
import { ascii } from "../model/formats/pth_writer.ts";
import { fuzz, mutateBytes, mutateJson, type Picker } from "./mutate.ts";

const FIRST = "pytorch_model-00001-of-00002.bin", SECOND = "pytorch_model-00002-of-00002.bin";
const INDEX = "pytorch_model.bin.index.json", CONFIG = "config.json";
/** A model without a fault, in the zip format and the one before it. */
const MODEL = Object.fromEntries(
  [FIRST, SECOND, INDEX, CONFIG].map((name) => [
    name,
    Deno.readFileSync(fixturePath(`torch_bin_sharded/${name}`)),
  ]),
);

async function loadModel(folder: string): Promise<void> {
  const source = openHuggingFace(folder);
  try {
    for (const name of weightShapes(source.config).keys()) {
      await source.read(name, 0, new Uint8Array(source.info(name).bytes));
    }
  } finally {
    source.close();
  }
}

/** The files with one of them damaged. */
function damaged(name: string, pick: Picker): Record<string, Uint8Array> {
  const bytes = MODEL[name];
  const changed = name.endsWith(".json")
    ? ascii(mutateJson(new TextDecoder().decode(bytes), pick))
    : mutateBytes(bytes, pick);
  return { ...MODEL, [name]: changed };
}

Deno.test("the files are whole before they are damaged", async () => {
  const { loaded } = await fuzz({
    seed: 0,
    rounds: 1,
    damage: () => MODEL,
    load: loadModel,
    total: 4,
  });
  assert.equal(loaded, 1);
});

/** Some must load and most must not, in many ways, or the damage tests too little. */
const CASES: [name: string, rounds: number, loads: [number, number], problems: number][] = [
  [FIRST, 400, [10, 300], 8],
  [SECOND, 400, [10, 300], 8],
  [INDEX, 200, [4, 160], 8],
  [CONFIG, 600, [30, 540], 30],
];
for (const [i, [name, rounds, [least, most], kinds]] of CASES.entries()) {
  Deno.test(`${rounds} times ${name} is damaged`, async () => {
    const { loaded, problems } = await fuzz({
      seed: 20260200 + i,
      rounds,
      damage: (pick) => damaged(name, pick),
      load: loadModel,
      total: 4,
    });
    assert.ok(loaded >= least && loaded <= most, `${loaded} loaded`);
    assert.ok(problems.size >= kinds, `${problems.size}: ${[...problems].join("\n")}`);
  });
}
