/** Command lines that nobody means: `LORIKEET_FUZZ_INPUTS=1000` tries so many. */
import { join } from "node:path";
import { helpText } from "../../cli/command_line.ts";
import { TRAIN } from "../../train/config/flags.ts";
import type { ProgramName } from "../../scripts/launch/permissions.ts";
import { fixturePath } from "../fixtures.ts";
import { TemporaryFolder } from "../cli/cli.ts";
import { lorikeetHere } from "../cli/here.ts";
import { demand, tries, Worst } from "./commands.ts";
import { hostileValue } from "./hostile_values.ts";
import { type Picker, randomPicker } from "./mutate.ts";

/** Commands with arguments that are right. */
const COMMANDS: readonly (readonly [ProgramName, ...string[]])[] = [
  ["train", "--model", "builtin", "--data", "builtin"],
  ["generate", "--model", "builtin", "--prompt", "a", "--max-tokens", "3"],
  ["generate", "--model", "builtin", "--data", "builtin", "--samples", "2", "--max-tokens", "3"],
  ["chat", "--model", "builtin"],
  ["score", "--model", "builtin", "--data", "builtin"],
  ["merge", "--model", fixturePath("llama"), "--adapter", fixturePath("adapter_qv")],
  ["convert", "--model", "builtin"],
  ["bench", "memory"],
  ["bench", "device"],
];

/** What keeps a command short that is right after all. */
const SHORT: Partial<Record<ProgramName, string[]>> = {
  train: ["--max-steps", "2", "--samples", "2", "--initial-loss-scale", "1024"],
  generate: ["--samples", "2", "--max-tokens", "3"],
  score: ["--samples", "2"],
};

/** The flags that a command tells of. */
async function flagsOf(command: string): Promise<string[]> {
  const help = command === "train"
    ? helpText(TRAIN)
    : (await lorikeetHere(command, ["--help"])).stdout;
  return [...new Set(help.match(/--[a-z][\w.-]*/g) ?? [])].filter((flag) =>
    flag !== "--help" && flag !== "--debug"
  );
}

/** A flag with its value, written in one of the ways there are, or nearly so. */
function hostileFlag(flags: readonly string[], pick: Picker): string[] {
  const flag = flags[pick(flags.length)], value = hostileValue(pick);
  switch (pick(7)) {
    case 0:
      return [`${flag}=${value}`];
    case 1:
      return [flag];
    case 2:
      return [flag.replace("--", "--no-")];
    case 3:
      return [flag.slice(0, -1) + value.slice(0, 50), value];
    case 4:
      return [value];
    default:
      return [flag, value];
  }
}

Deno.test("fuzz: odd command lines end well or with one clear sentence", async () => {
  using folder = new TemporaryFolder();
  const worst = new Worst(), output = join(folder.path, "out");
  const flags = new Map<string, string[]>();
  for (const [command] of COMMANDS) {
    if (!flags.has(command)) flags.set(command, await flagsOf(command));
  }
  for (const number of tries()) {
    const pick = randomPicker(29_000_000 + number);
    const [command, ...right] = COMMANDS[pick(COMMANDS.length)];
    const known = flags.get(command) ?? [];
    const odd = Array.from({ length: 1 + pick(3) }, () => hostileFlag(known, pick)).flat();
    const kept = pick(5) === 0 ? right.slice(0, pick(right.length + 1)) : right;
    const writes = ["train", "merge", "convert"].includes(command) ? ["--output", output] : [];
    // No operating system passes a zero byte or half a character.
    const args = [...kept, ...odd, ...writes, ...SHORT[command] ?? []]
      .map((arg) => arg.replaceAll("\0", "").toWellFormed());
    await demand(command, args, output, worst);
  }
  worst.tell();
});
