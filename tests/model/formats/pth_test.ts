import assert from "node:assert/strict";
import { join } from "node:path";
import { UserError } from "../../../kernels/errors.ts";
import { toFloat32 } from "../../../model/formats/half.ts";
import { openTorchFile, type PthFile } from "../../../model/formats/pth.ts";
import type { TensorFile } from "../../../model/formats/tensor_file.ts";
import type { FileDtype } from "../../../model/formats/weights.ts";
import { fixturePath } from "../../fixtures.ts";
import {
  ascii,
  concat,
  type EntryToWrite,
  op,
  pickleDictionary,
  pickleTensor,
  type TensorToPickle,
  zipFile,
} from "./pth_writer.ts";

let folder = "";
Deno.test.beforeAll(() => {
  folder = Deno.makeTempDirSync();
});
Deno.test.afterAll(() => Deno.removeSync(folder, { recursive: true }));

/** Opens a file for `use`. */
function withFile<T>(path: string, use: (file: PthFile) => T): T {
  const file = openTorchFile(path);
  try {
    return use(file);
  } finally {
    file.close();
  }
}

/** A tensor's numbers, of F32. */
function numbers(file: PthFile, name: string): number[] {
  const target = new Uint8Array(file.weight(name).bytes);
  file.readSync(name, 0, target);
  return [...new Float32Array(target.buffer)];
}

function refusedPath(path: string, problem: RegExp, name?: string): void {
  const open = () => withFile(path, (file) => name === undefined || file.weight(name));
  assert.throws(open, (error: unknown) => {
    assert.ok(error instanceof UserError, String(error));
    assert.ok(error.message.startsWith(`${path}: `), error.message);
    assert.match(error.message.slice(path.length + 2), problem);
    return true;
  });
}

/** The same of a file with these bytes. */
function refused(bytes: Uint8Array, problem: RegExp, name?: string): void {
  const path = join(folder, "lies.pth");
  Deno.writeFileSync(path, bytes);
  refusedPath(path, problem, name);
}

const odd = (name: string) => fixturePath(`meta_odd/${name}.pth`);
const TWELVE = Array.from({ length: 12 }, (_, i) => i);

Deno.test("tensors that share a storage are found in it", () => {
  withFile(odd("views"), (file) => {
    assert.deepEqual(file.names(), ["whole", "middle", "last", "same"]);
    const expected: Record<string, [number[], number[]]> = {
      whole: [[12], TWELVE],
      same: [[12], TWELVE],
      middle: [[2, 3], TWELVE.slice(4, 10)],
      last: [[1], [11]],
    };
    for (const [name, [shape, values]] of Object.entries(expected)) {
      const tensor = file.weight(name);
      assert.deepEqual([tensor.dtype, tensor.shape], ["F32", shape]);
      assert.deepEqual(numbers(file, name), values);
    }
  });
});

Deno.test("PyTorch's files of protocols 3, 4 and 5", () => {
  for (const protocol of [3, 4, 5]) {
    withFile(odd(`protocol${protocol}`), (file) => {
      assert.deepEqual(numbers(file, "weight"), TWELVE);
    });
  }
});

/** Names, shapes and numbers of the tensors in torch_odd/; numbers are null of those that are no floats. */
const ODD: Record<string, { shape: number[]; values: number[] | null }> = JSON.parse(
  Deno.readTextFileSync(fixturePath("torch_odd/expected.json")),
);

/** A tensor's numbers as float32, by one read of all or by reads of `piece` bytes. */
async function floats(file: TensorFile, name: string, piece?: number): Promise<number[]> {
  const entry = file.tensors.get(name);
  assert.ok(entry !== undefined, name);
  const bytes = new Uint8Array(entry.end - entry.begin);
  for (let at = 0; at < bytes.length; at += piece ?? bytes.length) {
    const part = bytes.subarray(at, at + (piece ?? bytes.length));
    if (piece === undefined) file.readSync(name, at, part);
    else await file.read(name, at, part);
  }
  if (entry.dtype === "F64") return [...new Float64Array(bytes.buffer)];
  return entry.dtype === "F32"
    ? [...new Float32Array(bytes.buffer)]
    : [...toFloat32(bytes, entry.dtype as FileDtype)];
}

Deno.test("tensors of every dtype and any strides, in the zip format and the one before", async () => {
  for (const name of ["strided", "strided_old", "old_protocol4"]) {
    const file = openTorchFile(fixturePath(`torch_odd/${name}.bin`));
    try {
      assert.deepEqual([...file.tensors.keys()], Object.keys(ODD));
      const dtypes = [
        ..."whole turned step columns expanded scalar empty".split(" ").map(() => "F32"),
      ]
        .concat("F16", "F64", "BOOL", "I8", "C64");
      assert.deepEqual([...file.tensors.values()].map(({ dtype }) => dtype), dtypes);
      for (const [key, { shape, values }] of Object.entries(ODD)) {
        assert.deepEqual(file.tensors.get(key)?.shape, shape, key);
        if (values === null) continue;
        assert.deepEqual(await floats(file, key), values, `${name} ${key}`);
        // Pieces that end inside a row, and inside a number.
        for (const piece of [4, 12, 7, 3]) {
          assert.deepEqual(
            await floats(file, key, piece),
            values,
            `${name} ${key}, ${piece} bytes`,
          );
        }
      }
    } finally {
      file.close();
    }
  }
});

Deno.test("a Parameter with attributes is its tensor", async () => {
  const file = openTorchFile(fixturePath("torch_odd/attributes.bin"));
  assert.deepEqual(await floats(file, "weight"), ODD.whole.values);
  file.close();
});

Deno.test("a tensor whose elements share numbers is refused", () => {
  refusedPath(
    fixturePath("torch_odd/expanded.bin"),
    /^tensor "weight" has shape \[24\] with strides \[0\], expected numbers of its own for every element/,
  );
});

Deno.test("files in the old format that are cut or changed are refused with a reason", () => {
  const whole = Deno.readFileSync(odd("old_format")),
    strided = fixturePath("torch_odd/strided_old.bin");
  const key = `"\\d+"`;
  refused(
    whole.subarray(0, -1),
    new RegExp(`^is truncated: storage ${key} ends at byte 392, the file at 391$`),
  );
  refused(whole.subarray(0, -50), new RegExp(`^is truncated: storage ${key} is missing$`));
  refused(concat(whole, [0]), /^has 1 bytes after its last storage$/);
  refused(
    whole.subarray(0, 100),
    /^its pickle is damaged: it ends too early$|^the pickle of its machine is/,
  );
  const text = String.fromCharCode(...whole);
  const changed = (from: string, to: number[]) => {
    const bytes = whole.slice(), at = text.indexOf(from);
    assert.ok(at > 0);
    bytes.set(to, at + from.length);
    return bytes;
  };
  refused(changed("\x80\x02M", [1, 2]), /^has protocol version 513, expected 1001$/);
  refused(
    changed("little_endianq\x02", [0x89]),
    /^is of a machine that is not little-endian, which is not/,
  );
  withFile(strided, (file) => assert.equal(file.tensors.size, Object.keys(ODD).length));
});

Deno.test("PyTorch's files that hold no weights are refused with a reason", () => {
  refusedPath(odd("int64"), /^tensor "weight" has dtype I64, expected F32, F16 or BF16$/, "weight");
  refusedPath(
    odd("list"),
    /^list\/data\.pkl holds no dictionary, expected one of tensors by name$/,
  );
  refusedPath(odd("nested"), /^tensor "model" is no tensor$/, "model");
  refusedPath(odd("nested"), /^tensor "step" is no tensor$/, "step");
  refusedPath(odd("nested"), /^tensor "weight" is missing$/, "weight");
  withFile(odd("transposed"), (file) => {
    assert.deepEqual(numbers(file, "good"), TWELVE);
    assert.deepEqual(numbers(file, "weight"), [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]);
  });
});

Deno.test("refuses files that are none of torch.save's", () => {
  refused(new Uint8Array(3), /^is no whole zip archive, which torch\.save writes$/);
  refused(
    ascii("Entry not found"),
    /^is no whole zip archive, which torch\.save writes: it is the text "Entry not found"$/,
  );
  assert.throws(() => openTorchFile(folder), {
    name: "UserError",
    message: /it is no file, but a folder$/,
  });
  const content = pickleDictionary({});
  refused(
    zipFile([{ name: "data.pkl", content }]),
    /^has 0 entries <name>\/data\.pkl, expected one as torch\.save writes$/,
  );
  const two = ["a", "b"].map((root) => ({ name: `${root}/data.pkl`, content }));
  refused(zipFile(two), /^has 2 entries <name>\/data\.pkl/);
});

const WEIGHT: TensorToPickle = { dtype: "F32", shape: [2, 3], key: "0", count: 6 };

/** A file with one tensor, of which something may be wrong. */
function one(
  tensor: Partial<TensorToPickle>,
  { content = new Uint8Array(24), more = [] as EntryToWrite[], pickle = {} } = {},
): Uint8Array {
  const weight = pickleTensor({ ...WEIGHT, ...tensor });
  return zipFile([
    { name: "x/data.pkl", content: pickleDictionary({ weight }), ...pickle },
    { name: "x/data/0", content },
    ...more,
  ]);
}

Deno.test("the byte order must be little where it is said", () => {
  const order = (text: string) =>
    one({}, {
      more: [{ name: "x/byteorder", content: ascii(text) }],
    });
  const path = join(folder, "little.pth");
  Deno.writeFileSync(path, order("little"));
  withFile(path, (file) => assert.deepEqual(file.weight("weight").shape, [2, 3]));
  refused(order("big"), /^entry "x\/byteorder" is "big", expected "little"$/);
  refused(
    order("x".repeat(101)),
    /^entry "x\/byteorder" has 101 bytes, more than the limit of 100$/,
  );
});

Deno.test("refuses a tensor that its storage doesn't hold", () => {
  const check = (bytes: Uint8Array, problem: RegExp) => refused(bytes, problem, "weight");
  check(one({ offset: 1 }), /^tensor "weight" ends at number 7 of its storage, which has 6$/);
  check(one({ shape: [2 ** 50, 2 ** 50] }), /^tensor "weight" ends at number 1\.\d+e\+30 of its/);
  check(one({ key: "1" }), /^tensor "weight" has its numbers in data\/1, which is missing$/);
  check(
    one({ key: "../data/0" }),
    /^tensor "weight" has its numbers in data\/\.\.\/data\/0, which/,
  );
  const bytes =
    /^tensor "weight" has its numbers in data\/0 of 24 bytes, but 7 numbers of F32 need 28$/;
  check(one({ count: 7 }), bytes);
  check(one({ dtype: "BF16" }), /data\/0 of 24 bytes, but 6 numbers of BF16 need 12$/);
});

Deno.test("refuses strides that leave the storage or use numbers twice", () => {
  const check = (tensor: Partial<TensorToPickle>, problem: RegExp) =>
    refused(one(tensor), problem, "weight");
  check(
    { stride: [0, 1] },
    /^tensor "weight" has shape \[2,3\] with strides \[0,1\], expected numbers of its/,
  );
  check({ stride: [1, 3] }, /^tensor "weight" ends at number 8 of its storage, which has 6$/);
  check(
    { shape: [3, 3], stride: [1, 1] },
    /^tensor "weight" ends at number 9 of its storage, which has 6$/,
  );
  check(
    { shape: [3], stride: [2 ** 52] },
    /^tensor "weight" ends at number \d+ of its storage, which has 6$/,
  );
  const path = join(folder, "free.pth");
  // The stride of a size of 1 is never used, nor any where there are no numbers.
  for (
    const fine of [{ shape: [1, 6], stride: [99, 1] }, { shape: [2, 0], stride: [5, 5], offset: 9 }]
  ) {
    Deno.writeFileSync(path, one(fine));
    withFile(path, (file) => assert.deepEqual(file.weight("weight").shape, fine.shape));
  }
});

Deno.test("a pickle that names a callable, or is damaged, is refused with its file and entry", () => {
  const evil = concat(op.global("os", "system"), op.mark, op.text("true"), op.tuple, op.reduce);
  const pickle = pickleDictionary({ weight: evil });
  refused(
    zipFile([{ name: "x/data.pkl", content: pickle }]),
    /^x\/data\.pkl names os\.system, which is not a tensor: the file is refused$/,
  );
  refused(one({}, { pickle: { crc: 1 } }), /^entry "x\/data\.pkl" is damaged: its checksum is not/);
});
