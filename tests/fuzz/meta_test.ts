/**
 * Damaged models in Meta's layout: `.pth` files, the pickles in them, and params.json. Each ends in a
 * UserError that names the file, or in a valid load of every tensor.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { weightShapes } from "../../model/families/config.ts";
import { openMeta } from "../../model/formats/meta.ts";
import { unpickle } from "../../model/formats/pickle.ts";
import { PickledDictionary, PickledTensor } from "../../model/formats/pickle_values.ts";
import { openTorchFile } from "../../model/formats/pth.ts";
import { fixturePath } from "../fixtures.ts";
import {
  ascii,
  concat,
  little,
  op,
  pickleDictionary,
  pickleTensor,
  zipFile,
} from "../model/formats/pth_writer.ts";
import { fuzz, hostileNumber, mutateBytes, mutateJson, type Picker, spliced } from "./mutate.ts";

/** A model of two shards, small and with every kind of tensor. */
const PARAMS = JSON.stringify({ dim: 16, n_layers: 1, n_heads: 2, norm_eps: 1e-5, vocab_size: -1 });
const SHAPES: Record<string, number[]> = {
  "tok_embeddings.weight": [4, 8],
  "norm.weight": [16],
  "output.weight": [2, 16],
  "layers.0.attention.wq.weight": [8, 16],
  "layers.0.attention.wk.weight": [8, 16],
  "layers.0.attention.wv.weight": [8, 16],
  "layers.0.attention.wo.weight": [16, 8],
  "layers.0.feed_forward.w1.weight": [2, 16],
  "layers.0.feed_forward.w2.weight": [16, 2],
  "layers.0.feed_forward.w3.weight": [2, 16],
  "layers.0.attention_norm.weight": [16],
  "layers.0.ffn_norm.weight": [16],
};
const VALUES = Object.fromEntries(
  Object.entries(SHAPES).map(([name, shape], i) => {
    const count = shape.reduce((a, b) => a * b, 1);
    return [name, pickleTensor({ dtype: "F16", shape, key: String(i), count })];
  }),
);
const PICKLE = pickleDictionary(VALUES);

const NAME = ascii("a/data.pkl");
const NUMBERS = Object.values(SHAPES).map((shape, i) => {
  const bytes = 2 * shape.reduce((a, b) => a * b, 1);
  return { name: ascii(`a/data/${i}`), content: new Uint8Array(bytes).fill(i) };
});

/** A shard whose pickle is this one, with checksums and sizes that are right. */
function shardWith(pickle: Uint8Array): Uint8Array<ArrayBuffer> {
  return zipFile([{ name: NAME, content: pickle }, ...NUMBERS], { zip64: true, align: 8 });
}

/** Opcodes that have no place where they are put. */
const SNIPPETS = [
  op.global("os", "system"),
  op.global("builtins", "eval"),
  op.global("torch", "LongStorage"),
  op.global("torch._utils", "_rebuild_tensor_v2"),
  op.emptyDict,
  op.emptyList,
  op.mark,
  op.tuple,
  op.reduce,
  op.build,
  op.persistentId,
  op.stop,
  op.none,
  op.setItems,
  op.text("storage"),
  Uint8Array.of(0x30),
  Uint8Array.of(0x32),
  Uint8Array.of(0x94),
  Uint8Array.of(0x93),
  Uint8Array.of(0x68, 0),
  concat([0x8d], little(2 ** 40, 8)),
  concat([0x58], little(2 ** 32 - 1, 4)),
  concat([0x95], little(2 ** 50, 8)),
  concat([0x72], little(2 ** 32 - 1, 4)),
  ...Object.values(VALUES).slice(0, 3),
];

/** One or two edits: opcodes put in, a whole number (LONG1 of 8 bytes) replaced, or any bytes changed. */
function mutatePickle(pickle: Uint8Array, pick: Picker): Uint8Array {
  let bytes = pickle;
  for (let edits = 1 + pick(2); edits > 0; edits--) {
    switch (pick(3)) {
      case 0:
        bytes = spliced(bytes, pick(bytes.length + 1), 0, SNIPPETS[pick(SNIPPETS.length)]);
        break;
      case 1: {
        const places: number[] = [];
        for (let at = bytes.indexOf(0x8a); at >= 0; at = bytes.indexOf(0x8a, at + 1)) {
          if (bytes[at + 1] === 8) places.push(at);
        }
        if (places.length === 0) break;
        bytes = spliced(bytes, places[pick(places.length)] + 2, 8, hostileNumber(8, pick));
        break;
      }
      case 2:
        bytes = mutateBytes(bytes, pick);
        break;
    }
  }
  return bytes;
}

async function loadModel(folder: string): Promise<void> {
  const source = openMeta(folder);
  try {
    for (const name of weightShapes(source.config).keys()) {
      await source.read(name, 0, new Uint8Array(source.info(name).bytes));
    }
  } finally {
    source.close();
  }
}

function loadTensors(folder: string): void {
  const file = openTorchFile(join(folder, "tensors.pth"));
  try {
    for (const [name, { begin, end }] of file.tensors) {
      file.readSync(name, 0, new Uint8Array(end - begin));
    }
  } finally {
    file.close();
  }
}

const SHARD = shardWith(PICKLE);
/** A model without a fault. */
const MODEL = {
  "params.json": ascii(PARAMS),
  "consolidated.00.pth": SHARD,
  "consolidated.01.pth": SHARD,
};

Deno.test("the files are whole before they are damaged", async () => {
  const { loaded } = await fuzz({ seed: 0, rounds: 1, damage: () => MODEL, load: loadModel });
  assert.equal(loaded, 1);
});

Deno.test("5,000 damaged shards of a model load whole or are refused in a sentence", async () => {
  const { loaded, problems } = await fuzz({
    seed: 20260103,
    rounds: 5000,
    damage: (pick) => ({ ...MODEL, [`consolidated.0${pick(2)}.pth`]: mutateBytes(SHARD, pick) }),
    load: loadModel,
  });
  // Some must load and most must not, in many ways, or the damage tests too little.
  assert.ok(loaded > 50 && loaded < 2500, `${loaded} loaded`);
  assert.ok(problems.size > 15, [...problems].join("\n"));
});

Deno.test("5,000 damaged .pth files of PyTorch's end so too", async () => {
  const written = ["views", "protocol4", "nested"]
    .map((name) => Deno.readFileSync(fixturePath(`meta_odd/${name}.pth`)));
  const { loaded, problems } = await fuzz({
    seed: 20260104,
    rounds: 5000,
    damage: (pick) => ({ "tensors.pth": mutateBytes(written[pick(written.length)], pick) }),
    load: loadTensors,
  });
  assert.ok(loaded > 50 && loaded < 2500, `${loaded} loaded`);
  assert.ok(problems.size > 15, [...problems].join("\n"));
});

Deno.test("5,000 damaged files with strides, or in the format before PyTorch 1.6, end so too", async () => {
  const written = ["strided", "strided_old", "old_protocol4"]
    .map((name) => Deno.readFileSync(fixturePath(`torch_odd/${name}.bin`)));
  const { loaded, problems } = await fuzz({
    seed: 20260107,
    rounds: 5000,
    total: 6,
    damage: (pick) => ({ "tensors.pth": mutateBytes(written[pick(written.length)], pick) }),
    load: loadTensors,
  });
  assert.ok(loaded > 50 && loaded < 2500, `${loaded} loaded`);
  assert.ok(problems.size > 15, [...problems].join("\n"));
});

Deno.test("10,000 damaged pickles in zip archives without a fault end so too", async () => {
  const { loaded, problems } = await fuzz({
    seed: 20260105,
    rounds: 10_000,
    damage: (pick) => ({ ...MODEL, "consolidated.00.pth": shardWith(mutatePickle(PICKLE, pick)) }),
    load: loadModel,
  });
  assert.ok(loaded > 30 && loaded < 5000, `${loaded} loaded`);
  assert.ok(problems.size > 60, [...problems].join("\n"));
});

Deno.test("1,000 damaged params.json end so too", async () => {
  const { loaded, problems } = await fuzz({
    seed: 20260106,
    rounds: 1000,
    damage: (pick) => ({ ...MODEL, "params.json": ascii(mutateJson(PARAMS, pick)) }),
    load: loadModel,
  });
  assert.ok(loaded > 20 && loaded < 500, `${loaded} loaded`);
  assert.ok(problems.size > 80, [...problems].join("\n"));
});

Deno.test("a reader that believes a pickle's numbers, or names no file, does not pass", async () => {
  const passes = (what: (path: string) => string, read: (tensor: PickledTensor) => void) => {
    return fuzz({
      seed: 1,
      rounds: 200,
      damage: (pick) => ({ "data.pkl": mutatePickle(PICKLE, pick) }),
      load(folder) {
        const path = join(folder, "data.pkl"), bytes = Deno.readFileSync(path);
        const value = unpickle(bytes, what(path), bytes.length);
        if (!(value instanceof PickledDictionary)) return;
        for (const tensor of value.values()) if (tensor instanceof PickledTensor) read(tensor);
      },
    });
  };
  const nothing = () => {};
  await passes((path) => path, nothing);
  await assert.rejects(passes(() => "data.pkl", nothing), /UserError: data.pkl/);
  const believe = ({ storage }: PickledTensor) => new Uint8Array(Math.min(storage.count, 1e6));
  await assert.rejects(passes((path) => path, believe), /1000000 bytes at once/);
});
