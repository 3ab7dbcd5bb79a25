/** What flags, YAML files and code say of a training run. */
import assert from "node:assert/strict";
import { statusOf } from "../../../cli/run_main.ts";
import { presetConfig } from "../../../model/families/presets.ts";
import {
  jsonSchema,
  makeTrainConfig,
  parseTrainArguments,
  type PartialTrainConfig,
  type TrainConfig,
  trainHelp,
} from "../../../train/config/config.ts";
import { allowableKeys, resumeRules } from "../../../train/config/resume_keys.ts";
import { checkIdentity, type StoredIdentity } from "../../../train/states/resume_rules.ts";
import { KEYS } from "../../../train/config/schema.ts";
import { example, parse, parseYaml, refused } from "./config_parsing.ts";

Deno.test("config: the defaults are those of the design", () => {
  const config = parse("--data", "d");
  assert.deepEqual(JSON.parse(JSON.stringify(config)), {
    model: "m",
    add_bos: "auto",
    data: "d",
    data_format: "auto",
    template: "auto",
    train_on: "last",
    eval_fraction: 0,
    eval_every: 0,
    eval_samples: 0,
    eval_prompts: [],
    eval_max_tokens: 64,
    keep_best: false,
    early_stopping: 0,
    early_stopping_min_delta: 0,
    tensorboard: false,
    csv: false,
    max_length: 512,
    long_samples: "cut",
    epochs: 1,
    batch_size: 1,
    gradient_accumulation_steps: 8,
    packing: false,
    share_prefixes: true,
    objective: "sft",
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
    quantization: "none",
    double_quantization: true,
    quantization_skip: [],
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
    keep_states: 2,
    allow_change: [],
    verify_weights: false,
    gpu: "auto",
  });
  const unset = [
    "tokenizer",
    "adapter",
    "layers",
    "samples",
    "eval_data",
    "max_steps",
    "resume",
    "output",
  ] as const;
  for (const key of unset) assert.equal(config[key], undefined);
});

Deno.test("config: without a file, model and data, the built-in example's settings are the start", () => {
  const bare = parseTrainArguments([]);
  assert.deepEqual([bare.model, bare.data], ["builtin", "builtin"]);
  assert.deepEqual(bare, parseTrainArguments([example("builtin.yaml")]));
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

Deno.test("config: the examples are valid", () => {
  const course = parseTrainArguments([example("alpaca_7b.yaml")]);
  assert.deepEqual(course.lora, lora0());
  assert.deepEqual(
    [course.samples, course.learning_rate, course.batch_size, course.gradient_accumulation_steps],
    [200, 1e-5, 1, 8],
  );
  assert.equal(course.precision, "mixed");
  assert.equal(parseTrainArguments([example("full_finetune.yaml")]).lora, false);
  assert.equal(parseTrainArguments([example("qlora_7b.yaml")]).quantization, "nf4");
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

/** What decides a run with this configuration, and nothing else. */
function identityOf(config: TrainConfig, total = 10): StoredIdentity & { config: TrainConfig } {
  const model = { config: presetConfig("tiny"), weights: null };
  const data = { samples: 1, tokens: 1, sha256: "a" };
  return {
    config,
    total,
    fingerprints: { model, tokenizer: "t", adapter: null, data, evalData: null },
  };
}

Deno.test("config: every key says whether a resumed run may change it", () => {
  const rules = resumeRules(), top = KEYS.filter(({ name }) => !name.includes("."));
  assert.deepEqual([...rules.keys()], top.map(({ name }) => name));
  for (const [key, rule] of rules) assert.ok(rule, `${key} says nothing`);
  const before = makeTrainConfig({ model: "m" });
  const resume = (config: TrainConfig, was: Record<string, unknown> = before, total = 10) =>
    checkIdentity(
      { ...identityOf(before), config: JSON.parse(JSON.stringify(was)) },
      identityOf(config, total),
      "state.json",
    );
  resume(makeTrainConfig({ model: "./m/", epochs: 3, checkpointing: "block" }), before, 30);
  const changes: PartialTrainConfig[] = [
    { share_prefixes: false },
    { exact_products: !before.exact_products },
    { betas: [0.9, 0.95] },
    { eps: 1e-6 },
    { weight_decay: 0.1 },
    { max_grad_norm: 1 },
    { initial_loss_scale: 2 },
    { learning_rate: 1 },
    { schedule: "linear" },
    { seed: 1 },
    { lora: { rank: 4 } },
    { lora: false },
  ];
  for (const changed of changes) {
    const [key] = Object.keys(changed);
    refused(() => resume(makeTrainConfig({ model: "m", ...changed })), new RegExp(`with ${key}`));
    if (!allowableKeys().includes(key)) continue;
    resume(makeTrainConfig({ model: "m", ...changed, allow_change: [key] }));
  }
  refused(
    () => resume(makeTrainConfig({ model: "m", learning_rate: 1, seed: 1, eps: 1 })),
    /^state\.json: the run was made with learning_rate 0\.00001, not 1; with eps 1e-8, not 1; with seed 42, not 1; expected what it began with, or --allow-change learning_rate,eps with seed as it was$/,
  );
  // A schedule depends on the run's length.
  const linear = { model: "m", schedule: "linear" } as const;
  const short = makeTrainConfig(linear), long = makeTrainConfig({ ...linear, epochs: 2 });
  resume(long, { ...short }, 10);
  refused(() => resume(long, { ...short }, 20), /made with epochs 1, not 2/);
  resume(makeTrainConfig({ ...linear, epochs: 2, allow_change: ["epochs"] }), { ...short }, 20);
  // A state of before there was a key was made with what is now its default.
  const { quantization: _, quantization_skip: __, ...older } = before;
  resume(before, older);
  const quantized = makeTrainConfig({ model: "m", quantization: "nf4" });
  const problem = /^state\.json: the run was made with quantization "none", not "nf4";/;
  refused(() => resume(quantized, older), problem);
  assert.doesNotMatch(JSON.stringify(jsonSchema()), /"resume":"(same|free)"/);
  // docs/files.md names the keys that may change; where to write and what to begin from go without saying.
  const told = Deno.readTextFileSync(new URL("../../../docs/files.md", import.meta.url));
  const listed = (from: string, to: string) => {
    const section = told.slice(told.indexOf(from), told.indexOf(to, told.indexOf(from)));
    return Array.from(section.matchAll(/`([a-z_.]+)`/g), ([, key]) => key).sort();
  };
  const unsaid = ["output", "resume", "allow_change"];
  const free = top.map(({ name }) => name).filter((name) => rules.get(name) === "free");
  assert.deepEqual(
    listed("These may change:", "These may, too"),
    free.filter((name) => !unsaid.includes(name)).sort(),
  );
  assert.deepEqual(listed("`--allow-change` names:", "A run's length"), allowableKeys().sort());
});

Deno.test("config: allow_change names keys, with commas or one a flag", () => {
  const { allow_change } = parse(
    "--allow-change",
    "learning_rate,data",
    "--allow-change=lora.dropout",
  );
  assert.deepEqual(allow_change, ["learning_rate", "data", "lora.dropout"]);
  assert.deepEqual(parseYaml("allow_change: [epochs]").allow_change, ["epochs"]);
  refused(
    () => parse("--allow-change", "learnin_rate"),
    /allow_change has "learnin_rate"; did you mean "learning_rate"\?; expected keys out of model, /,
  );
  refused(() => parse("--allow-change", "optimizer"), /allow_change has "optimizer"/);
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
  for (const lora of ["off", null, []] as unknown as boolean[]) {
    refused(() => makeTrainConfig({ lora }), /lora is .*; expected true, false or an object/);
  }
});
