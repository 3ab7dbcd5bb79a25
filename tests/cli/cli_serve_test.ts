/** What `serve` refuses before a model is loaded, and how it begins and ends. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { present } from "../../kernels/present.ts";
import { gpuTest } from "../kernels/harness.ts";
import { addressOf } from "../watch/served.ts";
import { lorikeet, refused, startLorikeet, TemporaryFolder } from "./cli.ts";
import { lorikeetHere } from "./here.ts";

const KEY = "0123456789abcdef";

Deno.test("cli: serve refuses addresses that others reach without keys, and what is none", async () => {
  const serve = (...args: string[]) => lorikeetHere("serve", ["--model", "builtin", ...args]);
  for (const host of ["0.0.0.0", "192.168.1.1", "::"]) {
    refused(
      await serve("--host", host),
      2,
      `--host ${host} lets other machines ask; expected --api-key-file`,
    );
  }
  refused(await serve("--host", "localhost"), 2, '--host is "localhost"; expected an IP address');
  for (
    const origin of ["models.example.org", "ftp://a", "https://a/b", "https://a?b", "https://a@b"]
  ) {
    const message =
      `--origin is "${origin}"; expected an address such as https://models.example.org`;
    refused(await serve("--origin", origin), 2, message);
  }
  refused(await serve("--port", "65536"), 2, "--port is 65536; expected a whole number from 0");
  using folder = new TemporaryFolder();
  const keys = (content: string) => ["--api-key-file", folder.file("keys", content)];
  refused(await serve(...keys("# none\n\n")), 1, "has no API key; expected one a line");
  const short = await serve(...keys(`${KEY}\nsecret\n`));
  refused(short, 1, "line 2 is no API key; expected 16 characters or more");
  assert.doesNotMatch(short.stderr, /secret/, "a key is not told");
  refused(await serve(...keys(`${KEY} x`)), 1, "line 1 is no API key");
  refused(await serve("--api-key-file", join(folder.path, "none")), 1, "does not exist");
});

Deno.test("cli: serve tells what is wrong with template, tokenizer or port before it loads a model", async () => {
  using folder = new TemporaryFolder();
  const serve = (...args: string[]) => lorikeet("serve", ["--port", "0", ...args]);
  refused(await serve("--model", "builtin", "--template", "chat"), 1, "has no template of its own");
  refused(await serve("--model", join(folder.path, "none")), 1, "does not exist");
  using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = taken.addr as Deno.NetAddr;
  const busy = await lorikeet("serve", ["--model", "builtin", "--port", `${port}`]);
  refused(busy, 1, `port ${port} is taken or not allowed; expected a free one, or 0 for any`);
  assert.doesNotMatch(busy.stderr, /GPU/);
});

gpuTest(
  "cli: serve on all addresses answers those with a key, and ends when it is told to",
  async () => {
    using folder = new TemporaryFolder();
    const keys = folder.file("keys", `# mine\n${KEY}\r\n`);
    const command = startLorikeet("serve", [
      ...["--model", "builtin", "--gpu", "deno", "--sequences", "1", "--port", "0"],
      ...["--host", "127.0.0.1", "--api-key-file", keys],
    ]);
    const url = await addressOf(command), models = new URL("models", `${url}/`);
    const ask = (key: string) => fetch(models, { headers: { Authorization: `Bearer ${key}` } });
    const refusedOne = await ask("wrong");
    assert.equal(refusedOne.status, 401);
    await refusedOne.body?.cancel();
    assert.deepEqual((await (await ask(KEY)).json()).data[0].id, "builtin");
    command.kill("SIGTERM");
    const messages = await new Response(command.stderr).text();
    assert.equal((await command.status).code, 0, messages);
  },
);

gpuTest(
  "cli: serve finishes an answer after Ctrl-C, and ends at once after a second one",
  async () => {
    const flags = ["--model", "builtin", "--gpu", "deno", "--port", "0"];
    const command = startLorikeet("serve", flags);
    const url = await addressOf(command), said = new Response(command.stderr).text();
    const ask = (max_tokens: number) => {
      const greedy = { temperature: 0, ignore_eos: true, stream: true };
      return fetch(`${url}/completions`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ model: "builtin", prompt: "Daisy", max_tokens, ...greedy }),
      });
    };
    // As many tokens as there is room for, which takes seconds.
    const parts = present((await ask(100_000)).body ?? undefined, "body").getReader();
    await parts.read();
    command.kill("SIGINT");
    let refusal = await ask(1);
    while (refusal.status === 200) {
      await refusal.body?.cancel();
      refusal = await ask(1);
    }
    assert.equal(refusal.status, 503);
    assert.match(await refusal.text(), /the server is ending/);
    for (let i = 0; i < 3; i++) assert.ok(!(await parts.read()).done, "the first answer goes on");
    const asked = performance.now();
    command.kill("SIGINT");
    const { code } = await command.status, took = performance.now() - asked;
    assert.equal(code, 130, await said);
    assert.match(
      await said,
      /Finishing the answers that are being made; Ctrl-C again ends at once/,
    );
    assert.ok(took < 1000, `${took} ms after the second one`);
    await assert.rejects(async () => {
      while (!(await parts.read()).done);
    }, "the answer is broken off");
  },
);
