/**
 * `"{}".format(...)`.
 *
 * @module
 */
import { fail } from "./errors.ts";
import { formatValue } from "./format_spec.ts";
import { repr, softStr } from "./repr.ts";
import { escapeHtml, Text } from "./text.ts";
import { type Arguments, text, type Value } from "./values.ts";

/** How attributes and items of values are found, as the sandbox allows. */
export interface Lookup {
  attribute(object: Value, name: string): Value;
  item(object: Value, key: Value): Value;
}

const FIELD = /^([^.[!:{}]*)((?:\.[^.[\]!:{}]+|\[[^\]]+\])*)(?:!([^:]))?(?::([^]*))?$/;

class Formatter {
  #next = 0;
  #numbering: "automatic" | "manual" | undefined;

  constructor(readonly args: Arguments, readonly lookup: Lookup) {}

  #first(name: string): Value {
    const numbering = name === "" ? "automatic" : /^[0-9]+$/.test(name) ? "manual" : undefined;
    if (numbering !== undefined) {
      if (this.#numbering !== undefined && this.#numbering !== numbering) {
        fail("cannot switch between manual field specification and automatic field numbering");
      }
      this.#numbering = numbering;
      const place = name === "" ? this.#next++ : Number(name);
      return this.args.positional[place] ??
        (place < this.args.positional.length
          ? null
          : fail(`Replacement index ${place} out of range for positional args tuple`));
    }
    if (!this.args.named.has(name)) fail(`KeyError: '${name}'`);
    return this.args.named.get(name) ?? null;
  }

  #field(field: Text, depth: number, markup: boolean): Text {
    const match = FIELD.exec(field.value);
    if (match === null) fail(`a field of format() is '{${field.value}}'`);
    const [whole, name, path, conversion, spec = ""] = match;
    let value = this.#first(name);
    for (const [part] of path.matchAll(/\.[^.[\]]+|\[[^\]]+\]/g)) {
      const key = part.startsWith(".") ? part.slice(1) : part.slice(1, -1);
      if (part.startsWith(".")) value = this.lookup.attribute(value, key);
      else value = this.lookup.item(value, /^[0-9]+$/.test(key) ? BigInt(key) : text(key));
    }
    if (conversion !== undefined) {
      if (!"sra".includes(conversion)) fail(`Unknown conversion specifier ${conversion}`);
      value = conversion === "s" ? softStr(value) : repr(value);
    }
    const specText = field.cut(whole.length - spec.length);
    const formatted = formatValue(value, spec === "" ? text("") : this.format(specText, depth + 1));
    return markup ? escapeHtml(formatted) : formatted;
  }

  format(template: Text, depth: number): Text {
    if (depth > 1) fail("Max string recursion exceeded");
    const { value, markup } = template, parts: Text[] = [];
    let position = 0;
    const brace = /[{}]/g;
    for (let match = brace.exec(value); match; match = brace.exec(value)) {
      const at = match.index;
      parts.push(template.cut(position, at));
      if (value[at + 1] === match[0]) {
        parts.push(template.cut(at, at + 1));
        position = at + 2;
      } else if (match[0] === "}") fail("Single '}' encountered in format string");
      else {
        const end = fieldEnd(value, at);
        parts.push(this.#field(template.cut(at + 1, end), depth, markup));
        position = end + 1;
      }
      brace.lastIndex = position;
    }
    parts.push(template.cut(position));
    return Text.concat(parts, markup);
  }
}

/** Where the field that begins at a brace ends; its format may hold fields itself. */
function fieldEnd(value: string, begin: number): number {
  let open = 0;
  for (let i = begin; i < value.length; i++) {
    if (value[i] === "{") open++;
    else if (value[i] === "}" && --open === 0) return i;
  }
  fail("Single '{' encountered in format string");
}

/** Python's `template.format(...)`. */
export function formatText(template: Text, args: Arguments, lookup: Lookup): Text {
  return new Formatter(args, lookup).format(template, 0);
}
