/** Training configurations from flags and YAML, for the tests of them. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { UsageError } from "../../../kernels/errors.ts";
import { parseTrainArguments, type TrainConfig } from "../../../train/config/config.ts";

/** The path of an example configuration. */
export const example = (name: string): string =>
  fileURLToPath(new URL(`../../../examples/${name}`, import.meta.url));

/** The configuration of `args` on top of the defaults alone. */
export const parse = (...args: string[]): TrainConfig =>
  parseTrainArguments(["--model", "m", ...args]);

/** Parses with a YAML file of this text. */
export function parseYaml(text: string, ...args: string[]): TrainConfig {
  const file = Deno.makeTempFileSync({ suffix: ".yaml" });
  try {
    Deno.writeTextFileSync(file, text);
    return parseTrainArguments([file, ...args]);
  } finally {
    Deno.removeSync(file);
  }
}

/** Asserts that `run` is refused as wrong usage with exactly these problems, one a line. */
export function refused(run: () => unknown, ...problems: RegExp[]): void {
  assert.throws(run, (error) => {
    assert.ok(error instanceof UsageError, String(error));
    const lines = error.message.split("\n");
    assert.equal(lines.length, problems.length, error.message);
    problems.forEach((problem, i) => assert.match(lines[i], problem));
    return true;
  });
}
