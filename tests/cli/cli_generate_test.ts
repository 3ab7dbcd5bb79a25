/** `lorikeet generate` from end to end: batches, decoding strategies, templates, and what it refuses. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { printable } from "../../kernels/terminal.ts";
import { encodeChat } from "../../model/text/templates/chat.ts";
import { encodePrompt, renderPrompt } from "../../model/text/prompt.ts";
import { loadTokenizer } from "../../model/text/tokenizer/load.ts";
import { ROOT } from "../../scripts/compile.ts";
import {
  type Outcome,
  refused,
  startLorikeet,
  succeeded,
  TemporaryFolder,
  TOKENIZER,
} from "./cli.ts";
import { lorikeetHere } from "./here.ts";
import { gpuTest } from "../kernels/harness.ts";

// In fp32, so that no rounding of a batch's or a cache's own can tip a choice of the model.
const BUILTIN = ["--model", "builtin", "--precision", "fp32"];
const QUESTIONS = ["What does a falcon eat?", "Hi", "What is the opposite of soft?"];

/** Each text with this flag before it. */
const each = (flag: string, texts: readonly string[]) => texts.flatMap((text) => [flag, text]);

/** What `--json` prints for each prompt, as far as tests need it. */
interface Result {
  text: string;
  prompt_ids: number[];
  ids: number[];
  decode_tokens_per_second: number | null;
  finish_reason: string;
}

/** Runs `generate --json`: a line for each prompt. */
async function generate(...args: string[]): Promise<Result[]> {
  return resultsOf(await lorikeetHere("generate", [...args, "--json"]));
}

function resultsOf(outcome: Outcome): Result[] {
  const stdout = succeeded(outcome);
  assert.ok(stdout.endsWith("\n"));
  return stdout.trimEnd().split("\n").map((line) => JSON.parse(line));
}

/** What doesn't depend on time. */
const essence = (results: readonly Result[]) =>
  results.map(({ text, prompt_ids, ids, finish_reason }) => ({
    text,
    prompt_ids,
    ids,
    finish_reason,
  }));

gpuTest("cli generate: prompts and data, in batches of any size, as one by one", async () => {
  using folder = new TemporaryFolder();
  const samples = QUESTIONS.map((instruction) => ({ instruction, output: "unused" }));
  const data = folder.file("data.json", JSON.stringify(samples));
  const few = [...BUILTIN, "--max-tokens", "12"];
  const results = await generate(...few, ...each("--prompt", QUESTIONS));
  assert.equal(results.length, 3);
  assert.deepEqual(Object.keys(results[0]), [
    ...["text", "prompt_ids", "ids", "compile_seconds", "prefill_tokens_per_second"],
    ...["decode_tokens_per_second", "peak_memory_mb", "finish_reason"],
  ]);
  const tokenizer = await loadTokenizer(join(ROOT, "examples/builtin/model"));
  for (const [i, instruction] of QUESTIONS.entries()) {
    const { prompt_ids, ids, text } = results[i];
    const prompt = encodePrompt(tokenizer, renderPrompt({ instruction }, "alpaca"));
    assert.deepEqual(prompt_ids, Array.from(prompt));
    assert.equal(text, tokenizer.decode(ids));
  }

  assert.deepEqual(
    essence(await generate(...few, "--data", data, "--batch-size", "2")),
    essence(results),
  );
  const oneByOne = ["--data", data, "--batch-size", "1", "--samples", "2"];
  assert.deepEqual(essence(await generate(...few, ...oneByOne)), essence(results.slice(0, 2)));
  assert.deepEqual(essence(await generate(...few, "--prompt", QUESTIONS[2])), [
    ...essence(results.slice(2)),
  ]);

  const spoken = await lorikeetHere("generate", [...few, "--data", data]);
  const lines = results.map(({ text }, i) => `${i + 1}: ${text}\n`).join("");
  assert.equal(succeeded(spoken), lines);
  assert.match(spoken.stderr, /^KV cache: 3 × \d+ tokens in f32, \d+\.\d MB$/m);
  assert.match(spoken.stderr, /^Prompts: \d+ tokens .*; answers: \d+ tokens /m);
});

gpuTest(
  "cli generate: greedy with either cache, without one, and by drawing from one",
  async () => {
    const args = [...BUILTIN, "--prompt", QUESTIONS[0], "--max-tokens", "16"];
    const run = async (...more: string[]) => {
      const outcome = await lorikeetHere("generate", [...args, "--json", ...more]);
      const [cache] = /^KV cache: .*$/m.exec(outcome.stderr)!;
      return { results: essence(resultsOf(outcome)), cache };
    };
    const f32 = await run("--cache-dtype", "f32");
    assert.match(f32.cache, /^KV cache: 1 × \d+ tokens in f32/);
    const f16 = await run("--cache-dtype", "f16");
    assert.match(f16.cache, /tokens in f16/);
    const none = await run("--no-kv-cache");
    assert.equal(none.cache, "KV cache: none");
    const drawn = await run("--top-k", "1", "--temperature", "1.5", "--seed", "9");
    for (const { results } of [f16, none, drawn]) assert.deepEqual(results, f32.results);
  },
);

gpuTest("cli generate: draws repeat by seed, and prompts in a batch have their own", async () => {
  const settings = ["--temperature", "3", "--top-p", "0.99", "--min-p", "1e-4", "--top-k", "500"];
  const args = [...BUILTIN, "--max-tokens", "12", "--repetition-penalty", "1.1", ...settings];
  const [again, other] = await generate(...args, "--seed", "1", ...each("--prompt", ["Hi", "Hi"]));
  const [first] = await generate(...args, "--seed", "1", "--prompt", "Hi");
  const [differs] = await generate(...args, "--seed", "2", "--prompt", "Hi");
  assert.deepEqual(essence([again]), essence([first]));
  assert.notDeepEqual(other.ids, first.ids);
  assert.notDeepEqual(differs.ids, first.ids);
});

gpuTest("cli generate: beams, alone and prompt by prompt", async () => {
  const args = [...BUILTIN, "--beams", "4", "--max-tokens", "10"];
  const several = await generate(...args, ...each("--prompt", QUESTIONS.slice(0, 2)));
  assert.equal(several.length, 2);
  const alone = await lorikeetHere("generate", [
    ...args,
    "--prompt",
    QUESTIONS[0],
    "--no-kv-cache",
  ]);
  assert.equal(succeeded(alone), `${several[0].text}\n`);
  const { stderr } = await lorikeetHere("generate", [...args, "--prompt", "Hi"]);
  assert.match(stderr, /^KV cache: 4 × \d+ tokens/m);
  assert.ok(several.every(({ ids }) => ids.length > 0 && ids.length <= 10));
});

gpuTest("cli generate: answers end before the earliest stop text, or by length", async () => {
  const args = [...BUILTIN, "--prompt", QUESTIONS[0], "--max-tokens"];
  const [whole] = await generate(...args, "16");
  const { text, ids } = whole;
  assert.ok(text.length > 20 && ids.length > 4, text);
  assert.deepEqual([whole.finish_reason, ids.length], ["length", 16]);

  const stops = ["never said", text.slice(14, 18), text.slice(9, 16)];
  const cut = text.slice(0, Math.min(...stops.slice(1).map((stop) => text.indexOf(stop))));
  const stopping = [...args, "16", ...each("--stop", stops)];
  const [stopped] = await generate(...stopping);
  assert.deepEqual([stopped.text, stopped.finish_reason], [cut, "stop"]);
  assert.deepEqual(stopped.ids, ids.slice(0, stopped.ids.length));
  assert.equal(succeeded(await lorikeetHere("generate", stopping)), `${cut}\n`);

  const [empty] = await generate(...args, "16", "--stop", text.slice(0, 4), "--beams", "1");
  assert.deepEqual([empty.text, empty.finish_reason], ["", "stop"]);
});

/** A small model of random weights with a long context, beside the tiny tokenizer. */
function randomModel(folder: TemporaryFolder, changes: Record<string, unknown> = {}): string {
  const config = {
    model_type: "llama",
    hidden_size: 32,
    intermediate_size: 48,
    num_hidden_layers: 1,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    vocab_size: 360,
    rms_norm_eps: 1e-5,
    max_position_embeddings: 1000,
    bos_token_id: 1,
    eos_token_id: 2,
    ...changes,
  };
  Deno.copyFileSync(TOKENIZER, folder.file("tokenizer.model"));
  return `random:${folder.file("config.json", JSON.stringify(config))}`;
}

gpuTest("cli generate: an answer that ends at once is empty", async () => {
  using folder = new TemporaryFolder();
  const prompts = ["--prompt", "Hi", "--max-tokens", "8"];
  const model = randomModel(folder);
  const [{ ids: [first], finish_reason }] = await generate("--model", model, ...prompts);
  assert.equal(finish_reason, "length");
  randomModel(folder, { eos_token_id: [2, first] });
  const [ended] = await generate("--model", model, ...prompts);
  assert.deepEqual([ended.text, ended.ids, ended.finish_reason], ["", [], "stop"]);
  assert.equal(ended.decode_tokens_per_second, null);
  assert.equal(succeeded(await lorikeetHere("generate", ["--model", model, ...prompts])), "\n");
});

gpuTest("cli generate: characters of several tokens are streamed whole", async () => {
  using folder = new TemporaryFolder();
  const model = ["--model", randomModel(folder), "--precision", "fp32", "--seed", "7"];
  const args = [...model, "--prompt", "Hi", "--max-tokens", "400", "--template", "none"];
  const [{ text }] = await generate(...args);
  assert.match(text.replaceAll("\ufffd", ""), /\P{ASCII}/u, "no character of several bytes");
  const process = await startLorikeet("generate", args);
  let streamed = "", chunks = 0;
  const errors = new Response(process.stderr).text();
  for await (const chunk of process.stdout) {
    // Fails on part of a character.
    streamed += new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(chunk);
    chunks++;
  }
  assert.equal((await process.status).code, 0, await errors);
  assert.equal(streamed, `${printable(text)}\n`);
  assert.ok(chunks > 1, `${chunks} chunks`);
});

gpuTest("cli generate: templates", async () => {
  using folder = new TemporaryFolder();
  const model = randomModel(folder);
  const chat_template =
    "{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}{{ eos_token }}Bot:";
  const settings = { tokenizer_class: "LlamaTokenizer", legacy: true, add_bos_token: true };
  folder.file("tokenizer_config.json", JSON.stringify({ ...settings, chat_template }));
  const tokenizer = await loadTokenizer(TOKENIZER);
  const args = ["--model", model, "--prompt", "Name a bird.", "--max-tokens", "1"];
  const promptOf = async (template: string, ...more: string[]) =>
    (await generate(...args, "--template", template, ...more))[0].prompt_ids;
  const question = [{ role: "user" as const, content: "Name a bird.\nA red one." }];
  const input = ["--input", "A red one."];
  assert.deepEqual(
    await promptOf("none", ...input),
    [tokenizer.bos_id, ...tokenizer.encode(question[0].content)],
  );
  const llama2 = Array.from(await encodeChat(question, "llama2", tokenizer));
  assert.deepEqual(await promptOf("llama2", ...input), llama2);
  assert.deepEqual(
    await promptOf("chat"),
    tokenizer.encodeSpecial("user: Name a bird.</s>Bot:"),
  );
  Deno.removeSync(join(folder.path, "tokenizer_config.json"));
  refused(
    await lorikeetHere("generate", [...args, "--template", "chat"]),
    1,
    /tokenizer_config.json does not exist.*; the other templates are alpaca, llama2, chatml and none, or a file\n$/,
  );
});

gpuTest(
  "cli generate: a conversation with tools and variables, in the model's own template",
  async () => {
    using folder = new TemporaryFolder();
    const model = randomModel(folder);
    const chat_template =
      "{% for m in messages %}<{{ m.role }} {{ m.name }}>{{ m.content }}{% endfor %}" +
      "{{ tools | tojson }}{{ style | default('plain') }}{{ eos_token if add_generation_prompt }}";
    folder.file("tokenizer_config.json", JSON.stringify({ chat_template }));
    const tokenizer = await loadTokenizer(folder.path);
    const talk = folder.file(
      "talk.json",
      '[{"role": "system", "content": ""}, {"role": "boss", "name": "Ann", "content": " Hi </s> "}]',
    );
    const tools = folder.file("tools.json", '[{"name": "add", "2": 1.0, "1": 2}]');
    const args = ["--model", model, "--messages", talk, "--max-tokens", "1"];
    const promptOf = async (...more: string[]) => (await generate(...args, ...more))[0].prompt_ids;
    // What is written in a message stays text; the template's own end token counts.
    const ids = (text: string) => tokenizer.encodeParts([text, tokenizer.eos_id]);
    assert.deepEqual(await promptOf(), ids("<system ><boss Ann> Hi </s> nullplain"));
    const more = ["--tools", tools, "--template-kwargs", '{"style": "short"}'];
    assert.deepEqual(
      await promptOf(...more),
      ids('<system ><boss Ann> Hi </s> [{"name": "add", "2": 1.0, "1": 2}]short'),
    );
    refused(
      await lorikeetHere("generate", [...args, "--template", "llama2"]),
      1,
      /message 2 of the conversation is by "boss", expected "user"/,
    );
    refused(
      await lorikeetHere("generate", [...args, "--tools", talk, "--template-kwargs", "{style: 1}"]),
      1,
      /^error: --template-kwargs: is not JSON: line 1, column 2: expected a key in double quotes\n$/,
    );
  },
);

/** Asserts that these flags are refused by exactly these lines. */
async function refusedFlags(args: readonly string[], ...problems: string[]): Promise<void> {
  const { code, stderr, stdout } = await lorikeetHere("generate", ["--model", "builtin", ...args]);
  assert.equal(stderr, `error: ${problems.join("\n       ")}\n`);
  assert.deepEqual([code, stdout], [2, ""]);
}

Deno.test("cli generate: flags that are wrong, or wrong together", async () => {
  const either = "expected --prompt TEXT, --data FILE or --messages FILE";
  const prompt = ["--prompt", "a"];
  await refusedFlags(
    [...prompt, "--data", "builtin"],
    `--prompt and --data are both given; ${either}`,
  );
  await refusedFlags(
    ["--messages", "a.json", "--data", "builtin"],
    `--data and --messages are both given; ${either}`,
  );
  const others = ["--tools", "t.json", "--template-kwargs", "{}"];
  await refusedFlags(
    [...prompt, ...others, "--template", "none"],
    "--tools is for the model's own template, --template chat; --template none knows nothing of it",
    "--template-kwargs is for the model's own template, --template chat; --template none knows " +
      "nothing of it",
  );
  await refusedFlags(
    [...prompt, ...others.slice(2)],
    "--template-kwargs is for the model's own template, --template chat; --template alpaca knows " +
      "nothing of it",
  );
  await refusedFlags(
    ["--samples", "2", "--length-penalty", "2"],
    `--prompt is missing; ${either}`,
    "--samples counts the instructions of --data, which is not given",
    "--length-penalty compares beams; give it with --beams 2 or more",
  );
  await refusedFlags(
    [...prompt, "--prompt", "b", "--input", "c", "--beams", "2", "--temperature", "1"],
    "--input belongs to one --prompt; with several, or --data, leave it out",
    "--temperature does not go with --beams 2, which draws nothing",
  );
  await refusedFlags(
    ["--prompt", "", "--stop", "", "--top-p", "2", "--repetition-penalty", "0", "--beams", "33"],
    '--stop is [""]; expected text that ends an answer',
    "--top-p is 2; expected a number from 0 to 1",
    "--repetition-penalty is 0; expected a number from 0.01 to 100",
    "--beams is 33; expected a whole number from 1 to 32",
    '--prompt is ""; expected the text to answer (an empty one, for what follows BOS alone, goes with --template none)',
  );
  await refusedFlags(
    [...prompt, "--beams", "0", "--batch-size", "0", "--max-tokens", "1.5"],
    "--batch-size is 0; expected a whole number from 1 to 256",
    "--max-tokens is 1.5; expected a whole number of at least 1",
    "--beams is 0; expected a whole number from 1 to 32",
  );
});

Deno.test("cli generate: prompts that are too long, and data that is no instruction", async () => {
  const long = "bird ".repeat(600);
  const args = ["--model", "builtin"];
  refused(
    await lorikeetHere("generate", [...args, ...each("--prompt", ["Hi", long, "Ho"])]),
    1,
    /^error: prompt 2 has \d+ tokens with its template, but model "builtin" has a context of 512; expected at most 511, so that an answer has room\n$/,
  );
  refused(
    await lorikeetHere("generate", [...args, "--prompt", long, "--template", "none"]),
    1,
    /^error: the prompt has \d+ tokens, but model "builtin"/,
  );
  using folder = new TemporaryFolder();
  const missing = folder.file("missing.json");
  refused(
    await lorikeetHere("generate", [...args, "--data", missing]),
    1,
    `data file "${missing}" does not exist; expected JSON, JSON Lines, CSV, TSV or Parquet\n`,
  );
  const samples = [{ instruction: "a", output: "b" }, { text: "Once upon a time." }];
  const prose = folder.file("prose.json", JSON.stringify(samples));
  refused(
    await lorikeetHere("generate", [...args, "--data", prose]),
    1,
    `data file "${prose}": row 2 is plain text, not an instruction\n`,
  );
});
