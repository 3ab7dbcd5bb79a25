/** What is refused of GGUF files, and models in several of them. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { UserError } from "../../../../kernels/errors.ts";
import { isGguf, openGgufFile } from "../../../../model/formats/gguf/header.ts";
import { openGgufModel } from "../../../../model/formats/gguf/split.ts";
import { fixturePath } from "../../../fixtures.ts";
import {
  ggufBytes,
  type GgufToWrite,
  type TensorToWrite,
  value,
  type ValueToWrite,
} from "./gguf_writer.ts";

/** Runs a test with a folder of its own. */
function inFolder(name: string, body: (folder: string) => void): void {
  Deno.test(name, () => {
    const folder = Deno.makeTempDirSync();
    try {
      body(folder);
    } finally {
      Deno.removeSync(folder, { recursive: true });
    }
  });
}

const TENSOR: TensorToWrite = {
  name: "a",
  type: "F32",
  shape: [2, 4],
  data: new Uint8Array(32),
};
const RIGHT: GgufToWrite = {
  metadata: [["general.architecture", value.text("llama")]],
  tensors: [TENSOR, {
    ...TENSOR,
    name: "b",
    type: "Q8_0",
    shape: [3, 32],
    data: new Uint8Array(102),
  }],
};

/** The metadata of a file with one entry. */
function entry(folder: string, given: ValueToWrite) {
  const path = join(folder, "entry.gguf");
  Deno.writeFileSync(path, ggufBytes({ metadata: [["k", given]], tensors: [] }));
  const { file, metadata } = openGgufFile(path);
  return { [Symbol.dispose]: () => file.close(), metadata };
}

inFolder("gguf: a value of each type is read", (folder) => {
  const numbers: [ValueToWrite, number][] = [
    [value.u8(200), 200],
    [value.i8(-3), -3],
    [value.u16(65000), 65000],
    [value.i16(-300), -300],
    [value.u32(4e9), 4e9],
    [value.i32(-7), -7],
    [value.f32(0.5), 0.5],
    [value.u64(2 ** 40), 2 ** 40],
    [value.i64(-(2 ** 40)), -(2 ** 40)],
    [value.f64(Math.PI), Math.PI],
  ];
  for (const [written, expected] of numbers) {
    using read = entry(folder, written);
    assert.equal(read.metadata.number("k"), expected);
    using list = entry(folder, value.list([written, written]));
    assert.deepEqual(Array.from(list.metadata.numbers("k") ?? [], Number), [expected, expected]);
  }
  for (const flag of [true, false]) {
    using read = entry(folder, value.bool(flag));
    assert.equal(read.metadata.flag("k"), flag);
  }
  using text = entry(folder, value.text("naïve \u{1f426}"));
  assert.equal(text.metadata.text("k"), "naïve \u{1f426}");
  const long = "long ".repeat(100_000);
  using texts = entry(folder, value.list([value.text(""), value.text(long), value.text("c")]));
  assert.deepEqual(texts.metadata.texts("k"), ["", long, "c"]);
  using nested = entry(folder, value.list([value.list([value.text("a")]), value.list([])]));
  assert.equal(nested.metadata.length("k"), 2);
});

inFolder("gguf: versions 2 and 3, and another alignment, are read alike", (folder) => {
  for (const [version, alignment] of [[2, 32], [3, 32], [3, 8], [3, 64]]) {
    const path = join(folder, "a.gguf"),
      metadata = [
        ...RIGHT.metadata,
        ["general.alignment", value.u32(alignment)] as const,
      ];
    Deno.writeFileSync(path, ggufBytes({ ...RIGHT, metadata, version, alignment }));
    const { file, tensors } = openGgufFile(path);
    file.close();
    assert.deepEqual([...tensors.keys()], ["a", "b"]);
    assert.ok([...tensors.values()].every(({ position }) => position % alignment === 0));
    assert.deepEqual(tensors.get("b")?.shape, [3, 32]);
  }
});

inFolder("gguf: a file is told by its name or its first bytes", (folder) => {
  const path = join(folder, "sha256-1234"), text = join(folder, "text");
  Deno.writeFileSync(path, ggufBytes(RIGHT));
  Deno.writeTextFileSync(text, "GGU");
  assert.deepEqual([path, text, folder, join(folder, "none.gguf")].map(isGguf), [
    true,
    false,
    false,
    false,
  ]);
});

const wrong = (change: Partial<TensorToWrite>): Partial<GgufToWrite> => ({
  tensors: [{ ...TENSOR, ...change }],
});
const withEntry = (key: string, given: ValueToWrite): Partial<GgufToWrite> => ({
  metadata: [[key, given]],
});

/** Files with a fault, and what is said of them. */
const FAULTS: [fault: Partial<GgufToWrite>, message: RegExp][] = [
  [{ magic: "GGML" }, /: is no GGUF file$/],
  [{ magic: "lmgg" }, /: is no GGUF file: it is of a format before it$/],
  [{ version: 1 }, /: is a GGUF file of version 1, which is not read; expected version 2 or 3$/],
  [
    { version: 0x03000000 },
    /: is a big-endian GGUF file, which is not read; expected a little-endian one$/,
  ],
  [{ version: 4 }, /of version 4, which is not read/],
  [
    { tensorCount: 2 ** 50 },
    /: says that it has 1125899906842624 tensors, more than its \d+ bytes hold$/,
  ],
  [{ metadataCount: 2 ** 40 }, /: says that it has 1099511627776 metadata entries, more than/],
  [{ metadata: [["k", value.u8(1)], ["k", value.u8(2)]] }, /: has the metadata key "k" twice$/],
  [{ tensors: [TENSOR, TENSOR] }, /: has tensor "a" twice$/],
  [
    withEntry("k", { type: 13, bytes: new Uint8Array(8) }),
    /: k has a value of type 13, expected 0 to 12$/,
  ],
  [
    withEntry("k", { type: 7, bytes: Uint8Array.of(2) }),
    /: k is 2, expected 0 or 1 for false or true$/,
  ],
  [
    withEntry("k", value.list([{ type: 99, bytes: new Uint8Array(9) }])),
    /: k is a list of values of type 99/,
  ],
  [
    withEntry("k", { type: 8, bytes: Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0, 0xff) }),
    /: k is not valid UTF-8$/,
  ],
  [
    withEntry("general.alignment", value.u32(12)),
    /: general\.alignment is 12, expected a multiple of 8$/,
  ],
  [
    withEntry("general.alignment", value.u32(0)),
    /: general\.alignment is 0, expected a whole number from 1/,
  ],
  [wrong({ type: 10 }), /: tensor "a" has type Q2_K, which is not read; expected F32, F16,/],
  [wrong({ type: 77 }), /: tensor "a" has type 77, which is not read; expected/],
  [wrong({ shape: [] }), /: tensor "a" has 0 dimensions, expected 1 to 4$/],
  [wrong({ shape: [1, 1, 1, 2, 4] }), /: tensor "a" has 5 dimensions/],
  [wrong({ shape: [0, 4] }), /: tensor "a" has a dimension of 0 numbers/],
  [
    wrong({ shape: [2 ** 40, 2 ** 40] }),
    /: tensor "a" has a dimension of \d+ numbers, expected none/,
  ],
  [
    wrong({ type: "Q8_0" }),
    /: tensor "a" has rows of 4 numbers, expected a multiple of 32 in Q8_0$/,
  ],
  [wrong({ offset: 8 }), /: tensor "a" begins at byte 8 of the data, expected a multiple of 32$/],
  [
    wrong({ offset: 320 }),
    /: tensor "a" needs 32 bytes from byte 320 of the data on, of which 32 are there:/,
  ],
  [
    { tensors: [TENSOR, { ...TENSOR, name: "b", offset: 0 }] },
    /: tensor "b" overlaps tensor "a"$/,
  ],
];

inFolder("gguf: every fault is named, with the file", (folder) => {
  const path = join(folder, "a.gguf");
  for (const [fault, message] of FAULTS) {
    Deno.writeFileSync(path, ggufBytes({ ...RIGHT, ...fault }));
    assert.throws(
      () => openGgufFile(path),
      (error) =>
        error instanceof UserError && error.message.startsWith(path) && message.test(error.message),
      String(message),
    );
  }
});

inFolder("gguf: a file that ends anywhere is refused", (folder) => {
  const path = join(folder, "a.gguf"), bytes = ggufBytes(RIGHT);
  // The last tensor's padding alone may be missing.
  const needed = bytes.length - 26;
  for (let length = 1; length < needed; length += 5) {
    Deno.writeFileSync(path, bytes.subarray(0, length));
    assert.throws(() => openGgufFile(path), UserError, `${length}`);
  }
  Deno.writeFileSync(path, bytes.subarray(0, needed));
  openGgufFile(path).file.close();
});

/** Some files of a split model under names of their own. */
function copySplit(folder: string, names: Readonly<Record<string, number>>): void {
  for (const [name, part] of Object.entries(names)) {
    Deno.copyFileSync(fixturePath(`gguf/byte_level-0000${part}-of-00003.gguf`), join(folder, name));
  }
}

const PARTS = [1, 2, 3].map((part) => `m-0000${part}-of-00003.gguf`);

inFolder("gguf: all files of a split model are there and belong together", (folder) => {
  copySplit(folder, { [PARTS[0]]: 1, [PARTS[1]]: 2 });
  const open = (name: string) => () => openGgufModel(join(folder, name));
  assert.throws(
    open(PARTS[0]),
    /^UserError: cannot read .*m-00003-of-00003\.gguf: it does not exist, as 1 of the 3 files/,
  );
  copySplit(folder, { [PARTS[2]]: 2 });
  assert.throws(open(PARTS[0]), /m-00003-of-00003\.gguf: split\.no is 1, expected 2$/);
  copySplit(folder, { [PARTS[2]]: 3, "other.gguf": 1, "other-00001-of-00002.gguf": 1 });
  const model = openGgufModel(join(folder, PARTS[1]));
  model.close();
  assert.equal(model.tensors.size, 29);
  for (const name of ["other.gguf", "other-00001-of-00002.gguf"]) {
    assert.throws(
      open(name),
      /is one of 3 files \(split\.count\), expected them by their names NAME-00001-of-00003/,
    );
  }
});

inFolder("gguf: a tensor in two files, or too few of them, is refused", (folder) => {
  const write = (count: number, second: string) =>
    ["a", second].forEach((name, i) => {
      const metadata = [
        ["split.no", value.u16(i)],
        ["split.count", value.u16(2)],
        ["split.tensors.count", value.i32(count)],
      ] as const;
      const path = join(folder, `m-0000${i + 1}-of-00002.gguf`);
      Deno.writeFileSync(path, ggufBytes({ metadata, tensors: [{ ...TENSOR, name }] }));
    });
  const open = () => openGgufModel(join(folder, "m-00002-of-00002.gguf"));
  write(2, "a");
  assert.throws(open, /m-00002-of-00002\.gguf: tensor "a" is in .*m-00001-of-00002\.gguf, too$/);
  write(3, "b");
  assert.throws(open, /split\.tensors\.count is 3, expected 2, as many as the 2 files have$/);
  write(2, "b");
  open().close();
});
