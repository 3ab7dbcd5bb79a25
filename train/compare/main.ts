/**
 * Entry point of `lorikeet compare`: a table of runs.
 *
 * @module
 */
import { z } from "zod";
import { command, helpIfAsked, readFlags, refuse } from "../../cli/command_line.ts";
import { runMain } from "../../cli/run_main.ts";
import { asFlag, checkValues, flag } from "../../cli/settings.ts";
import { printJson, printLine, printText } from "../../kernels/terminal.ts";
import { comparisonCsv, comparisonTable, differingKeys } from "./comparison.ts";
import { readRun } from "./run_record.ts";

const COMPARE = command(
  "compare",
  "RUN… [--flag value ...]",
  "Compares runs, also those that go on or ended badly. A RUN is an output folder of train.\n" +
    "Nothing is written.",
  z.strictObject({
    json: flag().default(false).describe("Print one JSON object on stdout and nothing else there."),
    csv: flag().default(false).describe("Print CSV on stdout, a line a run."),
  }),
);

/** The arguments with a value for every switch: the name of a run after one is none. */
function withValues(args: readonly string[]): string[] {
  const switches = COMPARE.line.keys.map(({ name }) => asFlag(name));
  const isValue = (arg = "") => /^(true|false|on|off)$/.test(arg);
  return args.map((arg, i) =>
    switches.includes(arg) && !isValue(args[i + 1]) ? `${arg}=true` : arg
  );
}

/** Compares the runs that the arguments name. */
export function main(args: string[]): Promise<void> {
  helpIfAsked(COMPARE.line, args);
  const problems: string[] = [];
  const { givens, operands } = readFlags(COMPARE.line, withValues(args), problems);
  const checked = Object.fromEntries(checkValues(COMPARE.line.keys, givens, problems));
  if (operands.length === 0) problems.push("no run is named; expected folders of runs");
  if (checked.json && checked.csv) {
    problems.push("--json and --csv exclude each other; expected one of them");
  }
  refuse(problems);
  const runs = operands.map(readRun);
  if (checked.json) printJson({ runs, differing_keys: differingKeys(runs) }, 2);
  else if (checked.csv) printText(comparisonCsv(runs));
  else printLine(comparisonTable(runs));
  return Promise.resolve();
}

if (import.meta.main) await runMain(main);
