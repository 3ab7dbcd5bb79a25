/**
 * 20,000 spoilt `.pth` files from a fixed seed, and some spoilt params.json: each ends in a UserError
 * that names the file, or in a valid load of every tensor, without taking more memory than twice the
 * files' size.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { UserError } from "../../kernels/errors.ts";
import { weightShapes } from "../../model/config.ts";
import { openMeta } from "../../model/files/meta.ts";
import { PthFile } from "../../model/files/pth.ts";
import { fixturePath } from "../fixtures.ts";
import {
  ascii,
  concat,
  little,
  op,
  pickleDictionary,
  pickleTensor,
  zipFile,
} from "../model/files/pth_writer.ts";

/** What a case may allocate beyond twice its files: buffers of fixed size. */
const ALLOWANCE = 64 * 1024;
/** A case takes about a millisecond; this is a hang, even on a machine that is busy. */
const HANG_MS = 5000;

let folder = "";
Deno.test.beforeAll(() => {
  const memory = "/dev/shm"; // where there is one, so that nothing waits for a disk
  const dir = isFolder(memory) ? memory : undefined;
  folder = Deno.makeTempDirSync({ dir });
});
Deno.test.afterAll(() => Deno.removeSync(folder, { recursive: true }));

function isFolder(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch {
    return false;
  }
}

/** Repeatable whole numbers below `n`. */
function randomNumbers(seed: number): (n: number) => number {
  let state = seed >>> 0;
  return (n) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor(((t ^ (t >>> 14)) >>> 0) / 2 ** 32 * n);
  };
}

/** Bytes that buffers and typed arrays took since the counting began, and how many they may. */
const counter = { bytes: 0, limit: Infinity };

/** Counts what constructors of buffers are to allocate, before they do. */
function count(name: "ArrayBuffer" | "Uint8Array" | "Uint32Array" | "Float32Array"): () => void {
  const original = globalThis[name];
  const unit = "BYTES_PER_ELEMENT" in original ? Number(original.BYTES_PER_ELEMENT) : 1;
  const counted = new Proxy(original, {
    construct(target, args, newTarget) {
      const [first] = args;
      counter.bytes += unit * (typeof first === "number" ? first : first?.length ?? 0);
      if (counter.bytes > counter.limit) {
        throw new Error(`${counter.bytes} bytes are allocated, more than ${counter.limit}`);
      }
      return Reflect.construct(target, args, newTarget);
    },
  });
  Object.assign(globalThis, { [name]: counted });
  return () => Object.assign(globalThis, { [name]: original });
}

let restore: (() => void)[] = [];
Deno.test.beforeAll(() => {
  restore = (["ArrayBuffer", "Uint8Array", "Uint32Array", "Float32Array"] as const).map(count);
});
Deno.test.afterAll(() => restore.forEach((undo) => undo()));

/** Runs `body`; throws as soon as its buffers and typed arrays take more than `limit` bytes in all. */
async function withinBytes<T>(limit: number, body: () => T | Promise<T>): Promise<T> {
  Object.assign(counter, { bytes: 0, limit });
  try {
    return await body();
  } finally {
    counter.limit = Infinity;
  }
}

Deno.test("an allocation beyond the limit is noticed before it happens", async () => {
  const message = /bytes are allocated, more than 1000/;
  const allocate = (bytes: number) => () => new Uint8Array(bytes).length;
  await assert.rejects(withinBytes(1000, allocate(2 ** 40)), message);
  await assert.rejects(withinBytes(1000, () => new ArrayBuffer(1001)), message);
  await assert.rejects(withinBytes(1000, () => [600, 600].map((n) => new Uint8Array(n))), message);
  await assert.rejects(withinBytes(1000, () => Float32Array.from({ length: 300 })), message);
  assert.equal(await withinBytes(1000, allocate(1000)), 1000);
  assert.equal(allocate(2000)(), 2000);
});

/** A model of two shards, small and with every kind of tensor. */
const PARAMS = { dim: 16, n_layers: 1, n_heads: 2, norm_eps: 1e-5, vocab_size: -1 };
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

/** A shard whose pickle is this one, with checksums and sizes that are right. */
function shardWith(pickle: Uint8Array): Uint8Array<ArrayBuffer> {
  const entries = Object.values(SHAPES).map((shape, i) => {
    const bytes = 2 * shape.reduce((a, b) => a * b, 1);
    return { name: `a/data/${i}`, content: new Uint8Array(bytes).fill(i) };
  });
  return zipFile([{ name: "a/data.pkl", content: pickle }, ...entries], { zip64: true, align: 8 });
}

/** Numbers that break sums and products, in 1, 2, 4 or 8 bytes. */
const HOSTILE = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1]
  .concat([2 ** 32, 2 ** 40, 2 ** 52, Number.MAX_SAFE_INTEGER, 2 ** 53, 2 ** 63]);

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

type Random = ReturnType<typeof randomNumbers>;
type Mutation = (bytes: Uint8Array, random: Random) => Uint8Array;

const MUTATIONS: Mutation[] = [
  (bytes, random) => edited(bytes, (copy) => copy[random(copy.length)] ^= 1 << random(8)),
  (bytes, random) => edited(bytes, (copy) => copy[random(copy.length)] = random(256)),
  (bytes, random) =>
    edited(bytes, (copy) => {
      for (let i = 0; i < 8; i++) copy[random(copy.length)] = random(256);
    }),
  (bytes, random) => bytes.subarray(0, random(bytes.length)),
  (bytes, random) => concat(bytes, Uint8Array.from({ length: random(100) }, () => random(256))),
  (bytes, random) => { // a range goes
    const [from, to] = range(bytes, random);
    return concat(bytes.subarray(0, from), bytes.subarray(to));
  },
  (bytes, random) => { // a range comes again, elsewhere
    const [from, to] = range(bytes, random), at = random(bytes.length);
    return concat(bytes.subarray(0, at), bytes.subarray(from, to), bytes.subarray(at));
  },
  (bytes, random) => { // a range over another
    const [from, to] = range(bytes, random), at = random(bytes.length - (to - from));
    return edited(bytes, (copy) => copy.copyWithin(at, from, to));
  },
  (bytes, random) => {
    const width = ([1, 2, 4, 8] as const)[random(4)], value = HOSTILE[random(HOSTILE.length)];
    return edited(bytes, (copy) => {
      copy.set(little(value, width), random(copy.length - width));
    });
  },
];

/** Of pickles: opcodes put in, and whole numbers (LONG1 of 8 bytes) replaced. */
const PICKLE_MUTATIONS: Mutation[] = [
  ...MUTATIONS,
  (bytes, random) => {
    const at = 2 + random(bytes.length - 2), snippet = SNIPPETS[random(SNIPPETS.length)];
    return concat(bytes.subarray(0, at), snippet, bytes.subarray(at));
  },
  (bytes, random) => {
    const places: number[] = [];
    for (let at = 0; at < bytes.length - 9; at++) {
      if (bytes[at] === 0x8a && bytes[at + 1] === 8) places.push(at + 2);
    }
    if (places.length === 0) return bytes;
    const place = places[random(places.length)], value = HOSTILE[random(HOSTILE.length)];
    return edited(bytes, (copy) => copy.set(little(value, 8), place));
  },
];

function edited(bytes: Uint8Array, edit: (copy: Uint8Array) => void): Uint8Array {
  const copy = bytes.slice();
  edit(copy);
  return copy;
}

/** A range of up to 200 bytes. */
function range(bytes: Uint8Array, random: Random): [number, number] {
  const from = random(bytes.length), length = Math.min(random(200), bytes.length - from);
  return [from, from + length];
}

/** One mutation, or two or three on top of each other. */
function mutate(bytes: Uint8Array, mutations: Mutation[], random: Random): Uint8Array {
  let result = bytes;
  for (let left = 1 + Math.max(0, random(5) - 2); left > 0 && result.length > 20; left--) {
    result = mutations[random(mutations.length)](result, random);
  }
  return result;
}

/** Opens what lies there and reads all of it into `target`. */
type Load = (target: Uint8Array) => Promise<void>;

const loadModel: Load = async (target) => {
  const source = openMeta(folder);
  try {
    let at = 0;
    await Promise.all([...weightShapes(source.config).keys()].map((name) => {
      const begin = at;
      at += source.info(name).bytes;
      return source.read(name, 0, target.subarray(begin, at));
    }));
  } finally {
    source.close();
  }
};

const loadTensors: Load = async (target) => {
  const file = new PthFile(join(folder, "tensors.pth"));
  try {
    for (const name of file.names()) {
      const { position, bytes } = file.locate(name);
      await file.file.read(position, target.subarray(0, bytes));
    }
  } finally {
    file.close();
  }
};

/** Loads what lies there; returns whether it is valid. */
async function isValid(load: Load, size: number, label: string): Promise<boolean> {
  const target = new Uint8Array(size), began = performance.now();
  try {
    await withinBytes(2 * size + ALLOWANCE, () => load(target));
    return true;
  } catch (error) {
    if (!(error instanceof UserError)) throw new Error(label, { cause: error });
    assert.ok(error.message.includes(folder), `${label}: ${error.message}`);
    return false;
  } finally {
    const took = performance.now() - began;
    assert.ok(took < HANG_MS, `${label}: took ${took} ms`);
  }
}

Deno.test("10,000 spoilt .pth files end in a clear error or a valid load", async () => {
  const random = randomNumbers(20261123);
  const whole = shardWith(PICKLE),
    written = ["views", "protocol4", "nested"]
      .map((name) => Deno.readFileSync(fixturePath(`meta_odd/${name}.pth`)));
  Deno.writeTextFileSync(join(folder, "params.json"), JSON.stringify(PARAMS));
  for (const i of [0, 1]) Deno.writeFileSync(join(folder, `consolidated.0${i}.pth`), whole);
  assert.ok(await isValid(loadModel, 2 * whole.length, "the original"));
  let valid = 0;
  for (let i = 0; i < 10_000; i++) {
    const model = i % 2 === 0, original = model ? whole : written[i % written.length];
    const bytes = mutate(original, MUTATIONS, random);
    Deno.writeFileSync(join(folder, model ? "consolidated.01.pth" : "tensors.pth"), bytes);
    const size = bytes.length + (model ? whole.length : 0);
    if (await isValid(model ? loadModel : loadTensors, size, `file ${i}`)) valid++;
  }
  assert.ok(valid > 500 && valid < 9500, `${valid} are valid`);
});

Deno.test("10,000 spoilt pickles in zip archives without a fault end so too", async () => {
  const random = randomNumbers(7);
  const whole = shardWith(PICKLE);
  Deno.writeTextFileSync(join(folder, "params.json"), JSON.stringify(PARAMS));
  Deno.writeFileSync(join(folder, "consolidated.01.pth"), whole);
  let valid = 0;
  for (let i = 0; i < 10_000; i++) {
    const bytes = shardWith(mutate(PICKLE, PICKLE_MUTATIONS, random));
    Deno.writeFileSync(join(folder, "consolidated.00.pth"), bytes);
    if (await isValid(loadModel, whole.length + bytes.length, `pickle ${i}`)) valid++;
  }
  assert.ok(valid > 30 && valid < 9970, `${valid} are valid`);
});

Deno.test("1,000 spoilt params.json end so too", async () => {
  const random = randomNumbers(3), whole = shardWith(PICKLE), text = ascii(JSON.stringify(PARAMS));
  for (const i of [0, 1]) Deno.writeFileSync(join(folder, `consolidated.0${i}.pth`), whole);
  const hostile = ["-1", "1e308", "1e999", "0.5", '"16"', "null", "[]", "{}", "9007199254740993"];
  let valid = 0;
  for (let i = 0; i < 1000; i++) {
    const [name, value] = Object.entries(PARAMS)[random(5)];
    const other = hostile[random(hostile.length)];
    const bytes = i % 2 === 0
      ? mutate(text, MUTATIONS, random)
      : ascii(JSON.stringify(PARAMS).replace(`"${name}":${value}`, `"${name}":${other}`));
    Deno.writeFileSync(join(folder, "params.json"), bytes);
    if (await isValid(loadModel, bytes.length + 2 * whole.length, `params ${i}`)) valid++;
  }
  assert.ok(valid > 10 && valid < 990, `${valid} are valid`);
});
