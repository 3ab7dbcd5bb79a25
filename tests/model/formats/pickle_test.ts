import assert from "node:assert/strict";
import { UserError } from "../../../kernels/errors.ts";
import { unpickle } from "../../../model/formats/pickle.ts";
import {
  PickledDictionary,
  PickledStorage,
  PickledTensor,
  PickledTuple,
  type PickledValue,
} from "../../../model/formats/pickle_values.ts";
import { ascii, concat, little, op, pickleDictionary, pickleTensor } from "./pth_writer.ts";

/** What a pickle of these opcodes, with PROTO before and STOP after them, holds. */
function load(...opcodes: ArrayLike<number>[]): PickledValue {
  return unpickle(concat(op.proto(2), ...opcodes, op.stop), "x.pth: data.pkl", 0);
}

/** Expects a refusal of a whole pickle. */
function refusedWhole(pickle: Uint8Array, problem: RegExp, size = 0): void {
  assert.throws(() => unpickle(pickle, "x.pth: data.pkl", size), (error: unknown) => {
    assert.ok(error instanceof UserError, String(error));
    assert.ok(error.message.startsWith("x.pth: data.pkl "), error.message);
    assert.match(error.message.slice("x.pth: data.pkl ".length), problem);
    return true;
  });
}

/** The same of opcodes between PROTO and STOP. */
function refused(problem: RegExp, ...opcodes: ArrayLike<number>[]): void {
  refusedWhole(concat(op.proto(2), ...opcodes, op.stop), problem);
}

const HALF = { dtype: "F16", shape: [2, 3], key: "7", count: 20, offset: 5 } as const;
const tensor = pickleTensor(HALF);
const orderedDict = op.global("collections", "OrderedDict");

Deno.test("numbers, strings and constants of every opcode", () => {
  const values: [number[], PickledValue][] = [
    [[0x4e], null],
    [[0x88], true],
    [[0x89], false],
    [[0x4a, 0xfe, 0xff, 0xff, 0xff], -2],
    [[0x4b, 200], 200],
    [[0x4d, 1, 2], 513],
    [[0x8a, 0], 0],
    [[0x8a, 1, 0x80], -128],
    [[0x8a, 5, 0, 0, 0, 0, 1], 2 ** 32],
    [[0x8a, 8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 0], Number.MAX_SAFE_INTEGER],
    [[0x47, 0xbf, 0xf8, 0, 0, 0, 0, 0, 0], -1.5],
    [[0x8c, 3, 0xe2, 0x82, 0xac], "€"],
    [[0x58, 1, 0, 0, 0, 0x61], "a"],
    [[0x8d, 2, 0, 0, 0, 0, 0, 0, 0, 0x61, 0x62], "ab"],
  ];
  for (const [opcodes, value] of values) assert.equal(load(opcodes), value);
});

Deno.test("lists, tuples and dictionaries of every opcode", () => {
  const [one, two, three] = [1, 2, 3].map((value) => [0x4b, value]);
  assert.deepEqual(load(op.emptyList, one, [0x61], op.mark, two, three, [0x65]), [1, 2, 3]);
  assert.deepEqual(load(op.mark, one, two, [0x6c]), [1, 2]);
  const tuples = [
    load(op.emptyTuple),
    load(one, [0x85]),
    load(one, two, [0x86]),
    load(one, two, three, [0x87]),
    load(op.mark, one, two, three, one, op.tuple),
  ];
  const items = tuples.map((tuple) => (tuple as PickledTuple).items);
  assert.deepEqual(items, [[], [1], [1, 2], [1, 2, 3], [1, 2, 3, 1]]);
  const dictionary = load(
    op.emptyDict,
    op.text("a"),
    one,
    [0x73],
    op.mark,
    two,
    three,
    op.setItems,
  );
  assert.ok(dictionary instanceof PickledDictionary);
  assert.deepEqual([...dictionary], [["a", 1], [2, 3]]);
});

Deno.test("the memo, marks and the stack", () => {
  const put = (value: number) => [0x71, value], get = (value: number) => [0x68, value];
  assert.deepEqual(
    load(op.emptyList, put(9), op.text("x"), [0x61], get(9), [0x85]),
    new PickledTuple([["x"]]),
  );
  const long = concat(op.text("x"), [0x72, 0, 0, 0, 0xff], [0x30], [0x6a, 0, 0, 0, 0xff]);
  assert.equal(load(long), "x");
  // MEMOIZE numbers its values itself.
  assert.equal(load(op.text("a"), [0x94], op.text("b"), [0x94, 0x30, 0x30], get(1)), "b");
  assert.equal(load(op.text("a"), op.mark, op.none, op.none, [0x31]), "a");
  assert.equal(load(op.text("a"), op.mark, [0x30]), "a");
  assert.deepEqual(load(op.text("a"), [0x32, 0x86]), new PickledTuple(["a", "a"]));
  // A list that contains itself is nothing that anyone walks through.
  const self = load(op.emptyList, put(0), get(0), [0x61]) as PickledValue[];
  assert.equal(self[0], self);
});

Deno.test("tensors, parameters and a state_dict with its attributes", () => {
  const expected = new PickledTensor(new PickledStorage("F16", "7", 20), 5, [2, 3], [3, 1]);
  assert.deepEqual(load(tensor), expected);
  const hooks = concat(orderedDict, op.emptyTuple, op.reduce);
  const rebuild = op.global("torch._utils", "_rebuild_parameter");
  const parameter = concat(rebuild, op.mark, tensor, op.false, hooks, op.tuple, op.reduce);
  assert.deepEqual(load(parameter), expected);
  const state = load(
    concat(hooks, op.mark, op.text("weight"), parameter, op.setItems),
    concat(op.emptyDict, op.mark, op.text("_metadata"), hooks, op.setItems, op.build),
  );
  assert.ok(state instanceof PickledDictionary);
  assert.deepEqual([...state], [["weight", expected]]);
  // By the opcodes of protocol 4.
  const name = [op.text("torch"), op.text("BFloat16Storage"), [0x93]];
  const storage = load(op.mark, op.text("storage"), ...name, op.text("0"), op.none, op.int(3), [
    0x74,
    0x51,
  ]);
  assert.deepEqual(storage, new PickledStorage("BF16", "0", 3));
});

Deno.test("protocols 2 to 5, with frames", () => {
  for (const protocol of [2, 3, 4, 5]) {
    assert.equal(unpickle(concat(op.proto(protocol), op.none, op.stop), "x", 0), null);
  }
  const frame = (length: number) => [0x95, ...little(length, 8)];
  assert.equal(unpickle(concat(op.proto(4), frame(2), op.none, op.stop), "x", 0), null);
  refused(/^is damaged: a frame ends after the pickle$/, frame(3), op.none);
  refusedWhole(
    concat(op.proto(1), op.none, op.stop),
    /^is a pickle of protocol 1, expected 2 to 5$/,
  );
  refusedWhole(
    concat(op.proto(6), op.none, op.stop),
    /^is a pickle of protocol 6, expected 2 to 5$/,
  );
  refusedWhole(ascii("I1\n."), /^is no pickle of protocol 2 to 5$/);
  refusedWhole(new Uint8Array(0), /^is no pickle of protocol 2 to 5$/);
});

/** Python's callables that attacks and other checkpoints name. */
const CALLABLES = [
  "os.system",
  "posix.system",
  "nt.system",
  "builtins.eval",
  "builtins.exec",
  "builtins.getattr",
  "__builtin__.eval",
  "subprocess.Popen",
  "numpy.core.multiarray._reconstruct",
  "numpy.dtype",
  "_codecs.encode",
  "torch.load",
  "torch.Tensor",
  "torch._utils._rebuild_tensor",
  "torch._utils._rebuild_tensor_v3",
  "torch.storage._load_from_bytes",
  "torch.FloatStorage.from_file",
  "collections.OrderedDict.__init__",
  "collections.defaultdict",
  "torch._utils._rebuild_tensor_v2.__globals__",
];

Deno.test("a pickle that names a callable outside the tensor set is refused by its name", () => {
  for (const callable of CALLABLES) {
    const dot = callable.lastIndexOf(".");
    const [module, name] = [callable.slice(0, dot), callable.slice(dot + 1)];
    const problem = new RegExp(
      `^names ${callable.replaceAll(".", "\\.")}, which is not a tensor: the file is refused$`,
    );
    const byStack = concat(op.text(module), op.text(name), [0x93]);
    const byInst = concat(op.mark, op.text("echo"), ascii(`i${module}\n${name}\n`));
    for (const named of [op.global(module, name), byStack, byInst]) {
      refused(problem, named);
      // Called, inside a tensor's arguments, and as a dictionary's value beside a good tensor.
      refused(problem, named, op.mark, op.text("echo"), op.tuple, op.reduce);
      refused(problem, op.global("torch._utils", "_rebuild_tensor_v2"), op.mark, named);
      refusedWhole(pickleDictionary({ good: tensor, evil: named }), problem);
    }
  }
  // The dots may be anywhere; a strange name is quoted and cut.
  refused(/^names os\.path\.join, which/, op.text("os"), op.text("path.join"), [0x93]);
  refused(/^names "o\\u0000s\.system", which/, op.global("o\0s", "system"));
  refused(/^names "x{96}\.\.\., which/, op.global("x".repeat(1000), "y"));
});

Deno.test("storages of quantized and other dtypes are refused by name", () => {
  for (const name of ["QInt8Storage", "ComplexDoubleStorage", "UntypedStorage"]) {
    const problem = new RegExp(`^has a tensor of torch\\.${name}, expected one of BoolStorage, `);
    refused(problem, op.global("torch", name));
  }
});

Deno.test("opcodes that build objects in other ways are refused by name", () => {
  const opcodes: [string, ArrayLike<number>[]][] = [
    ["INST", [op.mark, ascii("icollections\nOrderedDict\n")]],
    ["OBJ", [op.mark, orderedDict, [0x6f]]],
    ["NEWOBJ", [orderedDict, op.emptyTuple, [0x81]]],
    ["NEWOBJ_EX", [orderedDict, op.emptyTuple, op.emptyDict, [0x92]]],
    ["EXT1", [[0x82, 1]]],
    ["EXT2", [[0x83, 1, 0]]],
    ["EXT4", [[0x84, 1, 0, 0, 0]]],
    ["PERSID", [ascii("P0\n")]],
    ["NEXT_BUFFER", [[0x97]]],
    ["0x8f", [[0x8f]]], // EMPTY_SET
    ["0x43", [[0x43, 0]]], // SHORT_BINBYTES
    ["0x49", [ascii("I1\n")]],
    ["0xff", [[0xff]]],
  ];
  for (const [name, opcode] of opcodes) {
    refused(
      new RegExp(`^uses pickle opcode ${name} at byte \\d+, which no tensor needs`),
      ...opcode,
    );
  }
  refused(/opcode EXT1 at byte 3,/, op.none, [0x82, 1]);
});

Deno.test("known names are called with a tensor's arguments only", () => {
  const rebuild = op.global("torch._utils", "_rebuild_tensor_v2");
  const parameter = op.global("torch._utils", "_rebuild_parameter");
  const call = (...args: ArrayLike<number>[]) => concat(op.mark, ...args, op.tuple, op.reduce);
  const tuple = (...values: number[]) => concat(op.mark, ...values.map(op.int), op.tuple);
  const storage = concat(
    op.mark,
    op.text("storage"),
    op.global("torch", "FloatStorage"),
    op.text("0"),
    op.text("cpu"),
    op.int(6),
    op.tuple,
    op.persistentId,
  );
  const rest = [op.false, op.none];
  const good = [storage, op.int(0), tuple(2, 3), tuple(3, 1)];
  assert.ok(load(rebuild, call(...good, ...rest)) instanceof PickledTensor);
  assert.ok(load(rebuild, call(...good, ...rest, op.none)) instanceof PickledTensor);
  const calls: [string, Uint8Array, Uint8Array][] = [
    ["torch._utils._rebuild_tensor_v2", rebuild, call()],
    ["torch._utils._rebuild_tensor_v2", rebuild, call(...good)],
    ["torch._utils._rebuild_tensor_v2", rebuild, call(...good, ...rest, op.none, op.none)],
    ["torch._utils._rebuild_tensor_v2", rebuild, call(op.int(0), ...good.slice(1), ...rest)],
    [
      "torch._utils._rebuild_tensor_v2",
      rebuild,
      call(storage, [0x4a, 255, 255, 255, 255], tuple(2), tuple(1), ...rest),
    ],
    [
      "torch._utils._rebuild_tensor_v2",
      rebuild,
      call(storage, op.int(0), tuple(2, 3), tuple(1), ...rest),
    ],
    [
      "torch._utils._rebuild_tensor_v2",
      rebuild,
      call(storage, op.int(0), op.emptyList, op.emptyList, ...rest),
    ],
    [
      "torch._utils._rebuild_tensor_v2",
      rebuild,
      call(storage, op.int(0), tuple(...Array(9).fill(1)), tuple(...Array(9).fill(1)), ...rest),
    ],
    ["torch._utils._rebuild_tensor_v2", rebuild, concat(op.emptyDict, op.reduce)],
    ["torch._utils._rebuild_parameter", parameter, call(op.int(1), ...rest)],
    ["torch._utils._rebuild_parameter", parameter, call(tensor)],
    ["collections.OrderedDict", orderedDict, call(op.emptyList)],
    ["torch.FloatStorage", op.global("torch", "FloatStorage"), call()],
    ["torch.HalfStorage", op.global("torch", "HalfStorage"), call(op.int(1_000_000))],
  ];
  for (const [name, callee, args] of calls) {
    const escaped = name.replaceAll(".", "\\.");
    refused(
      new RegExp(`^calls ${escaped} with arguments that make no tensor: the f`),
      callee,
      args,
    );
  }
  refused(/^calls something that has no name/, op.text("os.system"), call());
  // What a call gives can't be called.
  refused(/^calls something that has no name/, rebuild, call(...good, ...rest), call());
});

Deno.test("a state is set for an OrderedDict only", () => {
  const problem = /^sets the state of an object that is not a tensor's: the file is refused$/;
  refused(problem, op.emptyDict, op.emptyDict, op.build);
  refused(problem, op.emptyList, op.emptyDict, op.build);
  refused(problem, tensor, op.emptyTuple, op.build);
  refused(problem, orderedDict, op.emptyDict, op.build);
  refused(problem, orderedDict, op.emptyTuple, op.reduce, op.emptyTuple, op.build);
});

Deno.test("persistent ids are storages only", () => {
  const problem = /^refers to data that is not a tensor's: the file is refused$/;
  const id = (...parts: ArrayLike<number>[]) =>
    concat(op.mark, ...parts, op.tuple, op.persistentId);
  const float = op.global("torch", "FloatStorage"), minusOne = [0x4a, 255, 255, 255, 255];
  refused(problem, op.text("storage"), op.persistentId);
  refused(problem, id());
  refused(problem, id(op.text("module"), float, op.text("0"), op.text("cpu"), op.int(1)));
  refused(problem, id(op.text("storage"), orderedDict, op.text("0"), op.text("cpu"), op.int(1)));
  refused(problem, id(op.text("storage"), float, op.int(0), op.text("cpu"), op.int(1)));
  refused(problem, id(op.text("storage"), float, op.text("0"), op.text("cpu"), minusOne));
  const one = [op.text("storage"), float, op.text("0"), op.text("cpu"), op.int(1)];
  assert.ok(load(id(...one, op.none)) instanceof PickledStorage); // as before PyTorch 1.6
  refused(problem, id(...one, op.emptyTuple));
  refused(problem, id(...one, op.none, op.none));
  refused(problem, id(op.text("storage"), float, op.text("0"), op.text("cpu"), op.none));
});

Deno.test("damaged pickles are refused", () => {
  const early = /^is damaged: it ends too early$/;
  refusedWhole(op.proto(2), early);
  refusedWhole(concat(op.proto(2), op.none), early);
  refusedWhole(concat(op.proto(2), [0x4a, 1]), early);
  refusedWhole(concat(op.proto(2), ascii("cos")), early);
  refusedWhole(concat(op.proto(2), [0x8d, 255, 255, 255, 255, 255, 255, 255, 255]), early);
  const empty = /^is damaged: its stack is empty$/;
  for (const opcode of [[], [0x30], [0x32], [0x52], [0x61], [0x73], [0x87], [0x93], [0x71, 0]]) {
    refused(empty, opcode);
  }
  refused(empty, op.none, op.mark, [0x85]); // what is below a mark is out of reach
  refused(/^is damaged: a mark is missing$/, op.none, op.tuple);
  refused(/^is damaged: it recalls value 3, which is not there$/, [0x68, 3]);
  refused(/^is damaged: it sets items of what is no dictionary$/, op.none, op.mark, op.setItems);
  refused(/^is damaged: it sets items of/, op.emptyDict, op.mark, op.none, op.setItems);
  refused(/^is damaged: it appends to what is no list$/, op.emptyTuple, op.none, [0x61]);
  refused(/^is damaged: a string is not valid UTF-8$/, [0x8c, 1, 0xff]);
  refused(/^is damaged: it names something by what is no string$/, op.none, op.text("x"), [0x93]);
  refused(/^has 1 bytes after its end$/, op.none, op.stop);
  refused(/^has a whole number of more than 64 bits$/, [0x8a, 9]);
  refused(/^has the number 9007199254740992, beyond 2\^53$/, op.int(2 ** 53));
  const key = /^has a dictionary with a key that is neither a string nor a number$/;
  refused(key, op.emptyDict, op.emptyTuple, op.none, [0x73]);
});

Deno.test("a name that contains itself is no way to end the program", () => {
  const list = concat(op.emptyList, [0x71, 0], [0x68, 0], [0x61]);
  refused(/^is damaged: it names something by what is no string$/, list, list, [0x93]);
  // Nor are twenty thousand lists inside each other.
  const deep = concat(op.proto(2), ...Array(20_000).fill([0x5d]), ...Array(19_999).fill([0x61]));
  assert.ok(Array.isArray(unpickle(concat(deep, op.stop), "x", 8 * 2 ** 20)));
});

Deno.test("a pickle can't take more memory than its file's size and a little", () => {
  const problem = /^needs more memory than a description of tensors$/;
  const many = (opcode: number) =>
    concat(op.proto(2), op.mark, new Uint8Array(300_000).fill(opcode), op.tuple, op.stop);
  for (const opcode of [0x7d, 0x5d, 0x29]) {
    refusedWhole(many(opcode), problem);
    unpickle(many(opcode), "x", 100 * 2 ** 20);
  }
  const memo = concat(op.proto(2), op.none, new Uint8Array(300_000).fill(0x94), op.stop);
  refusedWhole(memo, problem);
  const text = concat(op.proto(2), op.text("x".repeat(3_000_000)), op.stop);
  refusedWhole(text, problem);
  assert.equal(unpickle(text, "x", 3_000_000), "x".repeat(3_000_000));
});
