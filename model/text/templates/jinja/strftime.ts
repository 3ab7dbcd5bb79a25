/**
 * Python's `strftime` of a local time without a time zone, in the C locale, with glibc's flags.
 *
 * @module
 */
import { floorDivide } from "./integers.ts";

const DAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS = [
  "January",
  "February",
  "March",
  "April",
  "May",
  "June",
  "July",
  "August",
  "September",
  "October",
  "November",
  "December",
];

/** A code's digits, how many at least, and what they are filled with. */
interface Digits {
  number: number;
  width: number;
  fill: "0" | " ";
}

const digits = (number: number, width = 2, fill: "0" | " " = "0"): Digits => ({
  number,
  width,
  fill,
});

function dayOfYear(date: Date): number {
  const start = Date.UTC(date.getFullYear(), 0, 1);
  return (Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()) - start) / 86_400_000;
}

/** ISO 8601's week and the year it belongs to. */
function isoWeek(date: Date): { week: number; year: number } {
  const thursday = new Date(Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()));
  thursday.setUTCDate(thursday.getUTCDate() + 4 - (thursday.getUTCDay() || 7));
  const year = thursday.getUTCFullYear();
  const day = (thursday.getTime() - Date.UTC(year, 0, 1)) / 86_400_000;
  return { week: Math.floor(day / 7) + 1, year };
}

/** What codes stand for that are written with others. */
const COMPOSED: ReadonlyMap<string, string> = new Map([
  ["c", "%a %b %e %H:%M:%S %Y"],
  ["D", "%m/%d/%y"],
  ["F", "%Y-%m-%d"],
  ["R", "%H:%M"],
  ["r", "%I:%M:%S %p"],
  ["T", "%H:%M:%S"],
  ["X", "%H:%M:%S"],
  ["x", "%m/%d/%y"],
  ["v", "%e-%b-%Y"],
]);

const hour12 = (date: Date) => date.getHours() % 12 || 12;

const NUMBERS: ReadonlyMap<string, (date: Date) => Digits> = new Map<
  string,
  (date: Date) => Digits
>([
  ["C", (date) => digits(Number(floorDivide(BigInt(date.getFullYear()), 100n)))],
  ["d", (date) => digits(date.getDate())],
  ["e", (date) => digits(date.getDate(), 2, " ")],
  ["G", (date) => digits(isoWeek(date).year, 4)],
  ["g", (date) => digits(isoWeek(date).year % 100)],
  ["H", (date) => digits(date.getHours())],
  ["I", (date) => digits(hour12(date))],
  ["j", (date) => digits(dayOfYear(date) + 1, 3)],
  ["k", (date) => digits(date.getHours(), 2, " ")],
  ["l", (date) => digits(hour12(date), 2, " ")],
  ["M", (date) => digits(date.getMinutes())],
  ["m", (date) => digits(date.getMonth() + 1)],
  ["S", (date) => digits(date.getSeconds())],
  ["s", (date) => digits(Math.floor(date.getTime() / 1000), 1)],
  ["U", (date) => digits(Math.floor((dayOfYear(date) + 7 - date.getDay()) / 7))],
  ["u", (date) => digits(date.getDay() || 7, 1)],
  ["V", (date) => digits(isoWeek(date).week)],
  ["W", (date) => digits(Math.floor((dayOfYear(date) + 7 - (date.getDay() + 6) % 7) / 7))],
  ["w", (date) => digits(date.getDay(), 1)],
  ["Y", (date) => digits(date.getFullYear(), 4)],
  ["y", (date) => digits(date.getFullYear() % 100)],
]);

const WORDS: ReadonlyMap<string, (date: Date) => string> = new Map([
  ["A", (date: Date) => DAYS[date.getDay()]],
  ["a", (date: Date) => DAYS[date.getDay()].slice(0, 3)],
  ["B", (date: Date) => MONTHS[date.getMonth()]],
  ["b", (date: Date) => MONTHS[date.getMonth()].slice(0, 3)],
  ["h", (date: Date) => MONTHS[date.getMonth()].slice(0, 3)],
  ["n", () => "\n"],
  ["P", (date: Date) => date.getHours() < 12 ? "am" : "pm"],
  ["p", (date: Date) => date.getHours() < 12 ? "AM" : "PM"],
  ["t", () => "\t"],
  // A time without a zone has none to print.
  ["Z", () => ""],
  ["z", () => ""],
  ["%", () => "%"],
]);

/** A field with glibc's flags: `-` unfilled, `_` blanks, `0` zeros, `^` capitals, `#` the other case. */
function fill(text: string, width: number, filler: string, flags: string): string {
  const last = [...flags].findLast((flag) => "-_0".includes(flag));
  if (last === "-") return text;
  return text.padStart(width, last === "_" ? " " : last === "0" ? "0" : filler);
}

/**
 * The date and time in a format of `strftime`. Codes that there are none of stay as they are written.
 *
 * @param date A local time.
 */
export function strftime(date: Date, format: string): string {
  const pattern = /%([-_0^#]*)([0-9]*)([EO]?)([A-Za-z%])/g;
  return format.replace(pattern, (whole, flags, width, _, code) => {
    // Python itself fills in the microseconds, and takes no flags for them.
    if (code === "f" && whole === "%f") {
      return String(date.getMilliseconds() * 1000).padStart(6, "0");
    }
    const least = Math.min(Number(width || 0), 1000);
    const composed = COMPOSED.get(code);
    if (composed !== undefined) return cased(fill(strftime(date, composed), least, " ", flags));
    const number = NUMBERS.get(code)?.(date);
    if (number !== undefined) {
      const { number: value, width: own, fill: filler } = number;
      return fill(String(value), least || own, filler, flags);
    }
    const word = WORDS.get(code)?.(date);
    return word === undefined ? whole : cased(fill(word, least, " ", flags), code);

    function cased(text: string, code = ""): string {
      if (flags.includes("^")) return text.toUpperCase();
      if (!flags.includes("#")) return text;
      return code === "p" || code === "Z" ? text.toLowerCase() : text.toUpperCase();
    }
  });
}
