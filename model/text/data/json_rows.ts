/**
 * Rows of JSON: a list, JSON Lines, objects one after another with or without commas, or an object with
 * lists of rows.
 *
 * @module
 */
import { UserError } from "../../../kernels/errors.ts";
import { UTF8 } from "../../files/whole_file.ts";
import { FORMATS, MOST_ROW_BYTES } from "./file.ts";
import { type Extent, JsonFault, JsonValues, type Member } from "./json_values.ts";
import { parseValue, type Row, type Rows } from "./row.ts";

/** JSON text with the name of its file. */
class JsonText {
  /** Bytes before `#counted` hold `#lines` line breaks. */
  #counted = 0;
  #lines = 0;

  constructor(readonly bytes: Uint8Array, readonly file: string) {}

  /** Line of a byte, from 1. */
  line(at: number): number {
    if (at < this.#counted) this.#counted = this.#lines = 0;
    for (; this.#counted < at; this.#counted++) {
      if (this.bytes[this.#counted] === 0x0a) this.#lines++;
    }
    return this.#lines + 1;
  }

  values(extent: Extent = { begin: 0, end: this.bytes.length }): JsonValues {
    return new JsonValues(this.bytes, extent);
  }

  /** A row as a value. */
  row({ begin, end }: Extent, number: number, list = ""): Row {
    const where = () => `data file "${this.file}", ${list}row ${number} (line ${this.line(begin)})`;
    if (end - begin > MOST_ROW_BYTES) {
      throw new UserError(
        `${where()} has ${end - begin} bytes; expected rows of at most ${MOST_ROW_BYTES}`,
      );
    }
    let text: string;
    try {
      text = UTF8.decode(this.bytes.subarray(begin, end));
    } catch {
      throw new UserError(`${where()} is not UTF-8 text; expected JSON in UTF-8`);
    }
    try {
      return { where, value: parseValue(text) };
    } catch (error) {
      const message = (error as Error).message.replaceAll(/\s+/g, " ");
      throw new UserError(
        `${where()} is not JSON (${message}); expected an object with its fields`,
      );
    }
  }

  /** A fault as one sentence. */
  refusal({ message, at, ended }: JsonFault, number: number): UserError {
    const where = `${message} (row ${number}, line ${this.line(at)})`;
    return new UserError(
      `data file "${this.file}" is ${ended ? "truncated" : "not JSON"}: ${where}; ` +
        "expected a list of rows, JSON Lines, or objects one after another",
    );
  }
}

/** Calls a reader; what it finds that is no JSON becomes a sentence. */
function* guarded(text: JsonText, list: string, extents: Iterable<Extent>): Generator<Row, void> {
  let number = 1;
  try {
    for (const extent of extents) {
      yield text.row(extent, number, list);
      number++;
    }
  } catch (error) {
    throw error instanceof JsonFault ? text.refusal(error, number) : error;
  }
}

/** A list, and nothing after it. */
function* listExtents(values: JsonValues): Generator<Extent, void> {
  yield* values.elements();
  if (values.next() !== undefined) throw new JsonFault("more follows after the list", values.at);
}

/** Objects one after another, with commas between them or without. */
function* objectExtents(values: JsonValues): Generator<Extent, void> {
  while (values.next() !== undefined) {
    yield values.value();
    values.take(",");
  }
}

/** Number of a list's rows, which are read no further. */
function count(text: JsonText, list: Extent): number {
  let rows = 0;
  try {
    for (const _ of text.values(list).elements()) rows++;
  } catch (error) {
    throw error instanceof JsonFault ? text.refusal(error, rows + 1) : error;
  }
  return rows;
}

/** Whether a value is a list without elements. */
function isEmptyList(text: JsonText, member: Extent): boolean {
  const list = text.values(member);
  return list.take("[") && list.next() === "]";
}

/**
 * The list of rows that an object around lists means: `train`, or the only one.
 *
 * @throws {UserError} Where that is not clear, or it has no rows.
 */
function chooseList(text: JsonText, lists: readonly Member[]): Rows {
  const chosen = lists.find(({ key }) => key === "train") ?? lists[0];
  const names = (members: readonly Member[]) => members.map(({ key }) => JSON.stringify(key));
  if (chosen.key !== "train" && lists.length > 1) {
    throw new UserError(
      `data file "${text.file}" holds several lists of rows, ${names(lists).join(", ")}; ` +
        'expected one, or one that is named "train"',
    );
  }
  const others = lists.filter((member) => member !== chosen)
    .map((member) => {
      const rows = count(text, member);
      return `${JSON.stringify(member.key)} (${rows} ${rows === 1 ? "row" : "rows"})`;
    });
  if (isEmptyList(text, chosen)) {
    const rows = others.length === 0 ? "" : ` (beside it: ${others.join(", ")})`;
    throw new UserError(
      `data file "${text.file}": its list ${names([chosen])[0]} holds no rows${rows}; ` +
        "expected at least one",
    );
  }
  const list = `${names([chosen])[0]}, `;
  const left = others.length === 0 ? "" : `; left out: ${others.join(", ")}`;
  return {
    rows: guarded(text, list, listExtents(text.values(chosen))),
    notes: [`Rows of ${names([chosen])[0]}${left}`],
  };
}

/**
 * Lists of rows in an object, or in the only object in it; none where it has fields of a row itself. Lists without
 * elements count where there are no others, or one is named `train`.
 */
function listsIn(text: JsonText, extent: Extent, isField: (name: string) => boolean): Member[] {
  const object = text.values(extent);
  object.next();
  const members = object.members();
  if (members.some(({ key }) => isField(key))) return [];
  const lists = members.filter((member) => {
    const list = text.values(member);
    return list.take("[") && list.next() === "{";
  });
  const empty = members.filter((member) => isEmptyList(text, member));
  if (empty.some(({ key }) => key === "train")) return [...lists, ...empty];
  const objects = members.filter((member) => text.values(member).next() === "{");
  const inner = lists.length === 0 && objects.length === 1
    ? listsIn(text, objects[0], isField)
    : lists;
  return inner.length === 0 ? empty : inner;
}

/** Lists of rows in the only object of a file. */
function listsOfRows(text: JsonText, isField: (name: string) => boolean): Member[] {
  const values = text.values();
  values.next();
  try {
    const { end } = values.value();
    return values.next() === undefined ? listsIn(text, { begin: 0, end }, isField) : [];
  } catch (error) {
    // Reading it as rows says what is wrong.
    if (error instanceof JsonFault) return [];
    throw error;
  }
}

/**
 * Rows of JSON, parsed one at a time as they are asked for.
 *
 * @param bytes UTF-8 that begins with `[` or `{`.
 * @param file What to call it in messages.
 * @param isField Whether a name is a field of rows; an object that has none is looked into for lists.
 */
export function jsonRows(
  bytes: Uint8Array,
  file: string,
  isField: (name: string) => boolean,
): Rows {
  const text = new JsonText(bytes, file), values = text.values();
  const first = values.next();
  if (first === undefined) {
    throw new UserError(`data file "${file}" is empty; expected ${FORMATS}`);
  }
  if (first === "[") return { rows: guarded(text, "", listExtents(values)), notes: [] };
  const lists = listsOfRows(text, isField);
  if (lists.length > 0) return chooseList(text, lists);
  return { rows: guarded(text, "", objectExtents(values)), notes: [] };
}
