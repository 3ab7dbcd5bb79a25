/**
 * Values that nobody means, for keys and flags.
 *
 * @module
 */
import type { Picker } from "./mutate.ts";

/** Texts as one would type them; a shell passes anything but a zero byte. */
export const HOSTILE_VALUES: readonly string[] = [
  ...["", " ", "0", "-0", "-1", "1", "1.5", "1e-400", "1e400", "NaN", ".nan", ".inf", "-.inf"],
  ...["9007199254740993", "4294967296", "1e21", "0x10", "0o17", "1_000", "１", "+1"],
  ...["true", "false", "on", "off", "none", "all", "null", "~", "yes", "auto", "builtin"],
  ...["[]", "{}", "[1, 2]", "{a: 1}", "[[[[]]]]", "{rank: 4}", "a,b", ",", ",,", "1,,2", "0,4-7"],
  ...["q_proj", "all-linear", "every:0", "every:9999", "block", "cosine", "adamw", "nf4"],
  ...["/", ".", "..", "/dev/null", "/dev/zero", "/dev/stdin", "/proc/self/mem", "/etc/passwd"],
  ...["random:", "random:tiny", "random:llama2-7b.json", "random:../x.json", "meta-llama/Llama"],
  ...[
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x9b2J",
    "a\rb",
    "a\nb",
    "\u202egnp.exe",
    "\u2066x",
  ],
  ...["%s%n", "$(id)", "`id`", "../../etc", "a\\b", '"', "'", "--model", "-", "--", "a=b", "#x"],
  ...["*a", "&a 1", "!!binary aGk=", "!!js/function x", "? a", "- 1", "a: b: c", "|", ">", "%YAML"],
  ...["é", "🦜", "\ud800", "\ufeff1", "x".repeat(20_000), "a ".repeat(5000), "[".repeat(5000)],
  ...["__proto__", "constructor", "toString", "hasOwnProperty"],
];

/** One of them, or a few in a row. */
export function hostileValue(pick: Picker): string {
  const one = () => HOSTILE_VALUES[pick(HOSTILE_VALUES.length)];
  return pick(8) === 0 ? one() + one() : one();
}
