/**
 * A restricted unpickler: reads what `torch.save` writes of a dictionary of tensors, and nothing else.
 *
 * A pickle is a program for a stack machine that may call any Python function it names. Here nothing
 * is ever called or looked up: a few names are known (model/formats/pickle_values.ts), each with what it makes
 * of plain data, and a pickle with any other name is refused. The opcodes are those that Python's own
 * pickler uses for dictionaries, lists, tuples, numbers, strings and tensors in protocols 2 to 5.
 *
 * Format: Python's `pickletools`, https://docs.python.org/3/library/pickletools.html.
 *
 * @module
 */

import { UserError } from "../../kernels/errors.ts";
import {
  isCount,
  Name,
  NAMES,
  PickledDictionary,
  PickledStorage,
  PickledTuple,
  type PickledValue,
  STORAGE_DTYPES,
} from "./pickle_values.ts";
import { brief } from "../files/json_file.ts";
import { UTF8 } from "../files/whole_file.ts";

/** Opcodes that are refused, by the names of `pickletools`. */
const REFUSED: Record<number, string> = {
  0x50: "PERSID",
  0x69: "INST",
  0x6f: "OBJ",
  0x81: "NEWOBJ",
  0x82: "EXT1",
  0x83: "EXT2",
  0x84: "EXT4",
  0x92: "NEWOBJ_EX",
  0x97: "NEXT_BUFFER",
};

/** What a pickle may cost beyond the size given, for the objects that hold its values. */
const ALLOWANCE = 4 * 2 ** 20;
/** Rough bytes of memory for an opcode and its value, a container, an entry of the memo. */
const VALUE_BYTES = 16, CONTAINER_BYTES = 256, MEMO_BYTES = 48;

/**
 * Reads a pickle without executing anything.
 *
 * @param bytes The whole pickle.
 * @param what What to call it in messages.
 * @param size Memory in bytes that its values may take beyond a few MiB: the size of the file it is
 *   from, so that a hostile pickle can't ask for more.
 * @throws UserError for any name or opcode that is not of a plain dictionary of tensors, and for a
 *   pickle that is damaged.
 */
export function unpickle(bytes: Uint8Array, what: string, size: number): PickledValue {
  const { value, end } = unpickleFirst(bytes, what, size);
  const rest = bytes.length - end;
  if (rest > 0) throw new UserError(`${what} has ${rest} bytes after its end`);
  return value;
}

/**
 * As {@linkcode unpickle}, of bytes that may go on after the pickle.
 *
 * @returns Its value, and where it ends.
 */
export function unpickleFirst(
  bytes: Uint8Array,
  what: string,
  size: number,
): { value: PickledValue; end: number } {
  return new Unpickler(bytes, what, size + ALLOWANCE).run();
}

/** The stack machine. */
class Unpickler {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #what: string;
  /** Bytes of memory that may still be taken. */
  #left: number;
  #at = 0;
  readonly #stack: PickledValue[] = [];
  /** Heights of the stack at the marks. */
  readonly #marks: number[] = [];
  readonly #memo = new Map<number, PickledValue>();

  constructor(bytes: Uint8Array, what: string, memory: number) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#what = what;
    this.#left = memory;
  }

  run(): { value: PickledValue; end: number } {
    // PROTO is an opcode like any other to Python, but every pickle of protocol 2 or later begins so.
    if (this.#bytes.length < 2 || this.#bytes[0] !== 0x80) {
      this.#fail("is no pickle of protocol 2 to 5");
    }
    for (;;) {
      const at = this.#at, opcode = this.#bytes[this.#take(1)];
      this.#charge(VALUE_BYTES);
      if (opcode !== 0x2e) {
        this.#step(opcode, at);
        continue;
      }
      return { value: this.#pop(), end: this.#at };
    }
  }

  #fail(problem: string): never {
    throw new UserError(`${this.#what} ${problem}`);
  }

  /** Refuses what a dictionary of tensors never has. */
  #refuse(problem: string): never {
    this.#fail(`${problem}: the file is refused`);
  }

  #charge(bytes: number): void {
    this.#left -= bytes;
    if (this.#left < 0) this.#fail("needs more memory than a description of tensors");
  }

  /** Goes over the next bytes; returns where they begin. */
  #take(count: number): number {
    const begin = this.#at;
    if (begin + count > this.#bytes.length) this.#fail("is damaged: it ends too early");
    this.#at += count;
    return begin;
  }

  #pop(): PickledValue {
    if (this.#stack.length <= (this.#marks.at(-1) ?? 0)) {
      this.#fail("is damaged: its stack is empty");
    }
    const top = this.#stack[this.#stack.length - 1];
    this.#stack.length--;
    return top;
  }

  #top(): PickledValue {
    const value = this.#pop();
    this.#stack.push(value);
    return value;
  }

  /** Everything above the last mark, which goes. */
  #popMark(): PickledValue[] {
    const mark = this.#marks.pop();
    if (mark === undefined) return this.#fail("is damaged: a mark is missing");
    return this.#stack.splice(mark);
  }

  #push(value: PickledValue): void {
    this.#stack.push(value);
  }

  #container<T extends PickledValue>(value: T): T {
    this.#charge(CONTAINER_BYTES);
    return value;
  }

  #pushTuple(items: PickledValue[]): void {
    this.#charge(VALUE_BYTES * items.length);
    this.#push(this.#container(new PickledTuple(items)));
  }

  #text(length: number): string {
    const begin = this.#take(length);
    this.#charge(2 * length);
    try {
      const bytes = this.#bytes.subarray(begin, begin + length);
      return UTF8.decode(bytes);
    } catch {
      return this.#fail("is damaged: a string is not valid UTF-8");
    }
  }

  /** Text up to the end of the line. */
  #line(): string {
    const end = this.#bytes.indexOf(0x0a, this.#at);
    if (end < 0) this.#fail("is damaged: it ends too early");
    const text = this.#text(end - this.#at);
    this.#at++;
    return text;
  }

  #number(length: number): number {
    if (length > 8) this.#fail("has a whole number of more than 64 bits");
    let value = 0n;
    const begin = this.#take(length);
    for (let i = length - 1; i >= 0; i--) value = value << 8n | BigInt(this.#bytes[begin + i]);
    const signed = Number(BigInt.asIntN(8 * length, value));
    if (!Number.isSafeInteger(signed)) this.#fail(`has the number ${signed}, beyond 2^53`);
    return signed;
  }

  /** A length of 8 bytes. */
  #length(): number {
    const length = this.#view.getBigUint64(this.#take(8), true);
    return Number(length); // one beyond 2^53 is beyond the pickle in any case
  }

  #name(module: PickledValue, attribute: PickledValue): Name {
    if (typeof module !== "string" || typeof attribute !== "string") {
      return this.#fail("is damaged: it names something by what is no string");
    }
    const text = `${module}.${attribute}`;
    const name = NAMES.get(text);
    if (name !== undefined) return name;
    const shown = /^[\w.]{1,100}$/.test(text) ? text : brief(text);
    if (/^torch\.\w+Storage$/.test(text)) {
      this.#fail(
        `has a tensor of ${shown}, expected one of ${Object.keys(STORAGE_DTYPES).join(", ")}`,
      );
    }
    return this.#refuse(`names ${shown}, which is not a tensor`);
  }

  #reduce(): void {
    const args = this.#pop(), callee = this.#pop();
    if (!(callee instanceof Name)) this.#refuse("calls something that has no name");
    const value = args instanceof PickledTuple ? callee.call?.(args.items) : undefined;
    if (value === undefined) {
      this.#refuse(`calls ${callee.name} with arguments that make no tensor`);
    }
    this.#push(this.#container(value));
  }

  /**
   * `("storage", storage type, key, device, number of elements)`. The format before PyTorch 1.6 has one more, by
   * which a storage may be a part of another: None in all that its later versions write.
   */
  #persistentId(): PickledStorage {
    const id = this.#pop();
    const given = id instanceof PickledTuple ? id.items : [];
    const plain = given.length === 5 || given.length === 6 && given[5] === null;
    const [kind, type, key, , count] = plain ? given : [];
    const dtype = type instanceof Name ? type.dtype : undefined;
    if (kind !== "storage" || dtype === undefined || typeof key !== "string" || !isCount(count)) {
      this.#refuse("refers to data that is not a tensor's");
    }
    return this.#container(new PickledStorage(dtype, key, count));
  }

  #setItems(dictionary: PickledValue, items: PickledValue[]): void {
    if (!(dictionary instanceof PickledDictionary) || items.length % 2 !== 0) {
      this.#fail("is damaged: it sets items of what is no dictionary");
    }
    for (let i = 0; i < items.length; i += 2) {
      const key = items[i];
      if (typeof key !== "string" && typeof key !== "number") {
        this.#fail("has a dictionary with a key that is neither a string nor a number");
      }
      this.#charge(MEMO_BYTES);
      dictionary.set(key, items[i + 1]);
    }
  }

  #append(list: PickledValue, items: PickledValue[]): void {
    if (!Array.isArray(list)) this.#fail("is damaged: it appends to what is no list");
    for (const item of items) list.push(item);
  }

  #memoize(index: number): void {
    this.#charge(MEMO_BYTES);
    this.#memo.set(index, this.#top());
  }

  #recall(index: number): void {
    const value = this.#memo.get(index);
    if (value === undefined) {
      this.#fail(`is damaged: it recalls value ${index}, which is not there`);
    }
    this.#push(value);
  }

  #build(): void {
    const state = this.#pop(), target = this.#top();
    const ordered = target instanceof PickledDictionary && target.ordered;
    if (!ordered || !(state instanceof PickledDictionary)) {
      this.#refuse("sets the state of an object that is not a tensor's");
    }
    // The attributes of a state_dict (`_metadata`): versions of PyTorch's modules.
  }

  #step(opcode: number, at: number): void {
    const view = this.#view;
    switch (opcode) {
      case 0x80: { // PROTO
        const protocol = this.#bytes[this.#take(1)];
        if (protocol >= 2 && protocol <= 5) return;
        return this.#fail(`is a pickle of protocol ${protocol}, expected 2 to 5`);
      }
      case 0x95: // FRAME
        if (this.#length() <= this.#bytes.length - this.#at) return;
        return this.#fail("is damaged: a frame ends after the pickle");
      case 0x28: // MARK
        this.#marks.push(this.#stack.length);
        return;
      case 0x30: // POP, which takes a mark too
        if (this.#marks.at(-1) === this.#stack.length) this.#marks.pop();
        else this.#pop();
        return;
      case 0x31: // POP_MARK
        this.#popMark();
        return;
      case 0x32: // DUP
        return this.#push(this.#top());
      case 0x4e: // NONE
        return this.#push(null);
      case 0x88: // NEWTRUE
        return this.#push(true);
      case 0x89: // NEWFALSE
        return this.#push(false);
      case 0x4a: // BININT
        return this.#push(view.getInt32(this.#take(4), true));
      case 0x4b: // BININT1
        return this.#push(this.#bytes[this.#take(1)]);
      case 0x4d: // BININT2
        return this.#push(view.getUint16(this.#take(2), true));
      case 0x8a: // LONG1
        return this.#push(this.#number(this.#bytes[this.#take(1)]));
      case 0x47: // BINFLOAT
        return this.#push(view.getFloat64(this.#take(8)));
      case 0x8c: // SHORT_BINUNICODE
        return this.#push(this.#text(this.#bytes[this.#take(1)]));
      case 0x58: // BINUNICODE
        return this.#push(this.#text(view.getUint32(this.#take(4), true)));
      case 0x8d: // BINUNICODE8
        return this.#push(this.#text(this.#length()));
      case 0x5d: // EMPTY_LIST
        return this.#push(this.#container([]));
      case 0x61: { // APPEND
        const item = this.#pop();
        return this.#append(this.#top(), [item]);
      }
      case 0x65: { // APPENDS
        const items = this.#popMark();
        return this.#append(this.#top(), items);
      }
      case 0x6c: // LIST
        return this.#push(this.#container(this.#popMark()));
      case 0x29: // EMPTY_TUPLE
        return this.#pushTuple([]);
      case 0x85: // TUPLE1
        return this.#pushTuple([this.#pop()]);
      case 0x86: // TUPLE2
        return this.#pushTuple([this.#pop(), this.#pop()].reverse());
      case 0x87: // TUPLE3
        return this.#pushTuple([this.#pop(), this.#pop(), this.#pop()].reverse());
      case 0x74: // TUPLE
        return this.#pushTuple(this.#popMark());
      case 0x7d: // EMPTY_DICT
        return this.#push(this.#container(new PickledDictionary(false)));
      case 0x73: { // SETITEM
        const value = this.#pop(), key = this.#pop();
        return this.#setItems(this.#top(), [key, value]);
      }
      case 0x75: { // SETITEMS
        const items = this.#popMark();
        return this.#setItems(this.#top(), items);
      }
      case 0x71: // BINPUT
        return this.#memoize(this.#bytes[this.#take(1)]);
      case 0x72: // LONG_BINPUT
        return this.#memoize(view.getUint32(this.#take(4), true));
      case 0x94: // MEMOIZE
        return this.#memoize(this.#memo.size);
      case 0x68: // BINGET
        return this.#recall(this.#bytes[this.#take(1)]);
      case 0x6a: // LONG_BINGET
        return this.#recall(view.getUint32(this.#take(4), true));
      case 0x63: // GLOBAL
        return this.#push(this.#name(this.#line(), this.#line()));
      case 0x93: { // STACK_GLOBAL
        const attribute = this.#pop(), module = this.#pop();
        return this.#push(this.#name(module, attribute));
      }
      case 0x51: // BINPERSID
        return this.#push(this.#persistentId());
      case 0x52: // REDUCE
        return this.#reduce();
      case 0x62: // BUILD
        return this.#build();
      case 0x69: // INST names what it makes in its arguments
        this.#name(this.#line(), this.#line());
    }
    const known = REFUSED[opcode] ?? `0x${opcode.toString(16).padStart(2, "0")}`;
    this.#refuse(`uses pickle opcode ${known} at byte ${at}, which no tensor needs`);
  }
}
