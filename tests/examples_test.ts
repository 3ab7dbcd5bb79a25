/** The examples of clients, against a model that is served. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { ROOT } from "../scripts/compile.ts";
import { exists, startLorikeet, TemporaryFolder } from "./cli/cli.ts";
import { writeBuiltinAdapter } from "./infer/serve/builtin_adapter.ts";
import { writeToolModel } from "./infer/serve/tool_model.ts";
import { gpuTest } from "./kernels/harness.ts";
import { addressOf, end } from "./watch/served.ts";

const KEY = "a-key-of-a-test-01";

/** Calls a function with the address of a server, which has one adapter and asks for a key. */
async function withServer(
  served: (folder: TemporaryFolder) => string,
  body: (address: URL) => Promise<void>,
): Promise<void> {
  using folder = new TemporaryFolder();
  const model = served(folder), adapter = join(folder.path, "adapter");
  await writeBuiltinAdapter(adapter, { r: 4, alpha: 8, targets: ["q_proj", "v_proj"], seed: 1 });
  const command = startLorikeet("serve", [
    ...["--model", model, "--gpu", "deno", "--port", "0", "--adapter", `mine=${adapter}`],
    ...["--api-key-file", folder.file("keys", KEY)],
  ]);
  try {
    await body(await addressOf(command));
  } finally {
    await end(command);
  }
}

/** Runs an example; returns what it prints. */
async function printed(program: string, args: string[], env: Record<string, string> = {}) {
  const { code, stdout, stderr } = await new Deno.Command(program, {
    args,
    cwd: ROOT,
    env: { NO_COLOR: "1", ...env },
    stdin: "null",
  }).output();
  const text = new TextDecoder();
  assert.equal(code, 0, `${text.decode(stdout)}${text.decode(stderr)}`);
  return text.decode(stdout);
}

/** The example by npm's openai, as its comment says to run it. */
const openaiExample = ({ href, host }: URL) =>
  printed(Deno.execPath(), [
    ...["run", "--no-prompt", "--no-check", "--frozen", "--ignore-env", `--allow-net=${host}`],
    ...["examples/serving/openai.ts", href, KEY],
  ]);

gpuTest("examples: npm's openai chats, streams, follows a schema and compares", async () => {
  await withServer(() => "builtin", async (address) => {
    const text = await openaiExample(address);
    const [, whole] = /^answer: (.+)$/m.exec(text) ?? [];
    assert.match(text, /^stream:\n.+ \(\d+ tokens\)$/m);
    const [, json = ""] = /^structured: (.+)$/m.exec(text) ?? [];
    const { name, legs, eats } = JSON.parse(json);
    assert.match(name, /^[A-Z][a-z]{1,11}$/);
    assert.ok(legs >= 0 && legs <= 8 && eats.length > 0);
    assert.match(text, /^tool: 400 tools: template alpaca knows none/m);
    assert.ok(text.includes(`\nbuiltin: ${whole}\n`));
    const [, mine] = /^mine: (.*)$/m.exec(text) ?? [];
    assert.ok(mine !== undefined && mine !== whole, "the adapter says something else");
  });
});

gpuTest("examples: npm's openai gives a tool's result to a model that knows tools", async () => {
  const toolModel = (folder: TemporaryFolder) => {
    const path = join(folder.path, "tools");
    writeToolModel(path);
    return path;
  };
  await withServer(toolModel, async (address) => {
    assert.match(await openaiExample(address), /^weather of (Rio|Oslo)\ntool: ./m);
  });
});

const hasCurl = ["/usr/bin/curl", "/bin/curl", "/usr/local/bin/curl"].some(exists);
const curlTest = hasCurl
  ? gpuTest
  : (name: string) => Deno.test({ name: `${name} (ignored: no curl)`, ignore: true, fn() {} });

curlTest("examples: curl asks every kind of question", async () => {
  await withServer(() => "builtin", async ({ origin }) => {
    const text = await printed("sh", ["examples/serving/curl.sh", origin], { KEY });
    const parts = text.split(/^(?:What|An?|How|Its) .*:$/m).slice(1).map((part) => part.trim());
    const [models, answer, stream, form, going, tokens] = parts;
    assert.deepEqual(JSON.parse(models).data.map(({ id }: { id: string }) => id), [
      "builtin",
      "mine",
    ]);
    assert.ok(JSON.parse(answer).choices[0].message.content.length > 0);
    const events = stream.split("\n\n").map((event) => event.replace(/^data: /, ""));
    assert.equal(events.at(-1), "[DONE]");
    assert.ok(JSON.parse(events.at(-2) ?? "").usage.completion_tokens > 0);
    const { content } = JSON.parse(form).choices[0].message;
    assert.match(JSON.parse(content).bird, /^(gull|falcon|parakeet)$/);
    const { text: goesOn, logprobs } = JSON.parse(going).choices[0];
    assert.equal(logprobs.tokens.join(""), goesOn);
    assert.ok(JSON.parse(tokens).count > 2);
  });
});
