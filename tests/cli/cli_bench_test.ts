/** `lorikeet bench` from end to end: what it prints as JSON and what it refuses. */
import assert from "node:assert/strict";
import { setTimeout } from "node:timers/promises";
import { exists, refused, startLorikeet, succeeded, TemporaryFolder } from "./cli.ts";
import { lorikeetHere } from "./here.ts";
import { gpuTest } from "../kernels/harness.ts";
import { addressOf, end } from "../watch/served.ts";

const json = async (...args: string[]) =>
  JSON.parse(succeeded(await lorikeetHere("bench", [...args, "--json"])));

gpuTest("cli: bench kernels gives every kernel its time, roof and error", async () => {
  using folder = new TemporaryFolder();
  const plot = folder.file("roofline.svg");
  const args = ["--model", "random:tiny", "--tokens", "31", "--dtype", "f16", "--only", "l and r"];
  const result = await json("kernels", ...args, "--plot", plot);
  assert.deepEqual(Object.keys(result), [
    ...["gpu", "provider", "model", "tokens", "copy_gigabytes_per_second", "rows"],
  ]);
  assert.deepEqual(result.rows.map(({ name }: { name: string }) => name.replace(/ \d.*/, "")), [
    ...["matmul square nt", "residual and rmsnorm"],
  ]);
  for (const row of result.rows) {
    assert.deepEqual(Object.keys(row), [
      ...["name", "dtype", "tokens", "milliseconds", "flops", "bytes", "tflops_per_second"],
      ...["gigabytes_per_second", "roof", "of_roof", "error"],
    ]);
    assert.ok(row.milliseconds > 0 && row.of_roof > 0 && row.error < 1e-3, row.name);
  }
  assert.ok(Math.abs(result.rows[0].of_roof - 1) < 1e-9, "the best product is its own roof");
  assert.match(Deno.readTextFileSync(plot), /^<svg.*Roofline/s);
});

gpuTest("cli: bench train times every step of a run", async () => {
  const args = ["--model", "random:tiny", "--samples", "4", "--packing"];
  const result = await json("train", ...args, "--gradient-accumulation-steps", "3", "--profile");
  assert.deepEqual(Object.keys(result), [
    ...[
      "gpu",
      "provider",
      "model",
      "precision",
      "quantization",
      "lora",
      "optimizer",
      "checkpointing",
      "packing",
    ],
    ...["roofs", "samples", "tokens", "shared_tokens", "steps"],
    ...["trainable_parameters", "total_parameters"],
    ...["first_loss", "last_loss", "losses", "skipped_steps", "programs", "compile_seconds"],
    ...["seconds", "median_step_seconds", "tokens_per_second", "useful_tflop"],
    ...["useful_tflops_per_second", "of_matmul", "work", "planned_mb", "peak_memory_mb"],
    ...["memory_mb", "step_seconds"],
    "profile",
  ]);
  assert.deepEqual([result.samples, result.steps, result.packing], [4, 2, true]);
  assert.ok(result.shared_tokens > 0.1 * result.tokens, `${result.shared_tokens} shared`);
  assert.equal(result.step_seconds.length, 2);
  // Untrained weights know nothing: every token of 512 is about as likely.
  assert.ok(Math.abs(result.first_loss - Math.log(512)) < 0.5, `${result.first_loss}`);
  const { profile } = result;
  const inLaunches = profile.programs.reduce(
    (s: number, p: { seconds: number }) => s + p.seconds,
    0,
  );
  assert.ok(inLaunches > 0 && inLaunches < profile.wall_seconds);
  assert.ok(profile.unprofiled_seconds > 0 && profile.between_launches_seconds >= 0);
});

gpuTest("cli: bench train has the losses of lorikeet train, with LoRA and without", async () => {
  using folder = new TemporaryFolder();
  for (const lora of ["on", "off"]) {
    const output = folder.file(`run-${lora}`), count = 3;
    const common = ["--model", "builtin", "--data", "builtin", "--samples", `${count}`];
    const settings = ["--lora", lora, "--learning-rate", "1e-3", "--precision", "fp32"];
    settings.push("--gradient-accumulation-steps", "2"); // of the second step there is one sample
    succeeded(await lorikeetHere("train", [...common, ...settings, "--output", output]));
    const result = await json("train", ...common, ...settings);
    const losses = Deno.readTextFileSync(`${output}/metrics.jsonl`).trim().split("\n")
      .flatMap((line) => JSON.parse(line).losses);
    assert.deepEqual(result.losses, losses);
    const mean = (few: number[]) => few.reduce((sum, loss) => sum + loss, 0) / few.length;
    assert.ok(Math.abs(result.first_loss - mean(losses.slice(0, 8))) < 1e-9);
    assert.ok(Math.abs(result.last_loss - mean(losses.slice(-8))) < 1e-9);
    assert.ok(result.work.flops > 1e12 * result.useful_tflop, "what is needed was counted");
    assert.equal(result.trainable_parameters === result.total_parameters, lora === "off");
  }
});

gpuTest("cli: bench train says as JSON what a run that does not fit needs", async () => {
  const args = ["train", "--model", "random:llama2-13b", "--lora", "off", "--samples", "1"];
  const outcome = await lorikeetHere("bench", [...args, "--json"]);
  refused(outcome, 1, "does not fit");
  const { refused: why } = JSON.parse(outcome.stdout);
  assert.equal(why.by, "plan");
  const parts = Object.values(why.needed as Record<string, number>);
  assert.ok(parts.reduce((sum, bytes) => sum + bytes, 0) >= why.total);
  assert.ok(why.total > why.available && why.available > 0);
  refused(await lorikeetHere("bench", [...args, "--ignore-plan"]), 2, "--ignore-plan needs a GPU");
});

gpuTest(
  "cli: bench train --tokens gives time and memory of each length, and their lines",
  async () => {
    using folder = new TemporaryFolder();
    const plot = folder.file("scaling.svg");
    const args = ["--model", "random:tiny", "--tokens", "32,64,128", "--plot", plot];
    const result = await json("train", ...args);
    assert.deepEqual(result.rows.map(({ tokens }: { tokens: number }) => tokens), [32, 64, 128]);
    for (const row of result.rows) {
      assert.deepEqual(Object.keys(row), [
        ...["tokens", "seconds", "tokens_per_second", "useful_tflops_per_second", "memory_mb"],
      ]);
    }
    assert.ok(result.memory_fit.slope > 0 && result.memory_fit.r2 > 0.99);
    assert.deepEqual(Object.keys(result.seconds_fit), ["slope", "intercept", "r2"]);
    assert.match(Deno.readTextFileSync(plot), /^<svg.*memory, MB/s);
  },
);

gpuTest("cli: bench decode compares both ways of generation before it times them", async () => {
  const result = await json(
    "decode",
    "--model",
    "random:tiny",
    "--contexts",
    "16",
    "--tokens",
    "4",
  );
  assert.deepEqual(Object.keys(result), [
    ...[
      "gpu",
      "provider",
      "model",
      "precision",
      "quantization",
      "tokens",
      "logit_difference",
      "rows",
      "uncached",
    ],
    ...["peak_memory_mb", "cache_mb"],
  ]);
  assert.deepEqual(Object.keys(result.rows[0]), [
    ...["context", "prefill_tokens_per_second", "decode_tokens_per_second"],
    ...["milliseconds_per_token", "uncached_milliseconds_per_token"],
  ]);
  assert.ok(result.logit_difference < 1e-3);
});

Deno.test("cli: bench refuses what it does not know, and flags that exclude each other", async () => {
  const bench = (...args: string[]) => lorikeetHere("bench", args);
  const [name, flag, dtype, plot, both, few] = await Promise.all([
    bench("trian"),
    bench("memory", "--jsno"),
    bench("kernels", "--dtype", "f8"),
    bench("train", "--plot", "x.svg"),
    bench("train", "--tokens", "64,128", "--profile"),
    bench("train", "--tokens", "64"),
  ]);
  refused(name, 2, '"trian" is unknown', 'did you mean "train"');
  refused(flag, 2, "--jsno is unknown", "--json");
  refused(dtype, 2, '--dtype is "f8"; expected one of f16, f32');
  refused(plot, 2, "expected --tokens too");
  refused(both, 2, "--profile and --tokens exclude each other");
  refused(few, 2, "--tokens is [64]; expected two or more whole numbers");
});

gpuTest(
  "cli: bench tune keeps tiles beside those of other GPUs, and refuses a damaged file",
  async () => {
    using folder = new TemporaryFolder();
    const file = folder.file("cache/tiles.json"), others = { "another GPU (deno)": {} };
    Deno.mkdirSync(folder.file("cache"));
    Deno.writeTextFileSync(file, JSON.stringify({ tiles: others }));
    const args = ["tune", "--model", "random:tiny", "--tokens", "8", "--file", file];
    const result = await json(...args);
    assert.deepEqual(Object.keys(result), [
      ...["gpu", "provider", "model", "precision", "lora", "file", "reckoned_seconds"],
      ...["measured_seconds", "products"],
    ]);
    assert.ok(result.measured_seconds > 0 && result.measured_seconds <= result.reckoned_seconds);
    const { tiles } = JSON.parse(Deno.readTextFileSync(file));
    const key = `${result.gpu} (${result.provider})`;
    assert.deepEqual(Object.keys(tiles), [...Object.keys(others), key]);
    assert.deepEqual([...Deno.readDirSync(folder.file("cache"))].map(({ name }) => name), [
      "tiles.json",
    ]);
    Deno.writeTextFileSync(file, "{}");
    refused(await lorikeetHere("bench", args), 1, `${file} of measured tiles is damaged`);
  },
);

gpuTest("cli: bench save times a run with states and without, and leaves none", async () => {
  using folder = new TemporaryFolder();
  const args = ["--samples", "16", "--gradient-accumulation-steps", "1", "--every", "2"];
  args.push("--model", "builtin", "--data", "builtin", "--states", "2", "--folder", folder.path);
  const result = await json("save", ...args);
  assert.deepEqual(Object.keys(result), [
    ...["gpu", "state_mb", "every", "median_step_seconds", "waits_seconds", "written_seconds"],
    ...["steps_meanwhile", "overhead"],
  ]);
  for (const key of ["waits_seconds", "written_seconds", "steps_meanwhile"]) {
    assert.equal(result[key].length, 2, key);
  }
  const { state_mb, waits_seconds: [waited], written_seconds: [written] } = result;
  assert.ok(state_mb > 0.3 && waited > 0 && written >= waited && result.overhead > -1);
  assert.deepEqual([...Deno.readDirSync(folder.path)], []);
});

gpuTest("cli: bench tune, killed in the middle, keeps what it measured", async () => {
  using folder = new TemporaryFolder();
  const file = folder.file("tiles.json");
  const args = ["tune", "--model", "random:tiny", "--tokens", "320", "--file", file, "--json"];
  const killed = await startLorikeet("bench", args), output = killed.output();
  const ended = output.then(() => true);
  while (!exists(file) && !await Promise.race([ended, setTimeout(20, false)]));
  killed.kill("SIGKILL");
  const { signal, stdout, stderr } = await output;
  assert.equal(signal, "SIGKILL", new TextDecoder().decode(stderr));
  assert.equal(stdout.length, 0);
  assert.equal(Object.keys(JSON.parse(Deno.readTextFileSync(file)).tiles).length, 1);
});

gpuTest("cli: bench serve measures a server that it starts, and one that runs", async () => {
  const words = ["--clients", "1,3", "--prompt", "20", "--tokens", "6", "--rounds", "1"];
  const started = await json(
    "serve",
    ...["--model", "random:tiny", "--gpu", "deno", "--prefix", "64", ...words],
  );
  const command = startLorikeet("serve", ["--model", "builtin", "--gpu", "deno", "--port", "0"]);
  try {
    const url = (await addressOf(command)).origin;
    const running = await json("serve", "--url", url, "--prefix", "0", ...words);
    assert.equal(running.model, "builtin");
    assert.equal(running.shared_prefix, undefined);
    for (const { rows, gpu_mb } of [started, running]) {
      assert.ok(gpu_mb > 0);
      assert.deepEqual(rows.map(({ clients }: { clients: number }) => clients), [1, 3]);
      for (const row of rows) {
        assert.ok(row.answers_alike);
        const made = row.tokens_per_second * row.seconds;
        assert.ok(Math.abs(made - 6 * row.answers) < 1e-6, `${made}`);
        assert.ok(row.first_token_ms.p50 > 0 && row.first_token_ms.p99 >= row.first_token_ms.p50);
        assert.ok(row.first_token_ms.p50 + 5 * row.token_ms.p50 <= 2000 * row.seconds);
        assert.ok(row.resident_mb > 50);
      }
    }
  } finally {
    await end(command);
  }
  const { prefix, first_token_ms, shared_first_token_ms, ratio } = started.shared_prefix;
  assert.equal(prefix, 64);
  assert.ok(Math.abs(first_token_ms / shared_first_token_ms - ratio) < 1e-9);
  const long = await lorikeetHere("bench", ["serve", "--model", "random:tiny", "--prompt", "9999"]);
  refused(long, 2, "expected --prompt and --tokens together");
  const gone = await lorikeetHere("bench", ["serve", "--url", "http://127.0.0.1:1"]);
  refused(gone, 1, "http://127.0.0.1:1");
});
