/** Commands on GGUF files, from end to end. */
import assert from "node:assert/strict";
import { basename, join } from "node:path";
import { openGgufModel } from "../../model/formats/gguf/split.ts";
import { open } from "../../model/session.ts";
import { fixturePath } from "../fixtures.ts";
import { gpuTest } from "../kernels/harness.ts";
import { refused, succeeded, TemporaryFolder } from "./cli.ts";
import { lorikeetHere } from "./here.ts";

const PIECES = fixturePath("gguf/sentencepiece.gguf");
const SPLIT = fixturePath("gguf/byte_level-00003-of-00003.gguf");
const PROMPT = ["--prompt", "a bird sings", "--template", "none", "--max-tokens", "24"];

/** What llama.cpp (npm's node-llama-cpp 3.22.1, CPU) makes of the prompt, and answers greedily. */
const LLAMA_CPP = {
  prompt_ids: [1, 264, 282, 307, 308, 311, 299, 302, 307, 304, 355, 302],
  ids: [175, 136, 320, ...Array.from({ length: 21 }, () => 76)],
};

async function answer(model: string): Promise<typeof LLAMA_CPP> {
  const flags = ["--model", model, ...PROMPT, "--precision", "fp32", "--json"];
  const { prompt_ids, ids } = JSON.parse(succeeded(await lorikeetHere("generate", flags)));
  return { prompt_ids, ids };
}

gpuTest(
  "cli: a GGUF file answers as in llama.cpp, and so does the folder that convert makes",
  async () => {
    using folder = new TemporaryFolder();
    assert.deepEqual(await answer(PIECES), LLAMA_CPP);
    const output = folder.file("converted");
    succeeded(await lorikeetHere("convert", ["--model", PIECES, "--output", output]));
    assert.deepEqual(await answer(output), LLAMA_CPP);
    const again = ["--model", output, "--output", folder.file("again.gguf")];
    succeeded(await lorikeetHere("convert", again));
    assert.deepEqual(await answer(folder.file("again.gguf")), LLAMA_CPP);
    refused(await lorikeetHere("convert", again), 1, "again.gguf exists already");
    const blocks = ["--model", output, "--output", folder.file("f"), "--dtype", "q8_0"];
    refused(await lorikeetHere("convert", blocks), 1, "--dtype q8_0 is one of GGUF's");
  },
);

/** Models, and what is said of how their weights are held: one of Q8_0 in several files, one of all types. */
const TRAINED: [path: string, said: RegExp][] = [
  [
    SPLIT,
    /Model ".*gguf" has quantised weights; they are loaded as int8 \(14 in Q8_0\) and f32 \(1 in Q8_0\)\./,
  ],
  [
    PIECES,
    / as f32 \(1 in Q5_1, .*\), int8 \(2 in Q8_0, .*\), q4_k \(2 in Q4_K\), q6_k \(.*\) and q4_0 \(.*\)\./,
  ],
];

for (const [path, said] of TRAINED) {
  gpuTest(`cli: an adapter is trained on ${basename(path)}, scored and merged`, async () => {
    using folder = new TemporaryFolder();
    const data = folder.file("data.json"), output = folder.file("run");
    const row = { instruction: "Say a.", output: "a bird sings" };
    Deno.writeTextFileSync(data, JSON.stringify([row, row]));
    const exact = ["--data", data, "--precision", "fp32"];
    const steps = ["--gradient-accumulation-steps", "1", "--learning-rate", "0.01"];
    const trained = await lorikeetHere(
      "train",
      ["--model", path, "--output", output, ...exact, ...steps],
    );
    succeeded(trained);
    assert.match(trained.stderr, said);
    const score = async (...of: string[]): Promise<number> => {
      const run = await lorikeetHere("score", [...of, ...exact, "--json"]);
      return JSON.parse(succeeded(run)).nll_per_token;
    };
    const adapted = ["--model", path, "--adapter", join(output, "adapter")];
    const before = await score("--model", path), after = await score(...adapted);
    assert.ok(after < before, `${before}, then ${after}`);
    const merged = folder.file("merged");
    const into = await lorikeetHere("merge", [...adapted, "--output", merged]);
    succeeded(into);
    assert.match(
      into.stderr,
      /has quantised weights \(.* in Q8_0.*\); what they stand for is written in f32/,
    );
    assert.ok(Math.abs(await score("--model", merged) - after) < 1e-4);
  });
}

gpuTest("cli: a GGUF file's chat template, and open()", async () => {
  const chat = ["--template", "chat", "--prompt", "hi", "--max-tokens", "2", "--json"];
  const run = await lorikeetHere("generate", ["--model", PIECES, ...chat]);
  const { prompt_ids } = JSON.parse(succeeded(run));
  await using lorikeet = await open({ model: PIECES, precision: "fp32" });
  const { tokenizer } = lorikeet;
  assert.deepEqual(prompt_ids, tokenizer.encodeSpecial("[user] hi</s>"));
  assert.equal(prompt_ids.at(-1), tokenizer.eos_id);
  const ids: number[] = [];
  for await (const { id } of lorikeet.generate("a bird sings", { maxTokens: 3 })) {
    if (id !== undefined) ids.push(id);
  }
  assert.deepEqual(ids, LLAMA_CPP.ids.slice(0, 3));
});

Deno.test("cli: a GGUF file that is none, or is missing, is refused in a sentence", async () => {
  using folder = new TemporaryFolder();
  const path = folder.file("m.gguf");
  const run = () => lorikeetHere("generate", ["--model", path, ...PROMPT]);
  refused(await run(), 1, `model "${path}" does not exist`);
  Deno.writeTextFileSync(path, "no model");
  refused(await run(), 1, `${path}: is no GGUF file: it is the text "no model"`);
});

gpuTest("cli: blocks whose scales are no finite numbers are refused by their tensor", async () => {
  using folder = new TemporaryFolder();
  const path = folder.file("m.gguf"), { tensors, close } = openGgufModel(PIECES);
  close();
  // Where in a block the scale is, one for each kind that holds blocks.
  for (
    const [name, at, refusal] of [
      [
        "attn_q",
        2,
        'self_attn.q_proj.weight" has 32 values that are NaN and 224 that are infinite',
      ],
      ["attn_v", 208, 'self_attn.v_proj.weight" has 256 values that are NaN'],
      ["ffn_gate", 0, 'mlp.gate_proj.weight" has 2 values that are NaN and 30 that are infinite'],
      ["ffn_down", 0, 'mlp.down_proj.weight" has 2 values that are NaN and 30 that are infinite'],
    ] as const
  ) {
    const bytes = Deno.readFileSync(PIECES), tensor = tensors.get(`blk.0.${name}.weight`);
    assert.ok(tensor !== undefined);
    new DataView(bytes.buffer).setUint16(
      tensor.position + at,
      name === "attn_v" ? 0xfe00 : 0x7c00,
      true,
    );
    Deno.writeFileSync(path, bytes);
    const run = await lorikeetHere("generate", ["--model", path, ...PROMPT]);
    refused(run, 1, `model "${path}": tensor "model.layers.0.${refusal}; expected finite numbers`);
  }
});
