/** Adapters trained beside quantised weights, and what becomes of them in `merge`, from end to end. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { readAdapter } from "../../model/adapter/adapter_folder.ts";
import { baseQuantization } from "../../model/transformer/base_quantization.ts";
import { fixturePath } from "../fixtures.ts";
import { gpuTest } from "../kernels/harness.ts";
import { writeBuiltinNf4 } from "../model/formats/bitsandbytes/builtin_folder.ts";
import { succeeded, TemporaryFolder } from "./cli.ts";
import { lorikeetHere } from "./here.ts";

const BESIDE =
  /The adapter was trained beside weights in (\S+), whose rounding it makes up for, too\./;

/** Trains an adapter on two samples; its folder. */
async function train(output: string, ...model: string[]): Promise<string> {
  const data = `${output}.json`, row = { instruction: "Say a.", output: "a bird sings" };
  Deno.writeTextFileSync(data, JSON.stringify([row, row]));
  const flags = ["--data", data, "--learning-rate", "0.01", "--precision", "fp32"];
  const steps = ["--gradient-accumulation-steps", "1"];
  succeeded(await lorikeetHere("train", [...model, ...flags, ...steps, "--output", output]));
  return join(output, "adapter");
}

/** Merges; what is printed as JSON, and said on stderr. */
async function merge(model: string, adapter: string, output: string, ...more: string[]) {
  const flags = ["--model", model, "--adapter", adapter, "--output", output, ...more];
  const run = await lorikeetHere("merge", [...flags, "--json"]);
  return { result: JSON.parse(succeeded(run)), stderr: run.stderr };
}

/** A greedy answer in fp32. */
async function answer(...model: string[]): Promise<number[]> {
  const prompt = ["--prompt", "What does a parakeet eat?", "--max-tokens", "24"];
  const flags = ["--precision", "fp32", "--json", ...prompt, ...model];
  return JSON.parse(succeeded(await lorikeetHere("generate", flags))).ids;
}

gpuTest("cli: an adapter of quantization nf4 is merged into the model's own weights", async () => {
  using folder = new TemporaryFolder();
  const adapter = await train(folder.file("run"), "--model", "builtin", "--quantization", "nf4");
  assert.deepEqual(baseQuantization(readAdapter(adapter).metadata), {
    quantization: "nf4",
    double_quantization: true,
    quantization_skip: [],
    stored: [],
  });
  const { result, stderr } = await merge("builtin", adapter, folder.file("merged"));
  assert.equal(BESIDE.exec(stderr)?.[1], "nf4");
  const { max_logit_difference: own, max_logit_difference_trained: trained } = result;
  assert.deepEqual([result.trained_on, result.merged_tensors], ["nf4", 8]);
  // Of f16 the one, of nf4 the other.
  assert.ok(own < 0.2 && trained > 10 * own, `${own}, ${trained}`);
  const flags = ["--model", "builtin", "--adapter", adapter, "--output", folder.file("again")];
  const report = succeeded(await lorikeetHere("merge", flags));
  const [, difference, same] =
    /^Beside the model in nf4, as it was trained: largest logit difference (\S+), the same likeliest token at (\d+) of 52 positions$/m
      .exec(report) ?? [];
  assert.equal(difference, trained.toPrecision(3));
  assert.ok(Number(same) > 20 && Number(same) <= 52);

  const plain = await train(folder.file("plain"), "--model", "builtin");
  const other = await merge("builtin", plain, folder.file("of_plain"));
  assert.doesNotMatch(other.stderr, BESIDE);
  assert.deepEqual(
    [other.result.trained_on, other.result.max_logit_difference_trained],
    [null, null],
  );
});

gpuTest(
  "cli: an adapter of a bitsandbytes folder is merged into it, or into its original",
  async () => {
    using folder = new TemporaryFolder();
    const model = folder.file("nf4");
    await writeBuiltinNf4(model);
    const adapter = await train(folder.file("run"), "--model", model);
    assert.deepEqual(baseQuantization(readAdapter(adapter).metadata)?.stored, ["nf4"]);
    const expected = await answer("--model", model, "--adapter", adapter);
    for (const name of ["merged", "merged.gguf"]) {
      const output = folder.file(name);
      const { result, stderr } = await merge(model, adapter, output, "--dtype", "f32");
      assert.match(
        stderr,
        /has quantised weights \(28 in nf4\); what they stand for is written in f32\.$/m,
      );
      assert.doesNotMatch(stderr, BESIDE);
      assert.deepEqual([result.trained_on, result.merged_tensors], [null, 8]);
      assert.ok(result.max_logit_difference < 1e-3, `${result.max_logit_difference}`);
      assert.deepEqual(await answer("--model", output), expected);
    }
    const config = JSON.parse(Deno.readTextFileSync(folder.file("merged/config.json")));
    assert.equal(config.quantization_config, undefined);
    const { result, stderr } = await merge("builtin", adapter, folder.file("original"));
    assert.equal(BESIDE.exec(stderr)?.[1], "nf4");
    assert.deepEqual([result.trained_on, result.max_logit_difference_trained], ["nf4", null]);
  },
);

Deno.test("cli: the weights of a quantised model can't be trained themselves", async () => {
  using folder = new TemporaryFolder();
  const model = fixturePath("gguf/sentencepiece.gguf"), output = folder.file("run");
  const flags = ["--model", model, "--lora", "off", "--output", output];
  const { code, stderr } = await lorikeetHere("train", flags);
  assert.equal(code, 1);
  assert.match(
    stderr,
    /^error: model ".*sentencepiece\.gguf" is quantised \(\d+ weights in \w+\) but lora is off.*; expected lora on, or .*\n$/,
  );
  assert.throws(() => Deno.statSync(output), Deno.errors.NotFound);
});
