/** Bad input on the command line: one clear sentence, exit code 1 or 2, nothing left behind. */
import assert from "node:assert/strict";
import { join } from "node:path";
import {
  exists,
  lorikeet,
  type Outcome,
  refused,
  smallData,
  TemporaryFolder,
  TOKENIZER,
} from "./cli.ts";
import { lorikeetHere } from "./here.ts";
import { fixturePath } from "../fixtures.ts";
import { gpu } from "../kernels/harness.ts";

const RANDOM = ["--model", "random:tiny", "--tokenizer", TOKENIZER];

/** Runs `train` into a new folder of `folder` and asserts that it was not made. */
async function train(
  folder: TemporaryFolder,
  args: readonly string[],
  env?: Record<string, string>,
): Promise<Outcome> {
  const output = folder.file("output");
  const flags = [...args, "--output", output];
  // What is read from the environment is a process's own.
  const outcome = env ? await lorikeet("train", flags, env) : await lorikeetHere("train", flags);
  assert.ok(!exists(output), "an output folder was left behind");
  return outcome;
}

Deno.test("cli: unknown flags and keys name the nearest, all problems at once", async () => {
  using folder = new TemporaryFolder();
  const yaml = folder.file("run.yaml", "model: random:tiny\nlearning_rte: 1e-4\nlora: {rnk: 2}\n");
  refused(
    await train(folder, [yaml, "--batchsize", "4", "--schedule", "cosin"]),
    2,
    'unknown flag --batchsize; did you mean "--batch-size"?',
    `unknown key learning_rte (${yaml}, line 2); did you mean "learning_rate"?`,
    `unknown key lora.rnk (${yaml}, line 3); did you mean "lora.rank"?`,
    '--schedule is "cosin"; expected one of constant, linear, cosine',
  );
  refused(
    await lorikeetHere("generate", ["--model", "random:tiny", "--promt", "x", "--wings", "2"]),
    2,
    'unknown flag --promt; did you mean "--prompt"?',
    "unknown flag --wings",
    "--prompt is missing; expected --prompt TEXT, --data FILE or --messages FILE",
  );
  refused(
    await lorikeetHere("score", ["builtin", "--max-length", "1"]),
    2,
    'got "builtin"; expected only flags',
    "--model is missing; expected a model folder",
    "--data is missing; expected a JSON, JSON Lines, CSV, TSV or Parquet file",
    "--max-length is 1; expected a whole number of at least 2",
  );
  refused(await train(folder, ["missing.yaml"]), 2, '"missing.yaml" does not exist');
});

Deno.test("cli: models, adapters and tokenizers that are not there", async () => {
  using folder = new TemporaryFolder();
  refused(await train(folder, ["--model", "nowhere"]), 1, 'model "nowhere" does not exist');
  refused(
    await train(folder, ["--model", "random:lama2-7b"]),
    2,
    'did you mean "llama2-7b"?',
  );
  refused(await train(folder, ["--model", "random:tiny"]), 1, "give one with --tokenizer FILE");
  refused(
    await lorikeetHere("generate", [...RANDOM, "--prompt", "x", "--adapter", folder.path]),
    1,
    `${folder.path}: is empty, expected an adapter's folder with adapter_config.json`,
  );
});

Deno.test("cli: data that is missing, truncated, not JSON or without output", async () => {
  using folder = new TemporaryFolder();
  const whole = smallData(3);
  const cases: [string, string | undefined, RegExp][] = [
    ["missing.json", undefined, /does not exist; expected JSON, JSON Lines, CSV, TSV or Parquet/],
    [
      "truncated.json",
      whole.slice(0, -20),
      /is truncated: a value does not end \(row 3, line 1\)/,
    ],
    ["prose.json", "Once upon a time", /is neither JSON nor a table with a first line of names; e/],
    [
      "no_output.json",
      whole.replace(/"output":"green 1"/, '"outptu":"x"'),
      /row 2 .*output is miss/,
    ],
    [
      "empty_output.jsonl",
      '{"instruction":"a","output":" "}',
      /nothing is left to learn \(1 sample/,
    ],
    [
      "cut.jsonl",
      '{"instruction":"a","output":"b"}\n{"instruc',
      /is truncated: .* \(row 2, line 2\)/,
    ],
    ["empty.json", "", /is empty/],
  ];
  for (const [name, text, message] of cases) {
    const path = folder.file(name, text);
    refused(await train(folder, [...RANDOM, "--data", path]), 1, `data file "${path}"`, message);
  }
});

interface Header {
  [name: string]: { dtype: string; shape: number[]; data_offsets: [number, number] };
}

/** The fixture's model.safetensors with a changed header (a string as it stands) or length. */
function lyingModel(
  folder: TemporaryFolder,
  name: string,
  { header: change, length, bytes: cut }: {
    header?: (header: Header) => unknown;
    length?: bigint;
    bytes?: number;
  },
): string {
  const original = Deno.readFileSync(fixturePath("llama/model.safetensors"));
  const end = 8 + Number(new DataView(original.buffer).getBigUint64(0, true));
  const { __metadata__: _, ...header } = JSON.parse(
    new TextDecoder().decode(original.subarray(8, end)),
  );
  const changed = change?.(header) ?? header;
  const text = typeof changed === "string" ? changed : JSON.stringify(changed);
  const encoded = new TextEncoder().encode(text);
  const size = 8 + encoded.length + original.length - end;
  const bytes = new Uint8Array(size);
  new DataView(bytes.buffer).setBigUint64(0, length ?? BigInt(encoded.length), true);
  bytes.set(encoded, 8);
  bytes.set(original.subarray(end), 8 + encoded.length);
  const path = folder.file(name);
  Deno.mkdirSync(path);
  Deno.copyFileSync(fixturePath("llama/config.json"), join(path, "config.json"));
  Deno.writeFileSync(join(path, "model.safetensors"), bytes.subarray(0, cut ?? size));
  return path;
}

const K = "model.layers.1.self_attn.k_proj.weight", NORM = "model.norm.weight";

/** Ways in which a file can lie, with what is said about each. */
const LIES: Record<string, [Parameters<typeof lyingModel>[2], ...(RegExp | string)[]]> = {
  "a header of over 100 MB": [{ length: 100_000_001n }, "100000001 bytes", "limit of 100 MB"],
  "a header beyond the file": [{ length: 99_000_000n }, /header has 99000000 bytes, but the file/],
  "no header at all": [{ bytes: 5 }, "too short"],
  "cut data": [
    { bytes: 300_000 },
    /is truncated: its tensors have \d+ bytes, of which \d+ are there; expected the whole file/,
  ],
  "offsets beyond the file": [{
    header: (h) => {
      h[K].data_offsets = [1e9, 1e9 + 3072];
      return h;
    },
  }, /bytes \d+ to \d+ of the data, before tensor ".*", belong to no tensor/],
  "an overlap": [{
    header: (h) => {
      h[K].data_offsets = [0, h[K].data_offsets[1] - h[K].data_offsets[0]];
      return h;
    },
  }, "overlaps"],
  "a gap": [{
    header: (h) => {
      delete h[K];
      return h;
    },
  }, "belong to no tensor"],
  "a name twice": [{
    header: (h) => JSON.stringify(h).replace("{", `{"${NORM}":${JSON.stringify(h[NORM])},`),
  }, `has the name "${NORM}" twice`],
  "an unknown dtype": [{
    header: (h) => {
      h[K].dtype = "F13";
      return h;
    },
  }, `tensor "${K}" has dtype "F13", which is not known`],
  "a dtype that is no weight's": [{
    header: (h) => {
      h[K].dtype = "I32";
      return h;
    },
  }, `tensor "${K}" has dtype I32, expected F32, F16 or BF16`],
  "a shape that is not the configuration's": [{
    header: (h) => {
      h[K].shape.reverse();
      return h;
    },
  }, `tensor "${K}" has shape [48,16], but config.json needs [16,48]`],
  "a missing tensor": [{
    header: (h) => {
      h["model.norm.wait"] = h[NORM];
      delete h[NORM];
      return h;
    },
  }, `tensor "${NORM}" is missing`],
};

Deno.test("cli: safetensors files that lie", async (t) => {
  using folder = new TemporaryFolder();
  for (const [lie, [change, ...patterns]] of Object.entries(LIES)) {
    await t.step(lie, async () => {
      const model = lyingModel(folder, lie.replaceAll(" ", "_"), change);
      const args = ["--model", model, "--tokenizer", TOKENIZER];
      refused(await train(folder, args), 1, join(model, "model.safetensors"), ...patterns);
    });
  }
});

Deno.test("cli: a vocabulary that does not match the tokenizer", async () => {
  using folder = new TemporaryFolder();
  const model = fixturePath("llama");
  const args = ["--model", model, "--tokenizer", TOKENIZER];
  const sentence =
    `tokenizer "${TOKENIZER}" has 360 ids but model "${model}" has a vocab_size of 131`;
  refused(await train(folder, args), 1, sentence);
  refused(await lorikeetHere("generate", [...args, "--prompt", "x"]), 1, sentence);
});

Deno.test("cli: an output folder that exists is left as it is, and one that can't be made is refused", async () => {
  using folder = new TemporaryFolder();
  const data = folder.file("data.json", smallData(2));
  const kept = folder.file("kept", "mine");
  for (const output of [folder.path, kept]) {
    const args = [...RANDOM, "--data", data, "--output", output];
    refused(await lorikeetHere("train", args), 1, output, "exists already and is not overwritten");
  }
  const below = `${data}/new`;
  refused(
    await lorikeetHere("train", [...RANDOM, "--data", data, "--output", below]),
    1,
    `output folder ${below} can't be made: ${data} is no folder`,
  );
  assert.equal(Deno.readTextFileSync(kept), "mine");
  const names = [...Deno.readDirSync(folder.path)].map(({ name }) => name).sort();
  assert.deepEqual(names, ["data.json", "kept"]);
});

Deno.test("cli: a prompt beyond the context", async () => {
  const prompt = "many words ".repeat(60);
  refused(
    await lorikeetHere("generate", [...RANDOM, "--prompt", prompt]),
    1,
    /the prompt has \d+ tokens .* context of 256; expected at most 255/,
  );
});

/** A GPU is needed, and not the 200 GB that the run below needs. */
const ignored = gpu === undefined
  ? " (ignored: no GPU adapter)"
  : Deno.systemMemoryInfo().available > 200e9
  ? " (ignored: this machine has that memory)"
  : "";

Deno.test({
  name: `cli: a run that can't fit shows need against have${ignored}`,
  ignore: ignored !== "",
  async fn() {
    using folder = new TemporaryFolder();
    const data = folder.file("data.json", smallData(2));
    const args = ["--model", "random:llama2-13b", "--tokenizer", TOKENIZER, "--data", data];
    const outcome = await train(folder, [...args, "--lora", "off", "--precision", "fp32"]);
    refused(
      outcome,
      1,
      /does not fit the GPU's memory; it needs\n/,
      // 13,015,864,320 parameters of 4 bytes, their gradients, and AdamW's two moments.
      /^ {2}parameter +496\d\d\.\d MB$/m,
      /^ {2}gradient +496\d\d\.\d MB$/m,
      /^ {2}optimizer +993\d\d\.\d MB$/m,
      /^ {2}total +\d{6}\.\d MB$/m,
      /^ {2}there is +[\d.]+ MB$/m,
      "Less memory: --checkpointing block",
    );
    assert.ok(outcome.seconds < 10, `took ${outcome.seconds} s`);
  },
});

const linux = Deno.build.os === "linux";

Deno.test({
  name: `cli: no adapter says what to install${linux ? "" : " (ignored: not Vulkan)"}`,
  ignore: !linux,
  async fn() {
    using folder = new TemporaryFolder();
    const data = folder.file("data.json", smallData(2));
    const nowhere = folder.file("no_driver.json");
    const env = {
      VK_DRIVER_FILES: nowhere,
      VK_ICD_FILENAMES: nowhere,
      DENO_WEBGPU_BACKEND: "vulkan", // as the launcher sets it: no OpenGL instead
    };
    const message = /no GPU adapter was found: install .*mesa-vulkan-drivers libvulkan1/;
    refused(await train(folder, [...RANDOM, "--data", data], env), 1, message);
    refused(await lorikeet("generate", [...RANDOM, "--prompt", "x"], env), 1, message);
  },
});
