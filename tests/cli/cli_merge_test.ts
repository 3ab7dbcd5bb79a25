/** `lorikeet merge` and `lorikeet convert` from end to end, and what they refuse. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { weightShapes } from "../../model/families/config.ts";
import {
  adapterShapes,
  type AdapterTensor,
  writeAdapter,
} from "../../model/adapter/adapter_folder.ts";
import { adapterConfig } from "../../model/adapter/adapter_config.ts";
import { openModel } from "../../model/checkpoint/source.ts";
import {
  exists,
  lorikeet,
  refused,
  startLorikeet,
  succeeded,
  TemporaryFolder,
  TOKENIZER,
} from "./cli.ts";
import { lorikeetHere } from "./here.ts";
import { fixturePath } from "../fixtures.ts";
import { gpuTest, randomArray } from "../kernels/harness.ts";
import { smallConfig, writeZeros } from "../model/checkpoint/made_weights.ts";

const names = (folder: string) => [...Deno.readDirSync(folder)].map(({ name }) => name).sort();

/** Writes an adapter for the built-in model, strong enough to change what it says. */
async function builtinAdapter(folder: TemporaryFolder): Promise<string> {
  const { config, weights } = openModel("builtin");
  weights!.close();
  const target_modules = ["q_proj" as const, "gate_proj" as const], r = 4;
  const tensors = new Map<string, AdapterTensor>();
  for (const [name, shape] of adapterShapes(config, { r, target_modules })) {
    const data = Float32Array.from(randomArray(shape[0] * shape[1], tensors.size, 0.1));
    tensors.set(name, { dtype: "F32", shape, data } as AdapterTensor);
  }
  const path = folder.file("adapter");
  await writeAdapter(path, adapterConfig({ r, lora_alpha: 8, target_modules }), tensors);
  return path;
}

gpuTest("cli: generate with the merged model is generate with the adapter", async () => {
  using folder = new TemporaryFolder();
  const adapter = await builtinAdapter(folder);
  const merged = folder.file("deep/merged");
  const args = ["--model", "builtin", "--adapter", adapter, "--output", merged];
  const result = JSON.parse(
    succeeded(await lorikeet("merge", [...args, "--dtype", "f32", "--json"])),
  );
  assert.deepEqual(Object.keys(result), [
    ...["output", "tensors", "merged_tensors", "max_logit_difference", "max_logit"],
    ...["trained_on", "max_logit_difference_trained", "bytes", "seconds"],
  ]);
  const { config } = openModel("builtin");
  const values = [...weightShapes(config).values()]
    .reduce((sum, shape) => sum + shape.reduce((a, b) => a * b, 1), 0);
  assert.deepEqual([result.output, result.tensors, result.merged_tensors, result.bytes], [
    ...[merged, weightShapes(config).size, 2 * config.num_hidden_layers, 4 * values],
  ]);
  assert.ok(result.max_logit_difference > 0 && result.max_logit_difference < 1e-3);
  assert.ok(result.max_logit > 1);
  const written = [
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
  ];
  assert.deepEqual(names(merged), written);

  const generate = async (...args: string[]) => {
    const prompt = ["--prompt", "What does a parakeet eat?", "--max-tokens", "16"];
    const flags = ["--precision", "fp32", "--json", ...prompt, ...args];
    const { ids, text } = JSON.parse(succeeded(await lorikeetHere("generate", flags)));
    return { ids, text };
  };
  const [whole, apart, base] = [
    await generate("--model", merged),
    await generate("--model", "builtin", "--adapter", adapter),
    await generate("--model", "builtin"),
  ];
  assert.deepEqual(whole, apart);
  assert.notDeepEqual(whole.ids, base.ids);

  // In the model's own f16 the difference is that of rounding; or is not asked for.
  const half = folder.file("half");
  const report = succeeded(await lorikeetHere("merge", [...args.slice(0, -1), half]));
  const [, tensors, changed] =
    /^Wrote .*half: (\d+) tensors, (\d+) of them merged, 2\.0 MB, in \d+\.\d s$/m
      .exec(report)!;
  assert.deepEqual([Number(tensors), Number(changed)], [result.tensors, result.merged_tensors]);
  const [, difference] =
    /^Largest logit difference between merged and unmerged: (\S+) \(largest logit \S+; \d+ positions, fp32\)$/m
      .exec(report)!;
  assert.ok(Number(difference) > result.max_logit_difference && Number(difference) < 0.2);
  const unchecked = folder.file("unchecked");
  const flags = [...args.slice(0, -1), unchecked, "--no-check", "--json"];
  const { max_logit, max_logit_difference } = JSON.parse(
    succeeded(await lorikeetHere("merge", flags)),
  );
  assert.deepEqual([max_logit, max_logit_difference], [null, null]);
  for (const file of names(half)) {
    const [a, b] = [half, unchecked].map((path) => Deno.readFileSync(join(path, file)));
    assert.equal(a.findIndex((byte, i) => byte !== b[i]), -1, file);
  }
});

Deno.test("cli: convert writes another dtype and back, and a folder in Meta's layout", async () => {
  using folder = new TemporaryFolder();
  const [wide, back] = [folder.file("wide"), folder.file("back")];
  const there = ["--model", "builtin", "--output", wide, "--dtype", "f32"];
  const { stdout, stderr } = await lorikeet("convert", there);
  assert.match(stdout, /^Wrote .*wide: 39 tensors, 4\.0 MB, in \d+\.\d s\n$/);
  assert.equal(
    stderr,
    "Copied from the model's folder: 3 other files.\n",
  );
  const args = ["--model", wide, "--output", back, "--dtype", "f16", "--json"];
  const result = JSON.parse(succeeded(await lorikeetHere("convert", args)));
  assert.deepEqual(Object.keys(result), ["output", "tensors", "bytes", "seconds"]);
  assert.deepEqual([result.output, result.tensors], [back, 39]);
  const path = join("examples", "builtin", "model");
  for (const file of ["model.safetensors", "tokenizer.model"]) {
    const [a, b] = [join(back, file), fixturePath(`../../${path}/${file}`)]
      .map((path) => Deno.readFileSync(path));
    assert.equal(a.length, b.length);
    assert.equal(a.findIndex((byte, i) => byte !== b[i]), -1, file);
  }
  const meta = folder.file("meta");
  const outcome = await lorikeetHere("convert", ["--model", fixturePath("meta"), "--output", meta]);
  assert.match(succeeded(outcome), /30 tensors/);
  assert.match(outcome.stderr, /brings no tokenizer; --tokenizer FILE would add one/);
  assert.deepEqual(names(meta), ["config.json", "model.safetensors"]);
});

Deno.test("cli: Ctrl-C while a model is written leaves nothing behind", async () => {
  using folder = new TemporaryFolder();
  // 350 million zeros, which take no room in the file but a second to convert.
  const config = smallConfig({ hidden_size: 256, vocab_size: 680_000 });
  const model = folder.file("model");
  writeZeros(model, config, "F32");
  const args = ["--model", model, "--output", folder.file("output"), "--dtype", "f16"];
  const run = await startLorikeet("convert", args);
  const begun = () => names(folder.path).some((name) => name.startsWith("output.partial-"));
  while (!begun()) await new Promise((resolve) => setTimeout(resolve, 10));
  run.kill("SIGINT");
  const { code, stderr } = await run.output();
  const message = new TextDecoder().decode(stderr);
  assert.equal(code, 130, message);
  assert.match(message, /^Stopped; .*output was not made\.$/m);
  assert.deepEqual(names(folder.path), ["model"]);
});

Deno.test("cli: what merge and convert refuse, in a sentence", async () => {
  using folder = new TemporaryFolder();
  const output = folder.file("output"), taken = folder.file("taken", "mine");
  const [llama, adapter] = [fixturePath("llama"), fixturePath("adapter_qv")];
  const merge = (...args: string[]) => lorikeetHere("merge", [...args, "--output", output]);
  const convert = (...args: string[]) => lorikeetHere("convert", [...args, "--output", output]);
  refused(
    await lorikeetHere("merge", ["--modle", "x", "--dtype", "f8"]),
    2,
    'unknown flag --modle; did you mean "--model"?',
    '--dtype is "f8"; expected one of f32, f16, bf16',
    "--model is missing; expected a model folder or GGUF file, or builtin",
    "--adapter is missing; expected a PEFT adapter folder",
    "--output is missing; expected a new folder",
  );
  refused(
    await merge("--model", "random:tiny", "--adapter", adapter),
    1,
    'model "random:tiny" has no files: its weights are random; expected builtin, a model folder or a GGUF file',
  );
  refused(await convert("--model", "nowhere"), 1, 'model "nowhere" does not exist');
  refused(
    await merge("--model", llama, "--adapter", folder.path),
    1,
    join(folder.path, "adapter_config.json"),
  );
  refused(
    await merge("--model", fixturePath("llama_tied"), "--adapter", adapter),
    1,
    `${adapter}: adapter tensor `,
    /has shape \[\d+,\d+\], but the model needs \[\d+,\d+\]/,
  );
  refused(
    await convert("--model", llama, "--tokenizer", TOKENIZER),
    1,
    `tokenizer "${TOKENIZER}" has 360 ids but model "${llama}" has a vocab_size of 131`,
  );
  for (const existing of [taken, folder.path]) {
    refused(
      await lorikeetHere("convert", ["--model", llama, "--output", existing]),
      1,
      `output folder ${existing} exists already and is not overwritten; expected a new one`,
    );
  }
  refused(
    await lorikeetHere("convert", ["--model", llama, "--output", join(taken, "below")]),
    1,
    /cannot write .*below: /,
  );
  assert.ok(!exists(output));
  assert.equal(Deno.readTextFileSync(taken), "mine");
  assert.deepEqual(names(folder.path), ["taken"]);
});
