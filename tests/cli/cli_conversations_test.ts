/** Conversations as data: trained on, scored, answered; and what `chat` saves. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { fixturePath } from "../fixtures.ts";
import { gpuTest } from "../kernels/harness.ts";
import { chatAbout, refused, succeeded, TemporaryFolder } from "./cli.ts";
import { lorikeetHere } from "./here.ts";

const TOKENIZER = ["--tokenizer", fixturePath("chat_masks")];
const TINY = ["--model", "random:tiny", ...TOKENIZER, "--precision", "fp32"];

/** ChatML's shape, with the day before it. */
const TEMPLATE = `{{- strftime_now('%Y-%m-%d') + '\\n' }}{% for m in messages %}
{{- '<|begin|>' + m.role + '\\n' + m.content + '<|end|>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{- '<|begin|>assistant\\n' }}{% endif %}`;

const talk = (...contents: string[]) => ({
  messages: contents.map((content, i) => ({ role: i % 2 ? "assistant" : "user", content })),
});

/** What a run says of its data, before it opens a GPU. */
const preview = (stdout: string) => stdout.slice(stdout.indexOf("Data:"), stdout.indexOf("GPU:"));

gpuTest("cli conversations: every turn of the first is shown with what is learnt", async () => {
  using folder = new TemporaryFolder();
  const template = folder.file("template.jinja", TEMPLATE);
  const rows = [talk("Hi", "Hello", "And?", "Bye"), talk("Why?"), talk("a", "b")];
  const data = folder.file("talks.jsonl", rows.map((row) => JSON.stringify(row)).join("\n"));
  const train = async (...more: string[]) => {
    const output = folder.file(`run${Math.random()}`);
    const flags = ["--data", data, "--template", template, "--template-date", "2026-01-31"];
    const steps = ["--max-steps", "1", "--output", output];
    return preview(succeeded(await lorikeetHere("train", [...TINY, ...flags, ...steps, ...more])));
  };
  const first = "2026-01-31\n⟨<|begin|>⟩user\nHi⟨<|end|>⟩\n⟨<|begin|>⟩assistant\n";
  const second = "⟨<|begin|>⟩user\nAnd?⟨<|end|>⟩\n⟨<|begin|>⟩assistant\n";
  const said = await train();
  assert.match(said, /^Data: .*talks\.jsonl, 2 samples, \d+ tokens$/m);
  assert.match(said, /^ {2}1 sample left out: no message by the assistant is to be learnt$/m);
  assert.ok(said.includes(`\n[${first}Hello⟨<|end|>⟩\n${second}]Bye⟨<|end|>⟩\n`), said);
  const both = await train("--train-on", "assistant");
  assert.ok(both.includes(`\n[${first}]Hello⟨<|end|>⟩\n[${second}]Bye⟨<|end|>⟩\n`), both);
  const all = await train("--train-on", "all");
  assert.match(all, /3 samples, \d+ tokens\n\n\[2\]026-01-31\n/);
});

gpuTest(
  "cli conversations: score counts what is learnt, and generate asks up to the last answer",
  async () => {
    using folder = new TemporaryFolder();
    const data = folder.file("talks.json", JSON.stringify([talk("Hi", "a", "And?", "b")]));
    const flags = [...TINY, "--data", data, "--template", "chatml"];
    const tokens = async (...more: string[]) =>
      JSON.parse(succeeded(await lorikeetHere("score", [...flags, "--json", ...more]))).tokens;
    // "a", and "<|im_end|>", a newline and EOS, as the tokenizer has no such control tokens.
    const last = await tokens();
    assert.equal(await tokens("--train-on", "assistant"), 2 * last - 1);
    const asked = [...flags, "--max-tokens", "1", "--json"];
    const { prompt_ids } = JSON.parse(succeeded(await lorikeetHere("generate", asked)));
    const messages = folder.file("asked.json", JSON.stringify(talk("Hi", "a", "And?")));
    const same = [...TINY, "--messages", messages, "--template", "chatml", "--max-tokens", "1"];
    const outcome = await lorikeetHere("generate", [...same, "--json"]);
    assert.deepEqual(JSON.parse(succeeded(outcome)).prompt_ids, prompt_ids);
    refused(
      await lorikeetHere("score", [...TINY, "--data", data, "--template", "chatlm"]),
      2,
      /template is "chatlm".*expected one of auto, alpaca, llama2, chatml, chat, none, or a file/,
    );
  },
);

gpuTest("cli conversations: a run that goes on has the first day's date", async () => {
  using folder = new TemporaryFolder();
  const template = folder.file("template.jinja", TEMPLATE), output = folder.file("run");
  const rows = Array.from({ length: 6 }, (_, i) => talk("Hi", `Hello ${i}`));
  const data = folder.file("talks.json", JSON.stringify(rows));
  const flags = ["--gradient-accumulation-steps", "2", "--data", data, "--template", template];
  const run = [...TINY, ...flags, "--output", output, "--save-every", "1"];
  const dated = ["--template-date", "2026-01-31", "--max-steps", "1"];
  succeeded(await lorikeetHere("train", [...run, ...dated]));
  const goes = await lorikeetHere("train", ["--resume", output, "--max-steps", "2"]);
  assert.ok(succeeded(goes).includes("[2026-01-31\n"), goes.stdout);
  const config = JSON.parse(Deno.readTextFileSync(join(output, "summary.json"))).config;
  assert.equal(config.template_date, "2026-01-31");
  const again = await lorikeetHere("train", [...run, "--resume", "auto", "--max-steps", "3"]);
  assert.ok(succeeded(again).includes("[2026-01-31\n"), again.stdout);
  // Without a date, it is the day's on which the run began.
  const undated = folder.file("undated"), steps = ["--max-steps", "1", "--output", undated];
  succeeded(await lorikeetHere("train", [...TINY, ...flags, ...steps]));
  const summary = JSON.parse(Deno.readTextFileSync(join(undated, "summary.json")));
  assert.match(summary.config.template_date, /^\d{4}-\d\d-\d\d$/);
});

gpuTest("cli conversations: what chat saves is trained on and scored as it is", async () => {
  using folder = new TemporaryFolder();
  const saved = folder.file("talk.json"), model = ["--model", "builtin", "--precision", "fp32"];
  const lines = ["What does a falcon eat?", "What does a gull eat?", `/save ${saved}`, "/exit"];
  succeeded(
    await chatAbout([...model, "--system", "Be brief.", "--max-tokens", "16"], lines.join("\n")),
  );
  const flags = [...model, "--data", saved, "--train-on", "assistant"];
  const score = JSON.parse(succeeded(await lorikeetHere("score", [...flags, "--json"])));
  // The model made these answers itself.
  assert.ok(score.nll_per_token < 1 && score.tokens > 4, JSON.stringify(score));
  const output = folder.file("run"), steps = ["--max-steps", "1", "--output", output];
  const stdout = succeeded(await lorikeetHere("train", [...flags, ...steps]));
  assert.match(stdout, /Fields not used: model \(1 row\)/);
  assert.match(
    stdout,
    /^\[⟨<s>⟩Be brief\.\n\n### Instruction:\nWhat does a falcon eat\?\n\n### Resp/m,
  );
  assert.equal(preview(stdout).split("### Response:]").length, 3);
});
