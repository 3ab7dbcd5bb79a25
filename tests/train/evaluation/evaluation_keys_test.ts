/** What the keys of evaluations demand of each other. */
import { parse, refused } from "../config/config_parsing.ts";

Deno.test("evaluation keys: held-out samples are a share or a file, and all else needs them", () => {
  refused(
    () => parse("--eval-data", "e.json", "--eval-fraction", "0.1"),
    /^eval_data and eval_fraction exclude each other; expected one of them$/,
  );
  const given: [flag: string, value: string, words: string][] = [
    ["--eval-every", "5", "eval_every is 5"],
    ["--eval-samples", "2", "eval_samples is 2"],
    ["--eval-prompts", "Sing.", "eval_prompts are given"],
    ["--keep-best", "true", "keep_best is true"],
    ["--early-stopping", "3", "early_stopping is 3"],
  ];
  for (const [flag, value, words] of given) {
    const expected = `^${words} but nothing is held out; expected eval_data or eval_fraction$`;
    refused(() => parse(flag, value), new RegExp(expected));
    for (const held of [["--eval-data", "e.json"], ["--eval-fraction", "0.1"]]) {
      parse(flag, value, ...held);
    }
  }
  refused(
    () => parse("--early-stopping-min-delta", "0.1"),
    /^early_stopping_min_delta is 0\.1 but early_stopping is 0; expected early_stopping of at least 1$/,
  );
  refused(() => parse("--eval-every", "-1"), /--eval-every is -1; expected a whole number of/);
  refused(() => parse("--eval-samples", "65"), /--eval-samples is 65; expected a whole number/);
});
