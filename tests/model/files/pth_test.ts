import assert from "node:assert/strict";
import { join } from "node:path";
import { UserError } from "../../../kernels/errors.ts";
import { PthFile, type PthTensor } from "../../../model/files/pth.ts";
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
  const file = new PthFile(path);
  try {
    return use(file);
  } finally {
    file.close();
  }
}

/** A tensor's numbers, of F32. */
function numbers({ file }: PthFile, { position, bytes }: PthTensor): number[] {
  const target = new Uint8Array(bytes);
  file.readSync(position, target);
  return [...new Float32Array(target.buffer)];
}

function refusedPath(path: string, problem: RegExp, name?: string): void {
  const open = () => withFile(path, (file) => name === undefined || file.locate(name));
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
      const tensor = file.locate(name);
      assert.deepEqual([tensor.dtype, tensor.shape], ["F32", shape]);
      assert.deepEqual(numbers(file, tensor), values);
    }
  });
});

Deno.test("PyTorch's files of protocols 3, 4 and 5", () => {
  for (const protocol of [3, 4, 5]) {
    withFile(odd(`protocol${protocol}`), (file) => {
      assert.deepEqual(numbers(file, file.locate("weight")), TWELVE);
    });
  }
});

Deno.test("PyTorch's files that are not Meta's are refused with a reason", () => {
  const contiguous = "has shape \\[4,3\\] with strides \\[1,4\\], expected a contiguous tensor";
  refusedPath(
    odd("transposed"),
    new RegExp(`^tensor "weight" ${contiguous}: save it with`),
    "weight",
  );
  refusedPath(odd("int64"), /^int64\/data\.pkl has a tensor of torch\.LongStorage, expected Float/);
  refusedPath(
    odd("list"),
    /^list\/data\.pkl holds no dictionary, expected one of tensors by name$/,
  );
  refusedPath(odd("nested"), /^tensor "model" is no tensor$/, "model");
  refusedPath(odd("nested"), /^tensor "step" is no tensor$/, "step");
  refusedPath(odd("nested"), /^tensor "weight" is missing$/, "weight");
  refusedPath(
    odd("old_format"),
    /^is in the old format of torch\.save, expected the zip format: torch\.load and torch\.save it with/,
  );
  withFile(odd("transposed"), (file) => {
    assert.deepEqual(numbers(file, file.locate("good")), TWELVE);
  });
});

Deno.test("refuses files that are none of torch.save's", () => {
  refused(new Uint8Array(0), /^is no whole zip archive, which torch\.save writes$/);
  refused(ascii("version https://git-lfs"), /^is no whole zip archive/);
  assert.throws(() => new PthFile(folder), { name: "UserError", message: /it is no file$/ });
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
  withFile(path, (file) => assert.deepEqual(file.locate("weight").shape, [2, 3]));
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

Deno.test("refuses a tensor whose numbers are not in order", () => {
  const check = (tensor: Partial<TensorToPickle>, text: string) =>
    refused(
      one(tensor),
      new RegExp(`^tensor "weight" has shape ${text}, expected a cont`),
      "weight",
    );
  check({ stride: [1, 2] }, "\\[2,3\\] with strides \\[1,2\\]");
  check({ stride: [0, 1] }, "\\[2,3\\] with strides \\[0,1\\]");
  check({ shape: [3], stride: [2] }, "\\[3\\] with strides \\[2\\]");
  const path = join(folder, "free.pth");
  // The stride of a size of 1 is never used, nor any where there are no numbers.
  for (const fine of [{ shape: [1, 6], stride: [99, 1] }, { shape: [2, 0], stride: [5, 5] }]) {
    Deno.writeFileSync(path, one(fine));
    withFile(path, (file) => assert.deepEqual(file.locate("weight").shape, fine.shape));
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
