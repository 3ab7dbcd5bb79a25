/**
 * What a pickle of tensors holds, and every name that it may use: see model/formats/pickle.ts.
 *
 * @module
 */

/** Where the numbers of one or several tensors are. */
export class PickledStorage {
  constructor(
    /** In safetensors' names. */
    readonly dtype: string,
    /** The name of the archive's entry below `data/`, or any other by which the file finds it. */
    readonly key: string,
    /** How many numbers it holds. */
    readonly count: number,
  ) {}
}

/** A tensor as it is described, without its numbers. */
export class PickledTensor {
  constructor(
    readonly storage: PickledStorage,
    /** In elements, as are the strides. */
    readonly offset: number,
    readonly shape: readonly number[],
    readonly stride: readonly number[],
  ) {}
}

/** A Python tuple; lists are arrays, dictionaries are maps. */
export class PickledTuple {
  constructor(readonly items: readonly PickledValue[]) {}
}

/** A Python dictionary; an `OrderedDict` too, which alone may carry attributes (they are dropped). */
export class PickledDictionary extends Map<string | number, PickledValue> {
  constructor(readonly ordered: boolean) {
    super();
  }
}

/** What a pickle may hold. Values can contain themselves. */
export type PickledValue =
  | null
  | boolean
  | number
  | string
  | PickledValue[]
  | PickledTuple
  | PickledDictionary
  | PickledStorage
  | PickledTensor
  | Name;

/** One of the known names. */
export class Name {
  constructor(
    readonly name: string,
    /** What its call makes of plain data; undefined where the arguments are not as they should be. */
    readonly call?: (args: readonly PickledValue[]) => PickledValue | undefined,
    /** Of the storage types, which are not called. */
    readonly dtype?: string,
  ) {}
}

/** Whether a value is a whole number from 0 on. */
export function isCount(value: PickledValue): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

/** A tuple of sizes or strides. */
function counts(value: PickledValue): number[] | undefined {
  if (!(value instanceof PickledTuple) || value.items.length > 8) return undefined;
  return value.items.every(isCount) ? value.items as number[] : undefined;
}

/** `_rebuild_tensor_v2(storage, offset, shape, stride, requires_grad, backward_hooks[, metadata])`. */
function rebuildTensor(args: readonly PickledValue[]): PickledTensor | undefined {
  const [storage, offset, first, second] = args;
  if (args.length < 6 || args.length > 7) return undefined;
  if (!(storage instanceof PickledStorage) || !isCount(offset)) return undefined;
  const shape = counts(first), stride = counts(second);
  if (shape === undefined || stride === undefined || shape.length !== stride.length) {
    return undefined;
  }
  return new PickledTensor(storage, offset, shape, stride);
}

/** `_rebuild_parameter(tensor, requires_grad, backward_hooks)`, and `_with_state` one more: its attributes. */
function rebuildParameter(count: 3 | 4) {
  return (args: readonly PickledValue[]): PickledTensor | undefined =>
    args.length === count && args[0] instanceof PickledTensor ? args[0] : undefined;
}

/** PyTorch's types of storages, with their dtypes in safetensors' names. */
export const STORAGE_DTYPES: Readonly<Record<string, string>> = {
  BoolStorage: "BOOL",
  ByteStorage: "U8",
  CharStorage: "I8",
  ShortStorage: "I16",
  IntStorage: "I32",
  LongStorage: "I64",
  HalfStorage: "F16",
  BFloat16Storage: "BF16",
  FloatStorage: "F32",
  DoubleStorage: "F64",
  ComplexFloatStorage: "C64",
};

/** Every name that a pickle may use. */
export const NAMES: ReadonlyMap<string, Name> = new Map([
  new Name("torch._utils._rebuild_tensor_v2", rebuildTensor),
  new Name("torch._utils._rebuild_parameter", rebuildParameter(3)),
  new Name("torch._utils._rebuild_parameter_with_state", rebuildParameter(4)),
  new Name(
    "collections.OrderedDict",
    (args) => args.length === 0 ? new PickledDictionary(true) : undefined,
  ),
  ...Object.entries(STORAGE_DTYPES).map(([storage, dtype]) =>
    new Name(`torch.${storage}`, undefined, dtype)
  ),
].map((name) => [name.name, name]));

/** What a file's pickle says, and where it has the numbers of storages. */
export interface PthContents {
  value: PickledValue;
  /** What to call the pickle in messages. */
  pickle: string;
  /** What to call a storage's numbers in messages. */
  name(storage: PickledStorage): string;
  /** Where in the file a storage's numbers are; undefined where it has none. @throws UserError */
  place(storage: PickledStorage): { position: number; bytes: number } | undefined;
}
