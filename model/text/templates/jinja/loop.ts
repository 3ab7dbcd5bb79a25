/**
 * The variable `loop`.
 *
 * @module
 */
import { unnamed } from "./arguments.ts";
import { equal } from "./compare.ts";
import { fail } from "./errors.ts";
import { type Arguments, Callable, int, Thing, Tuple, Undefined, type Value } from "./values.ts";

/** Goes through the items of a loop, and says where it is. */
export class Loop extends Thing {
  readonly type = "LoopContext";
  #index = -1;
  /** Items that were looked at before their turn. */
  readonly #ahead: Value[] = [];
  #ended = false;
  #length: number | undefined;
  #previous: Value | undefined;
  #current: Value | undefined;
  #changed: Value | undefined;

  /**
   * @param length Number of items, where that is known before.
   * @param recurse Renders the loop's body for other items; undefined where it is not recursive.
   */
  constructor(
    readonly iterator: Iterator<Value>,
    length: number | undefined,
    readonly depth: number,
    readonly recurse: ((items: Value, depth: number) => Value) | undefined,
  ) {
    super();
    this.#length = length;
  }

  #pull(): boolean {
    if (this.#ended) return false;
    const next = this.iterator.next();
    if (next.done) this.#ended = true;
    else this.#ahead.push(next.value);
    return !next.done;
  }

  /** Goes on to the next item; false where there is none. */
  advance(): boolean {
    if (this.#ahead.length === 0 && !this.#pull()) return false;
    this.#previous = this.#current;
    this.#current = this.#ahead.shift();
    this.#index++;
    return true;
  }

  get current(): Value {
    return this.#current ?? null;
  }

  override get length(): number {
    if (this.#length === undefined) {
      while (this.#pull());
      this.#length = this.#index + 1 + this.#ahead.length;
    }
    return this.#length;
  }

  override attribute(name: string): Value | undefined {
    switch (name) {
      case "index":
        return int(this.#index + 1);
      case "index0":
        return int(this.#index);
      case "revindex":
        return int(this.length - this.#index);
      case "revindex0":
        return int(this.length - this.#index - 1);
      case "first":
        return this.#index === 0;
      case "last":
        return this.#ahead.length === 0 && !this.#pull();
      case "length":
        return int(this.length);
      case "depth":
        return int(this.depth + 1);
      case "depth0":
        return int(this.depth);
      case "previtem":
        return this.#index === 0 || this.#previous === undefined
          ? new Undefined("there is no previous item")
          : this.#previous;
      case "nextitem":
        return this.#ahead.length > 0 || this.#pull()
          ? this.#ahead[0]
          : new Undefined("there is no next item");
      case "cycle":
        return new Callable(name, (args) => {
          const items = unnamed(name, args, 0, Infinity);
          if (items.length === 0) fail("no items for cycling given");
          return items[this.#index % items.length];
        });
      case "changed":
        return new Callable(name, (args) => {
          const value = new Tuple(unnamed(name, args, 0, Infinity));
          if (this.#changed !== undefined && equal(this.#changed, value)) return false;
          this.#changed = value;
          return true;
        });
      default:
        return undefined;
    }
  }

  override get callable(): boolean {
    return true;
  }

  override call(args: Arguments): Value {
    const [items] = unnamed("loop", args, 1);
    if (this.recurse === undefined) {
      fail("The loop must have the 'recursive' marker to be called recursively.");
    }
    return this.recurse(items, this.depth + 1);
  }

  override describe(): string {
    return `<LoopContext ${this.#index + 1}/${this.length}>`;
  }
}
