import assert from "node:assert/strict";
import { join } from "node:path";
import { printable } from "../../../kernels/terminal.ts";
import { jsonSchema, readTrainArguments, type TrainConfig } from "../../../train/config/config.ts";
import { effectiveYaml, writeEffectiveConfig } from "../../../train/config/effective_config.ts";
import { KEYS } from "../../../train/config/schema.ts";
import { TemporaryFolder } from "../../cli/cli.ts";
import { ROOT } from "../../../scripts/compile.ts";

const COMMANDS: string[][] = [
  [],
  ["--model", "m", "--data", "d"],
  ["--lora", "off", "--learning-rate", "1e-7", "--max-steps", "3"],
  [
    "--lora.targets",
    "all-linear",
    "--lora.layers",
    "0,4-6",
    "--betas",
    "0.8,0.99",
    "--samples",
    "5",
  ],
  ["--model", "no", "--data", "a b: #c.json", "--output", "\x1b]0;x\x07\u202e\n- é"],
  ["--quantization", "nf4", "--quantization-skip", "down_proj,true", "--adapter", "null"],
  [join(ROOT, "examples/full_finetune.yaml"), "--schedule", "linear"],
  [join(ROOT, "examples/qlora_7b.yaml"), "--no-lora.dora", "--checkpointing", "every:3"],
];

Deno.test("effective config: read as a configuration it is the same", () => {
  using folder = new TemporaryFolder();
  for (const args of COMMANDS) {
    const { config, places } = readTrainArguments(args);
    const path = folder.file("config.yaml");
    writeEffectiveConfig(path, config, { places });
    const again = readTrainArguments([path]);
    assert.deepEqual(again.config, config, args.join(" "));
  }
});

Deno.test("effective config: every key says where its value came from, in one printable line", () => {
  using folder = new TemporaryFolder();
  const file = folder.file("run.yaml", "epochs: 3\nlora:\n  rank: 4\n");
  const { config, places } = readTrainArguments([file, "--seed", "7", "--no-packing"]);
  const lines = effectiveYaml(config, { places }).split("\n");
  for (
    const line of [
      `epochs: 3  # ${file}, line 1`,
      `  rank: 4  # ${file}, line 3`,
      `lora:  # ${file}, line 2`,
      "seed: 7  # --seed",
      "packing: false  # --packing",
      "learning_rate: 0.00001  # default",
      "max_steps:  # default",
    ]
  ) assert.ok(lines.includes(line), `${line} in\n${lines.join("\n")}`);
  for (const { name } of KEYS) {
    const key = name.split(".").at(-1);
    assert.ok(lines.some((line) => line.trimStart().startsWith(`${key}:`)), name);
  }
  const odd = readTrainArguments(["--data", "\x1b[2J\u202e\nx"]);
  const text = effectiveYaml(odd.config, {
    places: new Map([["data", "a\nb\x9b"]]),
  });
  assert.equal(printable(text), text);
  assert.ok(text.includes('data: "\\u001b[2J\\u202e\\nx"  # a\\nb\\x9b\n'), text);
});

Deno.test("effective config: what an adapter decides is told, and left to it", () => {
  const { config, places } = readTrainArguments([
    "--adapter",
    "some/adapter",
    "--lora.dropout",
    "0",
  ]);
  const lora = { ...config.lora as Exclude<TrainConfig["lora"], false>, rank: 3, adapter: {} };
  const text = effectiveYaml({ ...config, lora }, { places });
  assert.match(text, /^ {2}# rank: 3 {2}# adapter some\/adapter$/m);
  assert.match(text, /^ {2}dropout: 0 {2}# --lora\.dropout$/m);
  assert.match(text, /^ {2}plus_ratio: 1 {2}# default$/m);
});

Deno.test("the committed JSON Schema is that of the keys, and the examples name it", () => {
  const examples = join(ROOT, "examples"), name = "train.schema.json";
  assert.equal(
    Deno.readTextFileSync(join(examples, name)),
    JSON.stringify(jsonSchema(), null, 2) + "\n",
    `out of date: ./lorikeet train --schema > examples/${name}`,
  );
  const files = [...Deno.readDirSync(examples)].filter(({ name }) => name.endsWith(".yaml"));
  assert.ok(files.length >= 4);
  for (const file of files) {
    const [first] = Deno.readTextFileSync(join(examples, file.name)).split("\n");
    assert.equal(first, `# yaml-language-server: $schema=${name}`);
  }
});
