import assert from "node:assert/strict";
import { join } from "node:path";
import { openSafetensors } from "../../model/formats/safetensors.ts";
import { ascii, concat, little } from "../model/formats/pth_writer.ts";
import { fuzz, mutateBytes, mutateJson, type Picker } from "./mutate.ts";

const DATA = Uint8Array.from({ length: 61 }, (_, i) => i * 37);
const HEADER = JSON.stringify({
  __metadata__: { format: "pt" },
  "model.a": { dtype: "F32", shape: [2, 3], data_offsets: [0, 24] },
  "model.b": { dtype: "BF16", shape: [4], data_offsets: [24, 32] },
  "model.c": { dtype: "U8", shape: [], data_offsets: [32, 33] },
  "model.empty": { dtype: "F16", shape: [0, 7], data_offsets: [33, 33] },
  "model.d": { dtype: "F16", shape: [7, 2, 1], data_offsets: [33, 61] },
});

/** A file with this header, whose length is told truly. */
function fileOf(header: string, data: Uint8Array): Uint8Array {
  const json = ascii(header);
  return concat(little(json.length, 8), json, data);
}

/** A damaged file: its header, its data, both, or any of its bytes. */
function damaged(header: string, data: Uint8Array, pick: Picker): Uint8Array {
  switch (pick(5)) {
    case 0:
      return mutateBytes(fileOf(header, data), pick);
    case 1:
      return fileOf(header, mutateBytes(data, pick));
    case 2:
      return mutateBytes(fileOf(mutateJson(header, pick), data), pick);
    default:
      return fileOf(mutateJson(header, pick), data);
  }
}

Deno.test("20,000 damaged safetensors files load whole or are refused in a sentence", async () => {
  const { loaded, problems } = await fuzz({
    seed: 20260101,
    rounds: 20_000,
    damage: (pick) => ({ "w.safetensors": damaged(HEADER, DATA, pick) }),
    load: (folder) => {
      const file = openSafetensors(join(folder, "w.safetensors"));
      for (const [name, { shape, begin, end }] of file.tensors) {
        assert.ok(shape.every((size) => Number.isSafeInteger(size) && size >= 0), `${shape}`);
        file.readSync(name, 0, new Uint8Array(end - begin));
      }
      file.close();
    },
  });
  // Some must load and most must not, in many ways, or the damage tests too little.
  assert.ok(loaded > 200 && loaded < 10_000, `${loaded} loaded`);
  assert.ok(problems.size > 20, [...problems].join("\n"));
});
