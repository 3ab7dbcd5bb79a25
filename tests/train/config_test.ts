import assert from "node:assert/strict";
import { statusOf } from "../../cli/run_main.ts";
import { fileURLToPath } from "node:url";
import { UsageError } from "../../kernels/errors.ts";
import {
  jsonSchema,
  makeTrainConfig,
  parseTrainArguments,
  type TrainConfig,
  trainHelp,
} from "../../train/config.ts";
import { checkResumedConfig } from "../../train/resume_rules.ts";
import { KEYS, resumeRules } from "../../train/schema.ts";

const example = (name: string) => fileURLToPath(new URL(`../../examples/${name}`, import.meta.url));

/** The configuration of `args` on top of the defaults alone. */
const parse = (...args: string[]) => parseTrainArguments(["--model", "m", ...args]);

/** Parses with a YAML file of this text. */
function parseYaml(text: string, ...args: string[]): TrainConfig {
  const file = Deno.makeTempFileSync({ suffix: ".yaml" });
  try {
    Deno.writeTextFileSync(file, text);
    return parseTrainArguments([file, ...args]);
  } finally {
    Deno.removeSync(file);
  }
}

/** Asserts that `run` is refused as wrong usage with exactly these problems, one a line. */
function refused(run: () => unknown, ...problems: RegExp[]): void {
  assert.throws(run, (error) => {
    assert.ok(error instanceof UsageError, String(error));
    const lines = error.message.split("\n");
    assert.equal(lines.length, problems.length, error.message);
    problems.forEach((problem, i) => assert.match(lines[i], problem));
    return true;
  });
}

Deno.test("config: the defaults are those of the design", () => {
  const { output, ...config } = parse("--data", "d");
  assert.match(output, /^runs\/\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d$/);
  assert.deepEqual(JSON.parse(JSON.stringify(config)), {
    model: "m",
    add_bos: "auto",
    data: "d",
    eval_fraction: 0,
    max_length: 512,
    epochs: 1,
    batch_size: 1,
    gradient_accumulation_steps: 8,
    packing: false,
    share_prefixes: true,
    loss_normalization: "sample",
    learning_rate: 1e-5,
    schedule: "constant",
    warmup_steps: 0,
    optimizer: "adamw",
    betas: [0.9, 0.999],
    eps: 1e-8,
    weight_decay: 0,
    max_grad_norm: 0,
    precision: "mixed",
    exact_products: false,
    print_wgsl: false,
    profile: false,
    initial_loss_scale: 65536,
    lora: {
      rank: 16,
      alpha: 32,
      dropout: 0.05,
      targets: ["q_proj", "v_proj"],
      init: "kaiming",
      modules_to_save: [],
      rslora: false,
      dora: false,
      plus_ratio: 1,
    },
    checkpointing: "none",
    seed: 42,
    shuffle: true,
    save_every: 0,
    gpu: "auto",
  });
  for (const key of ["tokenizer", "adapter", "layers", "samples", "max_steps", "resume"] as const) {
    assert.equal(config[key], undefined);
  }
});

Deno.test("config: without a file, model and data, the built-in example's settings are the start", () => {
  const bare = parseTrainArguments([]);
  assert.deepEqual([bare.model, bare.data], ["builtin", "builtin"]);
  assert.deepEqual({ ...bare, output: "" }, {
    ...parseTrainArguments([example("builtin.yaml")]),
    output: "",
  });
  assert.notEqual(bare.learning_rate, parse().learning_rate);
  const other = parseTrainArguments(["--learning-rate", "0.5"]);
  assert.deepEqual([other.learning_rate, other.epochs], [0.5, bare.epochs]);
  assert.equal(parseTrainArguments(["--data", "d"]).learning_rate, 1e-5);
});

Deno.test("config: every way to write a flag", () => {
  assert.equal(parse("--learning-rate", "1e-4").learning_rate, 1e-4);
  assert.equal(parse("--learning_rate", "1e-4").learning_rate, 1e-4);
  assert.equal(parse("--learning-rate=1e-4").learning_rate, 1e-4);
  assert.equal(parse("--seed", "1", "--seed", "2").seed, 2);
  assert.deepEqual(parse("--betas", "0.8, 0.99").betas, [0.8, 0.99]);
  assert.equal(parse("--output", "runs/a_b").output, "runs/a_b");
  assert.equal(parse("--debug").seed, 42);
});

Deno.test("config: switches take a value, none, or --no-", () => {
  assert.equal(parse("--packing").packing, true);
  assert.equal(parse("--packing", "--seed", "1").packing, true);
  assert.equal(parse("--packing", "false").packing, false);
  assert.equal(parse("--packing=true").packing, true);
  assert.equal(parse("--no-shuffle").shuffle, false);
  assert.equal(parse("--shuffle", "off").shuffle, false);
  const config = parseTrainArguments(["--packing", example("alpaca_7b.yaml")]);
  assert.deepEqual([config.packing, config.samples], [true, 200]);
});

Deno.test("config: LoRA is switched, set as a whole and set by its keys", () => {
  assert.equal(parse("--lora", "off").lora, false);
  assert.equal(parse("--no-lora").lora, false);
  assert.deepEqual(parse("--lora", "on").lora, parse().lora);
  const { lora } = parse("--lora.rank", "8", "--lora.targets", "q_proj,down_proj");
  assert.ok(lora);
  assert.deepEqual([lora.rank, lora.alpha, lora.targets], [8, 32, ["q_proj", "down_proj"]]);
  for (const off of ["off", "false"]) assert.equal(parseYaml(`lora: ${off}`).lora, false);
  for (const on of ["on", "true", ""]) assert.deepEqual(parseYaml(`lora: ${on}`).lora, lora0());
  assert.deepEqual(parseYaml("lora: {rank: 4, init: gaussian}").lora, {
    ...lora0(),
    rank: 4,
    init: "gaussian",
  });
  const blocks = (layers: string) => {
    const { lora } = parseYaml(`lora: {layers: ${layers}}`);
    return lora && lora.layers;
  };
  assert.deepEqual(blocks("[0, 3]"), [0, 3]);
  assert.deepEqual(blocks("2"), [2]);
  assert.deepEqual(blocks(`"0,4-6"`), [0, 4, 5, 6]);
  assert.equal(blocks("none"), undefined);
  for (
    const everywhere of [
      parseYaml("lora: {targets: all-linear}"),
      parse("--lora.targets", "all-linear"),
    ]
  ) {
    assert.equal(everywhere.lora && everywhere.lora.targets, "all-linear");
  }
  assert.throws(() => parse("--lora.targets", "all-linear,q_proj"), /lora\.targets is/);
  // A range that goes down would be no blocks at all.
  for (const wrong of ["3-x", "5-3", "0,5-3"]) {
    assert.throws(
      () => parse("--lora.layers", wrong),
      new RegExp(`lora\\.layers is "${wrong}"; expected numbers of blocks`),
    );
  }
  // A flag wins over the file: asking for a rank asks for LoRA.
  assert.deepEqual(parseYaml("lora: off", "--lora.rank", "4").lora, { ...lora0(), rank: 4 });
  assert.equal(parseYaml("lora: {rank: 4}", "--lora", "off").lora, false);
  assert.deepEqual(parseYaml("lora: {rank: 4}", "--lora.alpha", "9").lora, {
    ...lora0(),
    rank: 4,
    alpha: 9,
  });
  refused(() => parse("--lora", "off", "--lora.rank", "4"), /--lora\.rank and --lora off exclude/);
});

const lora0 = () => parse().lora as Exclude<TrainConfig["lora"], false>;

Deno.test("config: flags win over the file, and none or all take its values back", () => {
  const text = "samples: 5\nmax_steps: 9\nresume: x\nseed: 7\nepochs: 3\n";
  assert.deepEqual([parseYaml(text).samples, parseYaml(text).resume], [5, "x"]);
  const config = parseYaml(text, "--samples", "all", "--max-steps=none", "--resume", "none");
  assert.deepEqual([config.samples, config.max_steps, config.resume], [
    undefined,
    undefined,
    undefined,
  ]);
  assert.deepEqual([config.seed, parseYaml(text, "--seed", "8").seed], [7, 8]);
  assert.deepEqual(parseYaml("samples: all\nseed:\nlayers: null\n").seed, 42);
});

Deno.test("config: a file is YAML 1.2, with anchors, and may be empty", () => {
  assert.equal(parseYaml("").learning_rate, 1e-5);
  assert.equal(parseYaml("# nothing\n").learning_rate, 1e-5);
  const config = parseYaml("epochs: &n 3\nbatch_size: *n\nlearning_rate: 1e-4\n");
  assert.deepEqual([config.epochs, config.batch_size, config.learning_rate], [3, 3, 1e-4]);
});

Deno.test("config: checkpointing modes", () => {
  for (const mode of ["none", "block", "sqrt", "attention", "every:3"]) {
    assert.equal(parse("--checkpointing", mode).checkpointing, mode);
  }
  for (const mode of ["every", "every:0", "every:x", "every:1.5", "blocks"]) {
    refused(() => parse("--checkpointing", mode), /--checkpointing is .*every:k/);
  }
});

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
});

Deno.test("config: files and arguments that can't be used", () => {
  refused(() => parseTrainArguments(["missing.yaml"]), /"missing\.yaml" does not exist; expected/);
  refused(() => parseTrainArguments([example("")]), /can't be read/);
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

Deno.test("config: the examples are valid", () => {
  const course = parseTrainArguments([example("alpaca_7b.yaml")]);
  assert.deepEqual(course.lora, lora0());
  assert.deepEqual(
    [course.samples, course.learning_rate, course.batch_size, course.gradient_accumulation_steps],
    [200, 1e-5, 1, 8],
  );
  assert.equal(course.precision, "mixed");
  assert.equal(parseTrainArguments([example("full_finetune.yaml")]).lora, false);
});

Deno.test("config: the help has every key with its default and a sentence", () => {
  const help = trainHelp().replaceAll(/\s+/g, " ");
  for (const key of KEYS) {
    assert.match(key.description, /^\S.*\.$/, key.name);
    const flag = `--${key.name.replaceAll("_", "-")} <${key.value}> ${key.description}`;
    assert.ok(help.includes(key.optional ? flag : `${flag} (default: `), `${key.name} in ${help}`);
  }
  assert.ok(help.includes("(default: 1e-5)") && help.includes("(default: q_proj,v_proj)"));
  assert.ok(trainHelp().split("\n").every((line) => line.length <= 100));
});

Deno.test("config: the JSON Schema describes the file", () => {
  const schema = jsonSchema() as {
    properties: Record<string, { description: string; default?: unknown; anyOf?: unknown[] }>;
    required?: string[];
    additionalProperties: boolean;
  };
  assert.deepEqual(
    Object.keys(schema.properties),
    KEYS.filter(({ name }) => !name.includes(".")).map(({ name }) => name),
  );
  assert.equal(schema.additionalProperties, false);
  assert.equal(schema.required, undefined);
  assert.equal(schema.properties.learning_rate.default, 1e-5);
  assert.ok(JSON.stringify(schema.properties.lora).includes('"off"'));
  assert.ok(Object.values(schema.properties).every(({ description }) => description));
});

Deno.test("config: --help prints and exits with 0, without reading anything", async () => {
  const printed: string[] = [], { log } = console;
  console.log = (text: string) => void printed.push(text);
  let status: number;
  try {
    status = await statusOf(
      (args) => Promise.resolve(void parseTrainArguments(args)),
      ["--help", "--nonsense", "no/such.yaml"],
    );
  } finally {
    console.log = log;
  }
  assert.equal(status, 0);
  assert.equal(printed.join("\n").trim(), trainHelp().trim());
});

Deno.test("config: every key says whether a resumed run may change it", () => {
  const rules = resumeRules(), top = KEYS.filter(({ name }) => !name.includes("."));
  assert.deepEqual([...rules.keys()], top.map(({ name }) => name));
  for (const [key, rule] of rules) assert.ok(rule, `${key} says nothing`);
  const before = makeTrainConfig({ model: "m" });
  const resume = (config: TrainConfig) => checkResumedConfig({ ...before }, config, "state.json");
  resume(makeTrainConfig({ model: "m", learning_rate: 1, epochs: 3, checkpointing: "block" }));
  for (
    const changed of [
      { share_prefixes: false },
      { exact_products: !before.exact_products },
      { betas: [0.9, 0.95] },
      { eps: 1e-6 },
      { weight_decay: 0.1 },
      { max_grad_norm: 1 },
      { initial_loss_scale: 2 },
      { lora: { rank: 4 } },
      { lora: false },
    ]
  ) {
    const [key] = Object.keys(changed);
    refused(() => resume(makeTrainConfig({ model: "m", ...changed })), new RegExp(key));
  }
  assert.doesNotMatch(JSON.stringify(jsonSchema()), /"resume":"(same|free)"/);
});

Deno.test("config: made in code, it is what the same flags give", () => {
  const output = "o";
  assert.deepEqual(makeTrainConfig({ model: "m", output }), parse("--output", output));
  assert.deepEqual(
    makeTrainConfig({
      model: "m",
      output,
      learning_rate: 0.5,
      max_steps: undefined,
      lora: { rank: 4, targets: "all-linear", layers: "0,2-3" },
    }),
    parse(
      ...["--output", output, "--learning-rate", "0.5", "--lora.rank", "4"],
      ...["--lora.targets", "all-linear", "--lora.layers", "0,2-3"],
    ),
  );
  assert.equal(makeTrainConfig({ lora: false }).lora, false);
  refused(
    () => makeTrainConfig({ warmup_steps: 3, epochs: 0 }),
    /epochs is 0; expected a whole number/,
    /warmup_steps is 3 but schedule is constant/,
  );
  const unknown: Record<string, unknown> = { epoch: 2 };
  refused(() => makeTrainConfig(unknown), /unknown key "epoch"; did you mean "epochs"/);
});
