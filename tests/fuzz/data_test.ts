import assert from "node:assert/strict";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { UserError } from "../../kernels/errors.ts";
import { loadGroups, loadSamples } from "../../model/text/data/load.ts";
import { JsonRows } from "../../model/text/data/json_rows.ts";
import { isField } from "../../model/text/data/sample.ts";
import { fixturePath } from "../fixtures.ts";
import { ascii } from "../model/formats/pth_writer.ts";
import { MemoryFolder } from "./memory_folder.ts";
import { fuzz, mutateBytes, mutateJson, type Picker, randomPicker } from "./mutate.ts";

const ROWS = [
  { instruction: "Name a bird.", input: "", output: "A lorikeet.", id: 7 },
  { instruction: "And?", output: 4.5, system: "Count.", history: [["One?", "One."], ["Two?", 2]] },
  { prompt: "a", completion: "<s> b </s>" },
  { text: "Once upon a time, \u00e9 and \\n.", tags: [{ a: null }, true] },
];
const LINES = ROWS.map((row) => JSON.stringify(row));
const JSONS = [
  JSON.stringify(ROWS),
  LINES.join("\n"),
  ROWS.map((row) => JSON.stringify(row, null, 1)).join(",\n"),
  JSON.stringify({ train: ROWS, test: ROWS.slice(1), version: 1 }),
];
const TABLES = [
  'instruction,input,output\nWhat?,,"That, ""there"""\n"a\nb",c,d\n',
  "id\ttext\n1\tOnce upon a time\n\n2\tand again\n",
];

const one = <T>(list: readonly T[], pick: Picker): T => list[pick(list.length)];

/** A damaged file of rows in text. */
function damagedText(pick: Picker): Uint8Array {
  switch (pick(4)) {
    case 0:
      return mutateBytes(ascii(one(TABLES, pick)), pick);
    case 1:
      return mutateBytes(new TextEncoder().encode(one(JSONS, pick)), pick);
    default:
      return new TextEncoder().encode(mutateJson(one(JSONS, pick), pick));
  }
}

Deno.test("20,000 damaged data files of text load or are refused in a sentence", async () => {
  const { loaded, problems } = await fuzz({
    seed: 20260102,
    rounds: 20_000,
    total: 8,
    damage: (pick) => ({ "rows.json": damagedText(pick) }),
    load: (folder) => loadSamples(join(folder, "rows.json")),
  });
  // Some must load and most must not, in many ways, or the damage tests too little.
  assert.ok(loaded > 2000 && loaded < 12_000, `${loaded} loaded`);
  assert.ok(problems.size > 40, [...problems].join("\n"));
});

const PREFERENCES = [
  { prompt: "a", chosen: " b", rejected: " c" },
  { prompt: "a", completion: " b", label: false },
  {
    chosen: [{ role: "user", content: "a" }, { role: "assistant", content: "b" }],
    rejected: [{ role: "user", content: "a" }, { role: "assistant", content: "c" }],
  },
];

Deno.test("5,000 damaged files of preferences load or are refused in a sentence", async () => {
  const { loaded, problems } = await fuzz({
    seed: 20260104,
    rounds: 5000,
    total: 8,
    damage: (pick) => ({
      "rows.json": new TextEncoder().encode(mutateJson(JSON.stringify(PREFERENCES), pick)),
    }),
    load: (folder) => loadGroups(join(folder, "rows.json"), { judgement: "labels" }),
  });
  assert.ok(loaded > 500 && loaded < 4500, `${loaded} loaded`);
  assert.ok(problems.size > 20, [...problems].join("\n"));
});

const packed = Array.from(TABLES.concat(JSONS), (text) => Uint8Array.from(gzipSync(text)));
const parquet = ["none", "snappy", "gzip", "brotli", "zstd", "lz4", "groups", "no_dictionary"]
  .concat("delta", "numbers", "flags")
  .map((name) => Deno.readFileSync(fixturePath(`rows/${name}.parquet`)));

// A page's size is believed before it is unpacked, so what is allocated isn't looked at.
Deno.test("4,000 damaged files of gzip and Parquet load or are refused in a sentence, soon", async () => {
  using folder = new MemoryFolder();
  const pick = randomPicker(20260103), path = join(folder.path, "rows");
  let loaded = 0;
  for (let round = 0; round < 4000; round++) {
    folder.files = { rows: mutateBytes(one(pick(4) === 0 ? packed : parquet, pick), pick) };
    const began = performance.now();
    try {
      await loadSamples(path);
      loaded++;
    } catch (error) {
      if (!(error instanceof UserError)) throw new Error(`round ${round}`, { cause: error });
      assert.match(error.message, /^data file "/, `round ${round}`);
      assert.ok(!error.message.includes("\n"), `round ${round}: ${error.message}`);
    }
    const seconds = (performance.now() - began) / 1000;
    assert.ok(seconds < 3, `round ${round}: took ${seconds.toFixed(1)} s`);
  }
  assert.ok(loaded > 40 && loaded < 3000, `${loaded} loaded`);
});

/** The rows of a text that comes in pieces, those before a fault, and the fault. */
function inPieces(bytes: Uint8Array, size: () => number): unknown[] {
  const reader = new JsonRows({ file: "rows", isField, limit: Infinity, begin: 0 });
  const found: unknown[] = [];
  const take = () => {
    for (const { value, where, extent } of reader.take()) found.push([value, where(), extent]);
  };
  try {
    for (let at = 0; at < bytes.length;) {
      const piece = bytes.slice(at, at += size());
      reader.push(piece);
      take();
    }
    reader.finish();
    // What is wrong comes after the rows before it.
    take();
    take();
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    found.push(error.message);
  }
  return found;
}

Deno.test("10,000 damaged texts of JSON are the same rows and faults in pieces of any size", () => {
  const pick = randomPicker(20260104);
  let faults = 0, read = 0;
  for (let round = 0; round < 10_000; round++) {
    const text = one(JSONS, pick);
    const bytes = pick(3) === 0
      ? mutateBytes(new TextEncoder().encode(text), pick)
      : new TextEncoder().encode(mutateJson(text, pick));
    if (bytes.length === 0) continue;
    const whole = inPieces(bytes, () => bytes.length), most = one([7, 64, 300], pick);
    const parts = inPieces(bytes, () => 1 + pick(most));
    assert.deepEqual(parts, whole, `round ${round}`);
    if (typeof whole.at(-1) === "string") faults++;
    read += whole.length;
  }
  assert.ok(faults > 2000 && read > 10_000, `${faults} faults, ${read} rows and faults`);
});
