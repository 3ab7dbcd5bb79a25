/**
 * Lists of rows in an object that is all of a file.
 *
 * @module
 */
import { UserError } from "../../../kernels/errors.ts";
import type { JsonText } from "./json_text.ts";
import { JsonFault, type Member } from "./json_values.ts";
import type { Extent } from "./row.ts";

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

/** A list of rows. */
export interface ChosenList {
  /** Where it begins. */
  begin: number;
  /** Its name, as it stands before a row's number. */
  called: string;
  notes: string[];
}

/**
 * The list of rows that an object around lists means: `train`, or the only one.
 *
 * @throws {UserError} Where that is not clear, or it has no rows.
 */
export function chooseList(text: JsonText, lists: readonly Member[]): ChosenList {
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
  const left = others.length === 0 ? "" : `; left out: ${others.join(", ")}`;
  return {
    begin: chosen.begin,
    called: `${names([chosen])[0]}, `,
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

/** Lists of rows in the only object of a text. */
export function listsOfRows(text: JsonText, isField: (name: string) => boolean): Member[] {
  try {
    return listsIn(text, { begin: text.at, end: text.bytes.length }, isField);
  } catch (error) {
    // Reading it as rows says what is wrong.
    if (error instanceof JsonFault) return [];
    throw error;
  }
}
