/** The commands from end to end: train, resume, generate, score, and what they print and write. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { presetConfig } from "../../model/families/presets.ts";
import { checkAdapter, readAdapter } from "../../model/adapter/adapter_folder.ts";
import { openHuggingFace } from "../../model/formats/huggingface.ts";
import {
  exists,
  lorikeet,
  smallData,
  startLorikeet,
  succeeded,
  TemporaryFolder,
  TOKENIZER,
} from "./cli.ts";
import { lorikeetHere } from "./here.ts";
import { gpuTest } from "../kernels/harness.ts";
import { assertSameValues } from "../same.ts";

const RANDOM = ["--model", "random:tiny", "--tokenizer", TOKENIZER];

const names = (folder: string) => [...Deno.readDirSync(folder)].map(({ name }) => name).sort();

/** The lines of metrics.jsonl. */
function metricsOf(output: string): Record<string, unknown>[] {
  const text = Deno.readTextFileSync(join(output, "metrics.jsonl"));
  assert.ok(text.endsWith("\n"));
  return text.trimEnd().split("\n").map((line) => JSON.parse(line));
}

const summaryOf = (output: string) =>
  JSON.parse(Deno.readTextFileSync(join(output, "summary.json")));

const METRICS = [
  ...["step", "epoch", "loss", "losses", "learning_rate", "grad_norm", "loss_scale"],
  ...["skipped", "tokens", "seconds"],
];

const SUMMARY = [
  ...["runtime_s", "tokens", "tokens_per_second", "peak_memory_mb", "memory_mb"],
  ...["trainable_parameters", "total_parameters", "trainable_percent"],
  ...["first_loss", "last_loss", "skipped_steps", "gpu", "provider", "config"],
];

gpuTest("cli: train, resume, then generate and score with the adapter", async () => {
  using folder = new TemporaryFolder();
  const data = folder.file("data.json", smallData(7));
  const settings = [...RANDOM, "--data", data, "--gradient-accumulation-steps", "2"];
  settings.push("--learning-rate", "1e-3", "--lora.rank", "4", "--epochs", "2");
  const output = folder.file("whole");
  const stdout = succeeded(await lorikeet("train", [...settings, "--output", output]));

  assert.match(stdout, /Data: .*, 7 samples, \d+ tokens/);
  assert.match(stdout, /\[⟨<s>⟩Below is an instruction[^]*### Response:\]/, "the masked prompt");
  assert.match(stdout, /Trainable: (\d+) of \d+ parameters \(\d+\.\d{4} %\)/);
  assert.match(stdout, /^ {2}optimizer +\d+\.\d MB$/m);
  assert.ok(stdout.includes(join(output, "adapter")), stdout);

  assert.deepEqual(names(output), [
    ...["adapter", "config.yaml", "metrics.jsonl", "run.lock", "states", "summary.json"],
  ]);
  const metrics = metricsOf(output);
  // 7 samples are 4 windows, the last of one micro-batch; two epochs.
  assert.deepEqual(metrics.map(({ step }) => step), [1, 2, 3, 4, 5, 6, 7, 8]);
  assert.deepEqual(metrics.map(({ losses }) => (losses as number[]).length), [
    ...[2, 2, 2, 1],
    ...[2, 2, 2, 1],
  ]);
  assert.deepEqual(metrics.map(({ epoch }) => epoch), [0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2]);
  for (const line of metrics) {
    assert.deepEqual(Object.keys(line), METRICS);
    assert.equal(typeof line.skipped, "boolean");
    for (const key of ["loss", "grad_norm", "loss_scale", "tokens", "seconds"]) {
      assert.ok((line[key] as number) > 0, `${key} is ${line[key]}`);
    }
  }
  const summary = summaryOf(output);
  assert.deepEqual(Object.keys(summary), SUMMARY);
  const sum = (counts: number[]) => counts.reduce((total, count) => total + count, 0);
  assert.equal(summary.tokens, sum(metrics.map(({ tokens }) => tokens as number)));
  assert.deepEqual([summary.first_loss, summary.last_loss], [
    metrics[0].loss,
    metrics[7].loss,
  ]);
  assert.ok(summary.last_loss < summary.first_loss);
  const { memory_mb, trainable_parameters, total_parameters } = summary;
  assert.deepEqual(Object.keys(memory_mb), [
    ...["parameter", "activation", "gradient", "optimizer", "workspace"],
  ]);
  assert.ok(summary.peak_memory_mb <= sum(Object.values(memory_mb)) + 0.01);
  assert.equal(summary.trainable_percent, 100 * trainable_parameters / total_parameters);
  assert.equal(summary.config.lora.rank, 4);

  const adapter = readAdapter(join(output, "adapter"));
  checkAdapter(adapter, presetConfig("tiny"), "adapter");
  assert.deepEqual([adapter.config.r, adapter.config.target_modules], [4, ["q_proj", "v_proj"]]);
  const values = [...adapter.tensors.values()].reduce((count, { data }) => count + data.length, 0);
  assert.equal(values, trainable_parameters);

  // Stopped inside the second epoch and resumed: the same steps, to the last bit.
  const [part, rest] = [folder.file("part"), folder.file("rest")];
  succeeded(await lorikeetHere("train", [...settings, "--max-steps", "5", "--output", part]));
  const state = join(part, "states", "step-00000005");
  const all = ["--max-steps", "none"];
  succeeded(
    await lorikeetHere("train", [...settings, "--resume", state, ...all, "--output", rest]),
  );
  const first = metricsOf(part);
  assert.match(
    // What isn't said again is as the run has it.
    succeeded(await lorikeetHere("train", ["--resume", part, ...all])),
    /Going on after step 5 of 8/,
  );
  const timeless = (lines: Record<string, unknown>[]) =>
    lines.map(({ seconds: _, ...line }) => line);
  assert.deepEqual(timeless([...first, ...metricsOf(rest)]), timeless(metrics));
  assert.deepEqual(timeless(metricsOf(part)), timeless(metrics));
  const file = "adapter/adapter_model.safetensors";
  for (const run of [rest, part]) {
    const [restored, expected] = [run, output].map((run) => Deno.readFileSync(join(run, file)));
    assertSameValues(restored, expected, file);
    // Of the whole run, also what was done before it was resumed.
    const { tokens, first_loss, last_loss, skipped_steps } = summary;
    const { runtime_s, ...rest } = summaryOf(run);
    assert.ok(runtime_s > 0);
    assert.deepEqual([rest.tokens, rest.first_loss, rest.last_loss, rest.skipped_steps], [
      ...[tokens, first_loss, last_loss, skipped_steps],
    ]);
  }

  const prompt = [...RANDOM, "--prompt", "Say red.", "--max-tokens", "6", "--json"];
  const withAdapter = ["--adapter", join(output, "adapter")];
  const answer = async (...args: string[]) =>
    JSON.parse(succeeded(await lorikeetHere("generate", [...prompt, ...args])));
  const [tuned, uncached, base] = [
    await answer(...withAdapter),
    await answer(...withAdapter, "--no-kv-cache"),
    await answer(),
  ];
  assert.deepEqual(Object.keys(tuned), [
    ...["text", "prompt_ids", "ids", "compile_seconds", "prefill_tokens_per_second"],
    ...["decode_tokens_per_second", "peak_memory_mb", "finish_reason"],
  ]);
  assert.equal(tuned.prompt_ids[0], 1);
  assert.ok(tuned.ids.length <= 6 && tuned.prefill_tokens_per_second > 0);
  assert.ok(tuned.peak_memory_mb > 0);
  assert.deepEqual([uncached.ids, uncached.text], [tuned.ids, tuned.text]);
  assert.notDeepEqual(tuned.ids, base.ids);
  const both = [...prompt, ...withAdapter, "--prompt", "Say blue and black."];
  const [one, two] = succeeded(await lorikeetHere("generate", both)).trimEnd().split("\n")
    .map((line) => JSON.parse(line));
  assert.deepEqual([one.ids, one.text], [tuned.ids, tuned.text], "an adapter in a batch");
  assert.ok(two.prompt_ids.length > one.prompt_ids.length);

  const score = async (...args: string[]) => {
    const flags = [...RANDOM, "--data", data, "--json", ...args];
    const run = args.length === 0 ? lorikeet : lorikeetHere;
    const outcome = await run("score", flags);
    return JSON.parse(succeeded(outcome));
  };
  const [after, before] = [await score(...withAdapter), await score()];
  assert.deepEqual(Object.keys(after), ["nll_per_token", "perplexity", "tokens"]);
  assert.equal(after.perplexity, Math.exp(after.nll_per_token));
  assert.ok(after.nll_per_token < before.nll_per_token, "training on the data helps");
  assert.ok(after.tokens > 7 && after.tokens === before.tokens);
  assert.equal((await score("--samples", "2")).tokens < after.tokens, true);
});

gpuTest("cli: Ctrl-C ends a run after its step, with a state to go on from", async () => {
  using folder = new TemporaryFolder();
  const data = folder.file("data.json", smallData(4));
  const settings = [...RANDOM, "--data", data, "--epochs", "100000", "--max-steps"];
  const part = folder.file("part");
  const run = await startLorikeet("train", [...settings, "100000", "--output", part]);
  const metrics = join(part, "metrics.jsonl");
  const begun = () => exists(metrics) && Deno.readTextFileSync(metrics).includes("\n");
  while (!begun()) await new Promise((resolve) => setTimeout(resolve, 50));
  run.kill("SIGINT");
  const { code, stderr } = await run.output();
  const message = new TextDecoder().decode(stderr);
  assert.equal(code, 130, message);
  assert.match(message, /Stopping after this step; the state is saved/);
  assert.ok(message.includes(`--resume ${part}\n`), message);
  assert.deepEqual(names(part), ["config.yaml", "metrics.jsonl", "run.lock", "states"]);
  const done = metricsOf(part).length;
  const resume = ["--resume", "auto", "--output", part];
  succeeded(await lorikeetHere("train", [...settings, `${done + 1}`, ...resume]));
  assert.deepEqual(metricsOf(part).map(({ step }) => step), [
    ...Array.from({ length: done + 1 }, (_, i) => i + 1),
  ]);
});

gpuTest("cli: full fine-tuning writes a model that generate loads by itself", async () => {
  using folder = new TemporaryFolder();
  const data = folder.file("data.jsonl", JSON.stringify(JSON.parse(smallData(2))[0]));
  const output = folder.file("full");
  const args = [...RANDOM, "--data", data, "--lora", "off", "--output", output];
  // Far more micro-batches and samples in them than there is data.
  args.push("--gradient-accumulation-steps", "1e12", "--batch-size", "1e12");
  succeeded(await lorikeetHere("train", [...args, "--precision", "fp32", "--max-steps", "1"]));
  assert.deepEqual(names(output), [
    ...["config.yaml", "metrics.jsonl", "model", "run.lock", "states", "summary.json"],
  ]);
  const { trainable_percent } = summaryOf(output);
  assert.equal(trainable_percent, 100);
  const model = join(output, "model");
  assert.deepEqual(names(model), [
    ...["config.json", "model.safetensors"],
    ...["tokenizer.json", "tokenizer.model", "tokenizer_config.json"],
  ]);
  openHuggingFace(model).close();
  const prompt = ["--prompt", "Hello", "--template", "none", "--max-tokens", "8"];
  const flags = ["--model", model, "--precision", "fp32", ...prompt];
  const spoken = await lorikeet("generate", flags);
  const whole = await lorikeetHere("generate", [...flags, "--json"]);
  const { text, ids } = JSON.parse(succeeded(whole));
  // Streamed and whole, the answer is the same.
  assert.equal(succeeded(spoken), `${text}\n`);
  assert.match(spoken.stderr, new RegExp(`answer: ${ids.length} tokens`));
});

gpuTest("cli: generation stops at the context", async () => {
  const prompt = ["--prompt", "some words ".repeat(15), "--template", "none"];
  const args = [...RANDOM, ...prompt, "--max-tokens", "1000", "--json"];
  const outcome = await lorikeetHere("generate", args);
  const { prompt_ids, ids } = JSON.parse(succeeded(outcome));
  assert.ok(prompt_ids.length > 100);
  assert.equal(prompt_ids.length + ids.length, presetConfig("tiny").max_position_embeddings);
  assert.match(outcome.stderr, /^Stopped at the model's context of 256 tokens\.$/m);
});

Deno.test("cli: --help is on stdout and needs neither a GPU nor the other flags", async () => {
  for (const command of ["train", "generate", "score"] as const) {
    const outcome = await lorikeet(command, ["--help", "--nonsense"]);
    assert.match(succeeded(outcome), new RegExp(`^Usage: lorikeet ${command} `));
    assert.equal(outcome.stderr, "");
  }
});
