/** Numbers that are none, from end to end: said where they come up, with what to try, and exit code 1. */
import assert from "node:assert/strict";
import { join } from "node:path";
import {
  adapterShapes,
  type AdapterTensor,
  writeAdapter,
} from "../../model/adapter/adapter_folder.ts";
import { adapterConfig } from "../../model/adapter/adapter_config.ts";
import { openModel, openModelWithTokenizer } from "../../model/checkpoint/source.ts";
import { splitEvaluation } from "../../train/data.ts";
import {
  chatAbout,
  exists,
  lorikeet,
  refused,
  smallData,
  succeeded,
  TemporaryFolder,
} from "./cli.ts";
import { lorikeetHere } from "./here.ts";
import { savedStates } from "../../train/states/saved_states.ts";
import { gpuTest } from "../kernels/harness.ts";
import { writeSpecialModel } from "../special_model.ts";

const PROMPT = ["--prompt", "Say red.", "--max-tokens", "4"];

/** An adapter of the built-in model for q_proj, zero but for the first value of its first tensor. */
async function adapterWith(folder: TemporaryFolder, name: string, value: number): Promise<string> {
  const { config, weights } = openModel("builtin");
  weights!.close();
  const target_modules = ["q_proj" as const], r = 4;
  const tensors = new Map<string, AdapterTensor>();
  for (const [name, shape] of adapterShapes(config, { r, target_modules })) {
    const data = new Float32Array(shape[0] * shape[1]);
    if (tensors.size === 0) data[0] = value;
    tensors.set(name, { dtype: "F32", shape, data });
  }
  const path = folder.file(name);
  await writeAdapter(path, adapterConfig({ r, lora_alpha: 8, target_modules }), tensors);
  return path;
}

gpuTest(
  "cli: a weight beyond f16 is refused by every command in mixed precision, by name",
  async () => {
    using folder = new TemporaryFolder();
    const large = "model.layers.2.mlp.down_proj.weight";
    const model = await writeSpecialModel(folder.file("large"), (name, values) => {
      if (name === large) values[7] = -1e5;
    });
    const data = folder.file("data.json", smallData(4)), output = folder.file("output");
    const named = [
      `model "${model}": tensor "${large}" has a value beyond what f16 holds`,
      "100000",
    ];
    const remedy = "expected --precision fp32";
    const commands = {
      generate: PROMPT,
      score: ["--data", data],
      train: ["--data", data, "--output", output],
    };
    for (const [command, args] of Object.entries(commands)) {
      const all = ["--model", model, ...args];
      const run = command === "train" ? lorikeet : lorikeetHere;
      const outcome = await run(command as keyof typeof commands, all);
      refused(outcome, 1, ...named, remedy);
      if (command !== "train") assert.equal(outcome.stdout, "");
    }
    refused(await chatAbout(["--model", model], "Hello\n"), 1, ...named, remedy);
    assert.ok(!exists(output));
    succeeded(await lorikeetHere("generate", ["--model", model, ...PROMPT, "--precision", "fp32"]));

    const to16 = ["--model", model, "--output", output, "--dtype", "f16"];
    const narrow = [`tensor "${large}" has a value beyond what f16 holds`, "--dtype bf16 or f32"];
    refused(await lorikeetHere("convert", to16), 1, ...narrow);
    const adapter = await adapterWith(folder, "adapter", 0);
    refused(await lorikeetHere("merge", [...to16, "--adapter", adapter]), 1, ...narrow);
    assert.ok(!exists(output));
  },
);

gpuTest("cli: logits that are no numbers end an answer with the token's number", async () => {
  using folder = new TemporaryFolder();
  // Finite weights, whose products with anything are not.
  const model = await writeSpecialModel(folder.file("broken"), (name, values, shape) => {
    if (name === "lm_head.weight") values.fill(3e38, 5 * shape[1], 6 * shape[1]);
  });
  const data = folder.file("data.json", smallData(2));
  const flags = ["--model", model, "--precision", "fp32"];
  const logits =
    /prompt 1, token 1 of the answer: the model's logits are NaN or infinite; expected finite/;
  for (const more of [[], ["--json"], ["--temperature", "1", "--repetition-penalty", "1.2"]]) {
    const outcome = await lorikeetHere("generate", [...flags, ...PROMPT, ...more]);
    refused(outcome, 1, logits);
    assert.equal(outcome.stdout, "");
  }
  refused(
    await lorikeetHere("generate", [...flags, ...PROMPT, "--beams", "3", "--json"]),
    1,
    /^error: token 1 of the answer: the model's logits are NaN or infinite/,
  );
  refused(await chatAbout(flags, "Hello\nAgain\n"), 1, logits);
  const scored = await lorikeetHere("score", [...flags, "--data", data, "--json"]);
  refused(scored, 1, /sample 1 of 2: its negative log-likelihood is (NaN|Infinity); expected/);
  assert.equal(scored.stdout, "");

  // What was merged is written, and named as not shown to be right.
  const output = folder.file("merged"), adapter = await adapterWith(folder, "adapter", 0);
  const merged = await lorikeetHere("merge", [
    ...["--model", model, "--adapter", adapter, "--output", output, "--json"],
  ]);
  const why = /logits are NaN or infinite in fp32/;
  refused(merged, 1, `${output} was written, but is not shown to be`, why);
  assert.equal(merged.stdout, "");
  assert.ok(exists(join(output, "model.safetensors")));
});

gpuTest("cli: an adapter with NaN is refused by the tensor's name", async () => {
  using folder = new TemporaryFolder();
  const adapter = await adapterWith(folder, "adapter", NaN);
  const named =
    /adapter_model\.safetensors: tensor "\S+layers\.0\.\S+lora_A\.weight" has 1 value that is NaN; /;
  refused(
    await lorikeetHere("generate", ["--model", "builtin", "--adapter", adapter, ...PROMPT]),
    1,
    named,
  );
  const merge = ["--model", "builtin", "--adapter", adapter, "--output", folder.file("merged")];
  refused(await lorikeetHere("merge", merge), 1, named);
});

gpuTest(
  "cli: a training loss that is no number ends the run, and the state saved before stays",
  async () => {
    using folder = new TemporaryFolder();
    // Activations beyond f16, which only training keeps in f16.
    const model = await writeSpecialModel(folder.file("hot"), (name, values) => {
      if (/layers\.2\.mlp\.(gate|up)_proj/.test(name)) values.fill(3e4);
    });
    const data = folder.file("data.json", smallData(4)), output = folder.file("output");
    const flags = ["--data", data, "--gradient-accumulation-steps", "2", "--epochs", "3"];
    const hot = await lorikeet("train", ["--model", model, ...flags, "--output", output]);
    refused(
      hot,
      3,
      /step 1: the loss is NaN, from micro-batch 1, 2; .*--precision fp32, unless/,
      /; no state was saved before that$/m,
    );
    assert.doesNotMatch(hot.stderr, /exact-products/);
    const names = (folder: string) => [...Deno.readDirSync(folder)].map(({ name }) => name);
    assert.deepEqual(names(output).sort(), ["config.yaml", "metrics.jsonl", "run.lock"]);
    // JSON has no NaN.
    const [line] = Deno.readTextFileSync(join(output, "metrics.jsonl")).trimEnd().split("\n");
    assert.equal(JSON.parse(line).loss, null);

    // A run that diverges after some steps keeps what it saved before.
    const diverged = folder.file("diverged");
    const wild = ["--learning-rate", "1e37", "--save-every", "1", "--precision", "fp32"];
    wild.push("--lora", "off", "--optimizer", "sgd");
    refused(
      await lorikeetHere("train", ["--model", "builtin", ...flags, ...wild, "--output", diverged]),
      3,
      /step 2: the loss is NaN.*expected finite numbers: the run diverged: try a lower --learning-rate/,
      /; the only state, .*step-00000001, is from just before that$/m,
    );
    assert.deepEqual(names(diverged).sort(), [
      "config.yaml",
      "metrics.jsonl",
      "run.lock",
      "states",
    ]);
    const [{ step }] = savedStates(join(diverged, "states"));
    assert.equal(step, 1);
  },
);

gpuTest(
  "cli: a held-out sample without a loss is named before the first step, and nothing is left",
  async () => {
    using folder = new TemporaryFolder();
    const { tokenizer } = await openModelWithTokenizer({ model: "builtin" });
    const samples = JSON.parse(smallData(8)), [held] = splitEvaluation(8, 0.125, 42).evaluation;
    samples[held].instruction = "Q7";
    // A token of that sample alone, whose embedding overflows f16 further on.
    const others = new Set(
      samples.filter((_: unknown, i: number) => i !== held)
        .flatMap((sample: unknown) => [...tokenizer.encode(JSON.stringify(sample))]),
    );
    const id = [...tokenizer.encode("Q7")].find((id) => id > 2 && !others.has(id))!;
    const model = await writeSpecialModel(folder.file("hot"), (name, values, [, width]) => {
      if (name === "model.embed_tokens.weight") {
        values.fill(6e4, id * width, (id + 1) * width);
      }
      if (/layers\.0\.mlp\.(gate|up)_proj/.test(name)) {
        values.forEach((v, i) => values[i] = 300 * v);
      }
    });
    const data = folder.file("data.json", JSON.stringify(samples)), output = folder.file("output");
    const flags = [
      "--model",
      model,
      "--data",
      data,
      "--eval-fraction",
      "0.125",
      "--output",
      output,
    ];
    refused(
      await lorikeetHere("train", flags),
      1,
      /^error: held-out sample 1 of 1: its negative log-likelihood is NaN; .*--precision fp32/,
    );
    assert.ok(!exists(output));
  },
);

gpuTest("cli: a run whose steps were all skipped writes no adapter", async () => {
  using folder = new TemporaryFolder();
  const data = folder.file("data.json", smallData(4)), output = folder.file("output");
  const flags = ["--model", "builtin", "--data", data, "--gradient-accumulation-steps", "2"];
  flags.push("--initial-loss-scale", "1e30", "--eval-fraction", "0.25", "--output", output);
  const outcome = await lorikeetHere("train", flags);
  refused(
    outcome,
    3,
    /every step was skipped.* with loss scales from 1e\+?30 down to 5e\+?29: nothing was trained, so no adapter is written; expected a lower --initial-loss-scale/,
  );
  const left = [...Deno.readDirSync(output)].map(({ name }) => name).sort();
  assert.deepEqual(left, ["config.yaml", "evaluations.jsonl", "metrics.jsonl", "run.lock"]);
});

gpuTest("cli: a run without gradients and one that is ruined end with code 3", async () => {
  using folder = new TemporaryFolder();
  const data = folder.file("data.json", smallData(40));
  const train = (name: string, ...flags: string[]) =>
    lorikeetHere("train", [
      ...["--model", "builtin", "--data", data, "--gradient-accumulation-steps", "1"],
      ...["--output", folder.file(name), ...flags],
    ]);
  const still = await train("still", "--initial-loss-scale", "1e-37", "--max-steps", "3");
  refused(
    still,
    3,
    "the gradient is zero in all steps (loss scale 1e-37): nothing was trained, so no adapter is written",
    "expected a higher --initial-loss-scale",
    /; no state was saved before that$/m,
  );
  assert.ok(!exists(join(folder.file("still"), "adapter")));

  const wild = ["--lora", "off", "--precision", "fp32", "--learning-rate", "1"];
  const ruined = await train("ruined", ...wild, "--save-every", "1", "--max-steps", "20");
  refused(ruined, 3, /the losses of steps 2 to 6 are above \d+\.\d\d, where the run began with/);
  assert.ok(!exists(join(folder.file("ruined"), "model")));
  // The states of later steps would have replaced it.
  assert.match(ruined.stderr, /the only state, .*step-00000001, is from just before that$/m);
});
