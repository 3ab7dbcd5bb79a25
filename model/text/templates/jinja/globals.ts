/**
 * What templates can use without being given it: `range`, `dict`, `namespace`, `cycler`, `joiner`, and
 * transformers' `raise_exception` and `strftime_now`.
 *
 * @module
 */
import { asText, bind, unnamed } from "./arguments.ts";
import { fail, TemplateError } from "./errors.ts";
import { asInteger } from "./integers.ts";
import { repr, str } from "./repr.ts";
import { strftime } from "./strftime.ts";
import { EMPTY, Text } from "./text.ts";
import {
  type Arguments,
  Callable,
  Dict,
  iterate,
  Range,
  text,
  Thing,
  type Value,
} from "./values.ts";

/** The longest range that the sandbox allows. */
const MAX_RANGE = 100_000;

function range(args: Arguments): Value {
  const bounds = unnamed("range", args, 1, 3).map(asInteger);
  const [start, stop, step = 1n] = bounds.length === 1 ? [0n, bounds[0]] : bounds;
  if (step === 0n) fail("range() arg 3 must not be zero");
  const made = new Range(start, stop, step);
  if (made.length > MAX_RANGE) {
    fail(`Range too big. The sandbox blocks ranges larger than MAX_RANGE (${MAX_RANGE}).`);
  }
  return made;
}

function dict({ positional, named }: Arguments): Dict {
  if (positional.length > 1) fail(`dict expected at most 1 argument, got ${positional.length}`);
  const [given] = positional;
  const made = new Dict(given instanceof Dict ? given.items() : []);
  if (given !== undefined && !(given instanceof Dict)) {
    for (const pair of iterate(given)) {
      const items = [...iterate(pair)];
      if (items.length !== 2) fail("dict() takes pairs of a key and a value");
      made.set(items[0], items[1]);
    }
  }
  for (const [name, value] of named) made.set(text(name), value);
  return made;
}

/** `namespace()`: variables that a loop's body can set for what comes after it. */
export class Namespace extends Thing {
  readonly type = "Namespace";
  readonly #members = new Map<string, Value>();

  constructor(members: Dict) {
    super();
    for (const [key, value] of members.items()) this.#members.set(str(key).value, value);
  }

  override attribute(name: string): Value | undefined {
    return name.startsWith("_") ? undefined : this.#members.get(name);
  }

  set(name: string, value: Value): void {
    this.#members.set(name, value);
  }

  override describe(): string {
    const members = new Dict([...this.#members].map(([name, value]) => [text(name), value]));
    return `<Namespace ${repr(members).value}>`;
  }
}

class Cycler extends Thing {
  readonly type = "Cycler";
  #place = 0;

  constructor(readonly items: readonly Value[]) {
    super();
    if (items.length === 0) fail("at least one item has to be provided");
  }

  override attribute(name: string): Value | undefined {
    if (name === "current") return this.items[this.#place];
    if (name === "next") {
      return new Callable(name, (args) => {
        unnamed(name, args, 0);
        const current = this.items[this.#place];
        this.#place = (this.#place + 1) % this.items.length;
        return current;
      });
    }
    if (name !== "reset") return undefined;
    return new Callable(name, (args) => {
      unnamed(name, args, 0);
      this.#place = 0;
      return null;
    });
  }
}

/** Nothing at the first call, and then the separator. */
class Joiner extends Thing {
  readonly type = "Joiner";
  #used = false;

  constructor(readonly separator: Value) {
    super();
  }

  override get callable(): boolean {
    return true;
  }

  override call(args: Arguments): Value {
    unnamed("joiner", args, 0);
    if (this.#used) return this.separator;
    this.#used = true;
    return EMPTY;
  }
}

function raiseException(args: Arguments): never {
  const { message } = bind("raise_exception", args, ["message"]);
  throw new TemplateError(str(message).value, { raised: true });
}

const FUNCTIONS: Readonly<Record<string, (args: Arguments, now: () => Date) => Value>> = {
  range,
  dict,
  namespace: (args) => new Namespace(dict(args)),
  cycler: (args) => new Cycler(unnamed("cycler", args, 1, Infinity)),
  joiner: (args) => new Joiner(bind("joiner", args, ["sep"], { sep: text(", ") }).sep),
  lipsum: () => fail("lipsum() is not supported: a prompt is the same each time"),
  raise_exception: raiseException,
  strftime_now: (args, now) => {
    const format = asText("strftime_now", bind("strftime_now", args, ["format"]).format);
    return new Text(strftime(now(), format.value));
  },
};

/**
 * The functions by their names.
 *
 * @param now What the time is.
 */
export function globals(now: () => Date): Map<string, Value> {
  return new Map(
    Object.entries(FUNCTIONS).map(([name, run]) => [
      name,
      new Callable(name, (args) => run(args, now)),
    ]),
  );
}
