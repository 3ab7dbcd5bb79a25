/** Each flag, key and file that is refused, and what the refusal says. */
import assert from "node:assert/strict";
import { parseTrainArguments } from "../../../train/config/config.ts";
import { example, parse, parseYaml, refused } from "./config_parsing.ts";

Deno.test("config: unknown flags and keys name the nearest", () => {
  refused(
    () => parse("--lerning-rate", "3"),
    /^unknown flag --lerning-rate; did you mean "--learning-rate"\?$/,
  );
  refused(() => parse("--max_stepz=3"), /^unknown flag --max-stepz; did you mean "--max-steps"\?$/);
  refused(() => parse("--no-shufle"), /did you mean "--no-shuffle"\?$/);
  refused(() => parse("--rank", "3"), /did you mean "--lora\.rank"\?$/);
  refused(() => parse("--qqqqqqqqqqqq"), /^unknown flag --qqqqqqqqqqqq$/);
  refused(
    () => parseYaml("seed: 1\nmodle: x\n"),
    /^unknown key modle \(.*\.yaml, line 2\); did you mean "model"\?$/,
  );
  refused(
    () => parseYaml("lora:\n  rnak: 3\n"),
    /^unknown key lora\.rnak \(.*, line 2\); did you mean "lora\.rank"\?$/,
  );
});

Deno.test("config: all problems are reported together, with place, value and what was expected", () => {
  refused(
    () =>
      parseYaml(
        'epochs: "3"\nbetas: [0.9]\nlora: {dropout: 1, targets: [q]}\nbatchsize: 1\n',
        "--batch-size",
        "0",
        "--schedule",
        "cosin",
        "--sed",
        "3",
      ),
    /^unknown flag --sed; did you mean "--seed"\?/,
    /^ +unknown key batchsize \(.*, line 4\); did you mean "batch_size"\?/,
    /^ +epochs \(.*\.yaml, line 1\) is "3"; expected a whole number of at least 1/,
    /^ +--batch-size is 0; expected a whole number of at least 1/,
    /^ +--schedule is "cosin"; expected one of constant, linear, cosine; did you mean "cosine"\?/,
    /^ +betas \(.*, line 2\) is \[0\.9\]; expected two numbers/,
    /^ +lora\.dropout \(.*, line 3\) is 1; expected a number of at least 0 and less than 1/,
    /^ +lora\.targets \(.*\) is \["q"\]; expected all-linear, or a list of different names out of q_proj, /,
  );
});

/** Flags with a value that is wrong by itself. */
const wrong: [string, string][] = [
  ["--model", ""],
  ["--samples", "0"],
  ["--layers", "1.5"],
  ["--max-steps", "x"],
  ["--max-length", "1"],
  ["--gradient-accumulation-steps", "-1"],
  ["--learning-rate", "-1e-5"],
  ["--learning-rate", ""],
  ["--learning-rate", "Infinity"],
  ["--eval-fraction", "0.6"],
  ["--learning-rate", "1e38"],
  ["--eps", "0"],
  ["--eps", "1e-50"],
  ["--betas", "0.9,1"],
  ["--betas", "0.9"],
  ["--max-grad-norm", "-1"],
  ["--initial-loss-scale", "0"],
  ["--seed", "4294967296"],
  ["--seed", "-1"],
  ["--packing", "maybe"],
  ["--precision", "fp16"],
  ["--optimizer", "adam"],
  ["--gpu", "cuda"],
  ["--lora", "maybe"],
  ["--lora.rank", "0"],
  ["--lora.alpha", "0"],
  ["--lora.dropout", "1"],
  ["--lora.targets", "q_proj,q_proj"],
  ["--lora.targets", ""],
  ["--lora.init", "zero"],
];
for (const [flag, value] of wrong) {
  Deno.test(`config: ${flag} "${value}" is refused`, () => {
    refused(() => parse(flag, value), new RegExp(`^${flag} is .*; expected `));
  });
}

Deno.test("config: keys that exclude or need each other", () => {
  refused(
    () => parse("--warmup-steps", "5"),
    /warmup_steps is 5 but schedule is constant; expected schedule linear or cosine/,
  );
  assert.equal(parse("--warmup-steps", "5", "--schedule", "linear").warmup_steps, 5);
  refused(
    () => parse("--warmup-steps", "5", "--schedule", "linear", "--max-steps", "4"),
    /warmup_steps is 5; expected at most max_steps, which is 4/,
  );
  refused(() => parse("--resume", "a", "--adapter", "b"), /resume and adapter exclude each other/);
  refused(() => parse("--adapter", "b", "--lora", "off"), /adapter is given but lora is off/);
  refused(
    () => parse("--optimizer", "sgd", "--weight-decay", "0.1"),
    /weight_decay is 0\.1 but optimizer is sgd/,
  );
  refused(
    () => parse("--quantization", "nf4", "--lora", "off"),
    /^quantization is nf4 but lora is off, which trains the weights themselves; expected lora on, or quantization none$/,
  );
  refused(
    () => parse("--quantization-skip", "k_proj"),
    /^quantization_skip is given but quantization is none; expected quantization int8 or nf4$/,
  );
});

Deno.test("config: files and arguments that can't be used", () => {
  refused(() => parseTrainArguments(["missing.yaml"]), /"missing\.yaml" does not exist; expected/);
  refused(() => parseTrainArguments([example("")]), /it is no file, but a folder; expected/);
  refused(() => parseTrainArguments(["a", "b"]), /got "a" and "b"; expected at most one/);
  refused(() => parse("--seed"), /^--seed needs a value: expected a whole number from 0 to/);
  refused(() => parse("--lora.rank"), /^--lora\.rank needs a value: expected a whole number/);
  refused(
    () => parseYaml("seed: 1\nlora: {rank: 1\nepochs: 2\n"),
    /\.yaml, line \d: not valid YAML/,
  );
  refused(() => parseYaml("seed: 1\nseed: 2\n"), /\.yaml, line 2: not valid YAML: .*unique/);
  refused(() => parseYaml("seed: 1\nmodel: *m\n"), /\.yaml, line 2: an alias leads nowhere/);
  refused(() => parseYaml("betas: &b [*b]\n"), /\.yaml, line 1: an alias .* back to itself/);
  refused(() => parseYaml("? [a, b]\n: 1\n"), /^unknown key \["a","b"\] \(.*line 1\)/);
  refused(() => parseYaml("- seed\n"), /is no mapping; expected lines such as/);
  refused(() => parseYaml("just text"), /is no mapping/);
});
