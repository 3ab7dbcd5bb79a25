/**
 * The format of `torch.save` before PyTorch 1.6: five pickles one after the other (a magic number, the version of
 * the protocol, the machine, the value, the names of its storages), then of each storage in that order how many
 * numbers it has (64 bits) and the numbers.
 *
 * Layout: PyTorch's `torch/serialization.py`, `_legacy_save`.
 *
 * @module
 */

import { UserError } from "../../kernels/errors.ts";
import type { FileReader } from "../files/file_reader.ts";
import { unpickleFirst } from "./pickle.ts";
import {
  PickledDictionary,
  PickledStorage,
  PickledTensor,
  PickledTuple,
  type PickledValue,
  type PthContents,
} from "./pickle_values.ts";
import { dtypeBytes } from "./tensor_file.ts";
import { brief } from "../files/json_file.ts";

/** The number 0x1950a86a20f9469cfc6c as a pickle has it, with the STOP that ends it. */
const MAGIC = [0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, 0x2e];
/** What comes before the number: PROTO, and a frame from protocol 4 on. */
const BEFORE_MAGIC = [2, 2 + 9];
/** The version that every release of PyTorch wrote. */
const PROTOCOL = 1001;
/** Most bytes of all pickles: those of a large model take some hundred thousand. */
const MAX_PICKLES = 16 * 2 ** 20;

/** Where the first pickle ends; undefined where it is not that of this format. */
function magicEnd(file: FileReader): number | undefined {
  const start = new Uint8Array(Math.min(2 + 9 + MAGIC.length, file.size));
  file.readSync(0, start);
  const before = BEFORE_MAGIC.find((at) => MAGIC.every((byte, i) => start[at + i] === byte));
  return start[0] === 0x80 && before !== undefined ? before + MAGIC.length : undefined;
}

/** Whether a file has the format before PyTorch 1.6. */
export function isLegacy(file: FileReader): boolean {
  return magicEnd(file) !== undefined;
}

/** The storages of all tensors in a value, by their keys. */
function storagesOf(value: PickledValue): Map<string, PickledStorage> {
  const storages = new Map<string, PickledStorage>(), seen = new Set<PickledValue>();
  const waiting: PickledValue[] = [value];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    if (typeof next !== "object" || next === null || seen.has(next)) continue;
    seen.add(next);
    if (next instanceof PickledStorage) storages.set(next.key, next);
    else if (next instanceof PickledTensor) waiting.push(next.storage);
    const items = next instanceof PickledTuple
      ? next.items
      : next instanceof PickledDictionary || Array.isArray(next)
      ? next.values()
      : [];
    // One by one: a call takes no more arguments than the stack holds.
    for (const item of items) waiting.push(item);
  }
  return storages;
}

/**
 * Reads the descriptions, and goes over the storages to find where each begins.
 *
 * @throws UserError that names the file where it is damaged, of a machine of the other byte order, or has
 *   storages that no tensor refers to.
 */
export function readLegacy(file: FileReader): PthContents {
  const fail = (problem: string): never => {
    throw new UserError(`${file.path}: ${problem}`);
  };
  const start = magicEnd(file);
  if (start === undefined) throw new RangeError(`${file.path} is no file of the old format`);
  const head = new Uint8Array(Math.min(file.size, MAX_PICKLES));
  file.readSync(0, head);
  let at = start;
  const next = (what: string): PickledValue => {
    const rest = head.subarray(at);
    const { value, end } = unpickleFirst(rest, `${file.path}: ${what}`, file.size);
    at += end;
    return value;
  };
  const protocol = next("the pickle of its version");
  if (protocol !== PROTOCOL) fail(`has protocol version ${brief(protocol)}, expected ${PROTOCOL}`);
  const machine = next("the pickle of its machine");
  if (!(machine instanceof PickledDictionary) || machine.get("little_endian") !== true) {
    fail("is of a machine that is not little-endian, which is not read");
  }
  const value = next("its pickle"), keys = next("the pickle of its storages' names");
  if (!Array.isArray(keys)) return fail("has no list of storages after its pickle");
  const storages = storagesOf(value);
  const places = new Map<string, { position: number; bytes: number }>();
  const count = new Uint8Array(8), view = new DataView(count.buffer);
  for (const key of keys) {
    const storage = typeof key === "string" ? storages.get(key) : undefined;
    const unit = storage && dtypeBytes(storage.dtype);
    if (storage === undefined || unit === undefined) {
      return fail(`has a storage ${brief(key)} that no tensor refers to`);
    }
    if (at + 8 > file.size) fail(`is truncated: storage ${brief(key)} is missing`);
    file.readSync(at, count);
    const bytes = Number(view.getBigUint64(0, true)) * unit;
    at += 8;
    if (at + bytes > file.size) {
      fail(
        `is truncated: storage ${brief(key)} ends at byte ${at + bytes}, the file at ${file.size}`,
      );
    }
    places.set(storage.key, { position: at, bytes });
    at += bytes;
  }
  if (at !== file.size) fail(`has ${file.size - at} bytes after its last storage`);
  return {
    value,
    pickle: "its pickle",
    name: ({ key }) => `storage ${brief(key)}`,
    place: ({ key }) => places.get(key),
  };
}
