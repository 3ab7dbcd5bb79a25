/** `lorikeet chat` as its users see it: from a pipe, with Ctrl-C, and in a terminal. */
import assert from "node:assert/strict";
import { printable } from "../../kernels/terminal.ts";
import {
  chatAbout,
  denoArguments,
  exists,
  refused,
  startLorikeet,
  succeeded,
  TemporaryFolder,
  TOKENIZER,
} from "./cli.ts";
import { lorikeetHere } from "./here.ts";
import { follow, limited } from "./talk.ts";
import { gpuTest } from "../kernels/harness.ts";

const BUILTIN = ["--model", "builtin", "--precision", "fp32"];

interface Message {
  role: string;
  content: string;
}

/** What `/save` wrote. */
function saved(file: string): { model: string; adapter: string | null; messages: Message[] } {
  return JSON.parse(Deno.readTextFileSync(file));
}

/** Words with one space between them: how answers are laid out doesn't matter here. */
const words = (text: string) => text.trim().replaceAll(/\s+/g, " ");

gpuTest("cli chat: a conversation with history, /reset, /save, /help and mistakes", async () => {
  using folder = new TemporaryFolder();
  const [first, second] = [folder.file("first  talk.json"), folder.file("second.json")];
  const nowhere = folder.file("nowhere/talk.json");
  const [falcon, gull] = ["What does a falcon eat?", "What does a gull eat?"];
  const script = [
    ...[falcon, "", "   ", `  ${gull} `, `/save ${first}`, `/save ${first}`, "/save"],
    ...[`/save ${nowhere}`, "/help", "/bogus now", "/reset", gull, `/save ${second}`],
    ...["/exit", "never read"],
  ];
  const args = [...BUILTIN, "--max-tokens", "16"];
  const outcome = await chatAbout(args, script.join("\n"));
  const stdout = succeeded(outcome);

  const { messages: talk, ...rest } = saved(first);
  assert.deepEqual(rest, { model: "builtin", adapter: null });
  assert.deepEqual(talk.map(({ role }) => role), ["user", "assistant", "user", "assistant"]);
  assert.deepEqual([talk[0].content, talk[2].content], [falcon, gull]);
  const { messages: fresh } = saved(second);
  assert.deepEqual(fresh.map(({ role }) => role), ["user", "assistant"]);
  assert.equal(fresh[0].content, gull);
  const answers = [talk[1], talk[3], fresh[1]].map(({ content }) => content);
  assert.equal(words(stdout), words(answers.join(" ")));

  const [gpu, compiled, ...said] = outcome.stderr.trimEnd().split("\n");
  assert.match(gpu, /^GPU: /);
  assert.match(compiled, /^Compiled \d+ programs in [\d.]+ s/);
  assert.deepEqual(said, [
    "builtin, template alpaca, context 512 tokens. /help lists the commands.",
    `(written to ${first})`,
    `error: ${first} exists already and is not overwritten`,
    "error: /save needs the name of a file to write",
    `error: cannot write ${nowhere}: its folder does not exist`,
    "/reset       forget the conversation",
    "/save FILE   write the conversation to a JSON file",
    "/help        this",
    "/exit        leave (Ctrl-D does too); Ctrl-C stops an answer",
    "error: /bogus is unknown; expected /reset, /save FILE, /help or /exit",
    "(forgotten)",
    `(written to ${second})`,
  ]);
  const names = [...Deno.readDirSync(folder.path)].map(({ name }) => name).sort();
  assert.deepEqual(names, ["first  talk.json", "second.json"]);

  // What the model was given: with the first turn before the question, and without it.
  const section = (question: string, answer = "") =>
    `### Instruction:\n${question}\n\n### Response:${answer}`;
  const opening = "Below is an instruction that describes a task. Write a response that " +
    "appropriately completes the request.";
  const prompts = [
    [opening, section(falcon, answers[0]), section(gull)].join("\n\n"),
    [opening, section(gull)].join("\n\n"),
  ];
  const flags = [...args, "--template", "none", "--json"];
  const lines = succeeded(
    await lorikeetHere("generate", [
      ...flags,
      ...prompts.flatMap((prompt) => ["--prompt", prompt]),
    ]),
  );
  const texts = lines.trimEnd().split("\n").map((line) => JSON.parse(line).text.trim());
  assert.deepEqual(answers.slice(1), texts);
  assert.notEqual(texts[0], texts[1]);
});

gpuTest(
  "cli chat: a full context forgets the oldest turns; what is too long is refused",
  async () => {
    using folder = new TemporaryFolder();
    const file = folder.file("talk.json");
    const questions = ["What does a gull eat?", "Hi", "What does a falcon eat?", "Hö?", "Hello"];
    const long = "a bird ".repeat(20);
    // Lines of Windows, and a last one that does not end.
    const script = [...questions.slice(0, 4), long, questions[4], `/save ${file}`].join("\r\n");
    const args = [...BUILTIN, "--context", "64", "--max-tokens", "12", "--system", "Be brief."];
    const outcome = await chatAbout(args, script);
    succeeded(outcome);
    const said = outcome.stderr;
    assert.match(said, /^\(the oldest (turn was|\d turns were) forgotten: the context is full\)$/m);
    assert.match(
      said,
      /^error: the message has \d+ tokens with its template, expected at most 32, so that an answer has room$/m,
    );
    const { messages } = saved(file);
    assert.deepEqual(messages[0], { role: "system", content: "Be brief." });
    const asked = messages.filter(({ role }) => role === "user").map(({ content }) => content);
    assert.ok(asked.length < questions.length, "turns were forgotten");
    assert.deepEqual(asked, questions.slice(-asked.length));
    const roles = asked.flatMap(() => ["user", "assistant"]);
    assert.deepEqual(messages.slice(1).map(({ role }) => role), roles);
  },
);

/** A model that goes on and on: random weights, the most likely token each time. */
function ramblingModel(folder: TemporaryFolder): string[] {
  const config = {
    model_type: "llama",
    hidden_size: 32,
    intermediate_size: 48,
    num_hidden_layers: 1,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    vocab_size: 360,
    rms_norm_eps: 1e-5,
    max_position_embeddings: 100_000,
    bos_token_id: 1,
    eos_token_id: 2,
  };
  const path = folder.file("config.json", JSON.stringify(config));
  const model = ["--model", `random:${path}`, "--tokenizer", TOKENIZER, "--seed", "1"];
  return [...model, "--context", "100000", "--max-tokens", "100000"];
}

gpuTest(
  "cli chat: Ctrl-C stops the answer and not the program, as often as it is pressed",
  async () => {
    using folder = new TemporaryFolder();
    const file = folder.file("talk.json");
    const chat = await startLorikeet("chat", ramblingModel(folder), {}, "piped");
    using _ = limited(chat);
    const [output, messages] = [follow(chat.stdout), follow(chat.stderr)];
    const writer = chat.stdin.getWriter();
    const type = (line: string) => writer.write(new TextEncoder().encode(`${line}\n`));
    for (const turn of [1, 2]) {
      const { length } = output.text;
      await type(`Hello ${turn}`);
      await output.until((text) => text.length > length + 20);
      chat.kill("SIGINT");
      // What is read next shows that the answer has ended.
      await type(`/turn${turn}`);
      await messages.until((text) => text.includes(`/turn${turn} is unknown`));
    }
    await type(`/save ${file}`);
    await type("/exit");
    const { code } = await chat.status;
    await Promise.all([output.done, messages.done, writer.close().catch(() => {})]);
    assert.equal(code, 0, messages.text);
    const talk = saved(file).messages;
    assert.deepEqual(talk.map(({ role }) => role), ["user", "assistant", "user", "assistant"]);
    assert.deepEqual([talk[0].content, talk[2].content], ["Hello 1", "Hello 2"]);
    for (const { content } of [talk[1], talk[3]]) {
      assert.ok(output.text.includes(printable(`${content}\n`)), JSON.stringify(content));
    }
  },
);

/** util-linux's `script` runs a program in a terminal of its own. */
const hasScript = Deno.build.os === "linux" && exists("/usr/bin/script");

const terminalTest = hasScript
  ? gpuTest
  : (name: string) => Deno.test({ name: `${name} (ignored: no script)`, ignore: true, fn() {} });

terminalTest("cli chat: in a terminal, lines are edited and keys work", async () => {
  using folder = new TemporaryFolder();
  const file = folder.file("talk.json");
  const args = denoArguments("chat", ramblingModel(folder));
  const quoted = [Deno.execPath(), ...args].map((arg) => `'${arg}'`).join(" ");
  const terminal = new Deno.Command("/usr/bin/script", {
    args: ["--quiet", "--flush", "--return", "--command", `exec ${quoted}`, "/dev/null"],
    env: { TERM: "xterm", SHELL: "/bin/sh" },
    stdin: "piped",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  using _ = limited(terminal);
  const screen = follow(terminal.stdout);
  const writer = terminal.stdin.getWriter();
  /** Types keys when the screen ends with a prompt; waits for an answer to them. */
  const type = async (keys: string, answer: string, prompt = "> \x1b[3G") => {
    await screen.until((text) => text.endsWith(prompt));
    await writer.write(new TextEncoder().encode(keys));
    await screen.until((text) => text.includes(answer));
  };
  const [interrupt, end, left, up] = ["\x03", "\x04", "\x1b[D", "\x1b[A"];
  // Pasted lines wait for their turn; the last is finished later.
  await type(`Helo${left}l\r/one\r/tw`, "/tw");
  const { length } = screen.text;
  await screen.until((text) => text.length > length + 200);
  await writer.write(new TextEncoder().encode(interrupt));
  await type("o\r", "/two is unknown", "> \x1b[3G/tw");
  assert.match(screen.text, /error: \/one is unknown/);
  await type(`nothing${interrupt}`, "(/exit or Ctrl-D leaves)");
  await type(`/save ${file}\r`, `(written to ${file})`);
  await type(`${up}\r`, "exists already");
  await type(end, "");
  const { code } = await terminal.status;
  await Promise.all([screen.done, writer.close().catch(() => {})]);
  assert.equal(code, 0, screen.text);
  const { messages } = saved(file);
  assert.deepEqual(messages.map(({ role }) => role), ["user", "assistant"]);
  assert.equal(messages[0].content, "Hello");
});

Deno.test("cli chat: what is refused at the start", async () => {
  refused(
    await chatAbout(["--model", "builtin", "--prompt", "Hi", "--json", "--context", "8"], "Hi\n"),
    2,
    "unknown flag --prompt",
    "unknown flag --json",
    "--context is 8; expected a whole number of at least 16",
  );
  refused(
    await chatAbout(["--model", "builtin", "--template", "chat"], "Hi\n"),
    1,
    "the model has no template of its own; the other templates are alpaca, llama2, chatml and none, or a file\n",
  );
});
