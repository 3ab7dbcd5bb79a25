/**
 * What rendering a template may take in all: loops in loops, and values that hold each other, can ask for more than any
 * machine has while each part of them is small.
 *
 * @module
 */
import process from "node:process";
import { fail } from "./errors.ts";

/** Units of work of one conversation: a character that is made or looked through is one. About 1 GB. */
const MOST_UNITS = 1_000_000_000;
/** Seconds of a processor for one conversation, whatever else it has to do; real templates take some milliseconds. */
const MOST_SECONDS = 1.5;
/** Units between looks at the clock: less than a tenth of a second. */
const LOOK = 1_000_000;

function processorSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

/** The rendering under way. One is, or none: nothing waits inside. */
let spent = 0, next = Infinity, began = 0;

/** Counts work of the rendering under way. @throws TemplateError where that is too much, or takes too long. */
export function spend(units: number): void {
  spent += units;
  if (spent < next) return;
  if (spent > MOST_UNITS) fail(`the template makes more than ${MOST_UNITS} characters and items`);
  if (processorSeconds() - began > MOST_SECONDS) {
    fail(`the template takes more than ${MOST_SECONDS} seconds`);
  }
  next = spent + LOOK;
}

/** Runs a rendering within its limits. */
export function withinBudget<T>(run: () => T): T {
  spent = 0;
  next = LOOK;
  began = processorSeconds();
  try {
    return run();
  } finally {
    next = Infinity;
  }
}
