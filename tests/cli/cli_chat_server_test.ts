/** `lorikeet chat --server`: with `serve`, and with servers that fail in every way. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { refusal } from "../../infer/chat/api_refusal.ts";
import { writeBuiltinAdapter } from "../infer/serve/builtin_adapter.ts";
import { gpuTest } from "../kernels/harness.ts";
import { addressOf, end } from "../watch/served.ts";
import { chatAbout, refused, startLorikeet, succeeded, TemporaryFolder } from "./cli.ts";
import { follow, limited } from "./talk.ts";

const KEY = "a-key-of-a-test-01";
const QUESTIONS = ["What does a falcon eat?", "And a gull?"];

interface Saved {
  model: string;
  server?: string;
  messages: { role: string; content: string }[];
}

const savedIn = (file: string): Saved => JSON.parse(Deno.readTextFileSync(file));

gpuTest("cli chat: with serve, by name, as with a model that is loaded here", async () => {
  using folder = new TemporaryFolder();
  const adapter = join(folder.path, "adapter"), keys = folder.file("keys", `# ours\n${KEY}\n`);
  await writeBuiltinAdapter(adapter, { r: 4, alpha: 8, targets: ["q_proj", "v_proj"], seed: 1 });
  const command = startLorikeet("serve", [
    ...["--model", "builtin", "--gpu", "deno", "--port", "0", "--context", "96"],
    ...["--adapter", `mine=${adapter}`, "--api-key-file", keys, "--sequences", "2"],
  ]);
  try {
    const { href, origin } = await addressOf(command);
    const limits = ["--max-tokens", "12", "--system", "Be brief."];
    const talk = async (file: string, about: string[]) => {
      const script = [...QUESTIONS, "/reset", ...QUESTIONS, `/save ${folder.file(file)}`];
      const outcome = await chatAbout([...limits, ...about], script.join("\n"));
      return {
        stdout: succeeded(outcome),
        stderr: outcome.stderr,
        saved: savedIn(folder.file(file)),
      };
    };
    const key = ["--api-key-file", keys];
    for (const [name, loaded] of [["builtin", []], ["mine", ["--adapter", adapter]]] as const) {
      const served = await talk(`${name}.json`, ["--server", origin, "--model", name, ...key]);
      const here = await talk(`${name}_here.json`, [
        ...["--model", "builtin", "--gpu", "deno", "--context", "96"],
        ...loaded,
      ]);
      assert.equal(served.stdout, here.stdout);
      assert.deepEqual(served.saved, { model: name, server: href, messages: here.saved.messages });
      assert.match(served.stderr, new RegExp(`^${href}, model ${name}\\. /help`));
    }
    refused(
      await chatAbout(["--server", href, "--model", "gpt", ...key], "Hi\n"),
      1,
      `${href} has no model "gpt"; expected "builtin" or "mine"`,
    );
    refused(await chatAbout(["--server", href], "Hi\n"), 1, "(401)", "expected --api-key-file");
    const other = folder.file("other", "some-other-key");
    refused(
      await chatAbout(["--server", href, "--api-key-file", other], "Hi\n"),
      1,
      "expected another key in --api-key-file",
    );
    const long = await chatAbout(
      ["--server", origin, ...key, ...limits],
      [...Array(9).fill(QUESTIONS[0]), "a bird ".repeat(60), "Hello", "/save /no/where"]
        .join("\n"),
    );
    succeeded(long);
    assert.match(long.stderr, /^\(the oldest (turn was|\d turns were) forgotten: /m);
    assert.match(long.stderr, /^error: .* refuses \(400\): messages: the prompt has \d+ tokens/m);
    assert.match(long.stderr, /^error: cannot write \/no\/where: its folder does not exist/m);
  } finally {
    await end(command);
  }
});

gpuTest("cli chat: Ctrl-C stops a server's answer and not the program", async () => {
  const command = startLorikeet("serve", ["--model", "builtin", "--gpu", "deno", "--port", "0"]);
  try {
    const { origin } = await addressOf(command);
    // So hot, the model finds no end.
    const flags = ["--temperature", "100", "--max-tokens", "480"];
    const chat = startLorikeet("chat", ["--server", origin, ...flags], {}, "piped");
    using _ = limited(chat);
    const [output, messages] = [follow(chat.stdout), follow(chat.stderr)];
    const writer = chat.stdin.getWriter();
    const type = (line: string) => writer.write(new TextEncoder().encode(`${line}\n`));
    for (const turn of [1, 2]) {
      const { length } = output.text;
      await type(`Hello ${turn}`);
      await output.until((text) => text.length > length + 20);
      chat.kill("SIGINT");
      await type(`/turn${turn}`);
      await messages.until((text) => text.includes(`/turn${turn} is unknown`));
      const running = async () => (await (await fetch(new URL("/health", origin))).json()).running;
      while (await running() > 0); // The server learns of it after a moment.
    }
    await type("/exit");
    assert.equal((await chat.status).code, 0, messages.text);
    await Promise.all([output.done, messages.done, writer.close().catch(() => {})]);
    assert.doesNotMatch(messages.text.replaceAll(/error: \/turn.*/g, ""), /error/);
  } finally {
    await end(command);
  }
});

/** What a server in the test's own process answers with, by turns, and what it was asked. */
async function withServer(
  answers: readonly (() => Response)[],
  body: (origin: string, asked: { headers: Headers; body: Record<string, unknown> }[]) => Promise<
    void
  >,
): Promise<void> {
  const asked: { headers: Headers; body: Record<string, unknown> }[] = [];
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (request) => {
    if (request.method === "GET") return Response.json({ data: [{ id: "m" }, { id: "n" }] });
    asked.push({ headers: request.headers, body: await request.json() });
    return answers[asked.length - 1]();
  });
  try {
    await body(`http://127.0.0.1:${server.addr.port}`, asked);
  } finally {
    await server.shutdown();
  }
}

const events = (...parts: unknown[]) => () =>
  new Response(
    parts.map((part) => `data: ${typeof part === "string" ? part : JSON.stringify(part)}\n\n`)
      .join(""),
    { headers: { "Content-Type": "text/event-stream" } },
  );
const piece = (content: string, finish_reason: string | null = null) => ({
  choices: [{ index: 0, delta: { content }, finish_reason }],
});
const json = (status: number, body: unknown, headers: Record<string, string> = {}) => () =>
  Response.json(body, { status, headers });

Deno.test("cli chat: of a server that fails, each failure is a sentence, and the talk goes on", async () => {
  const failures: [() => Response, RegExp][] = [
    [
      json(429, { error: { message: "Too many." } }, { "Retry-After": "7" }),
      /error: http:\S+\/v1 refuses \(429\): Too many; ask again in 7 s$/m,
    ],
    [json(500, "broken"), /refuses \(500\): broken$/m],
    [
      () => new Response("<html>Bad gateway", { status: 502 }),
      /refuses \(502\)$/m,
    ],
    [json(200, { choices: [] }), /answers with application\/json; expected a stream of events/],
    [
      events(piece("one"), { error: { message: "out of memory" } }),
      /the answer broke off: out of memory$/m,
    ],
    [
      events(piece("two")),
      /the answer broke off: the server closed the connection before its end$/m,
    ],
    [events(piece("three"), "{"), /the answer broke off: an event of it is no JSON$/m],
    [
      () => new Response(null, { status: 307, headers: { Location: "http://example.com/" } }),
      /leads to http:\/\/example\.com\/; expected the server's own URL$/m,
    ],
    [
      () =>
        new Response(
          new ReadableStream({
            async start(controller) {
              controller.enqueue(
                new TextEncoder().encode(`data: ${JSON.stringify(piece("x"))}\n\n`),
              );
              // A body that ends before its length is broken.
              await new Promise((resolve) => setTimeout(resolve, 100));
              controller.close();
            },
          }),
          { headers: { "Content-Type": "text/event-stream", "Content-Length": "1000" } },
        ),
      /the answer broke off: error reading a body/,
    ],
  ];
  const whole = events(piece("four", "stop"), "[DONE]");
  await withServer([...failures.map(([answer]) => answer), whole], async (origin, asked) => {
    using folder = new TemporaryFolder();
    const file = folder.file("talk.json");
    const script = [...failures.map((_, i) => `question ${i}`), "last", `/save ${file}`];
    const key = ["--api-key-file", folder.file("key", `${KEY}\nanother-key\n`)];
    const chosen = ["--top-k", "0", "--temperature", "0.5", "--max-tokens", "9"];
    const outcome = await chatAbout(["--server", origin, ...key, ...chosen], script.join("\n"));
    assert.equal(succeeded(outcome), "one\n\ntwo\n\nthree\n\nx\nfour\n".replaceAll("\n\n", "\n"));
    const said = outcome.stderr.trim().split("\n").slice(1);
    assert.equal(said.length, failures.length + 1, outcome.stderr);
    failures.forEach(([, message], i) => assert.match(said[i], message));
    // What was answered in part is kept, what was not is not.
    assert.deepEqual(savedIn(file).messages.map(({ content }) => content), [
      ...["question 4", "one", "question 5", "two", "question 6", "three", "question 8", "x"],
      ...["last", "four"],
    ]);
    const { headers, body } = asked[0];
    assert.equal(headers.get("authorization"), `Bearer ${KEY}`);
    // Fields that others may not know are sent where they are given.
    assert.deepEqual(body, {
      model: "m",
      messages: [{ role: "user", content: "question 0" }],
      temperature: 0.5,
      top_p: 1,
      seed: 42,
      max_tokens: 9,
      top_k: 0,
      stream: true,
    });
  });
});

Deno.test("cli chat: refusals in the shapes of other servers are read, and what is too long is told from them", async () => {
  const url = { base: "http://a/v1", address: "a:80" };
  const soon = new Date(Date.now() + 60_000).toUTCString();
  const cases: [Response, boolean, RegExp][] = [
    // llama.cpp's.
    [
      Response.json({
        error: { code: 400, message: "too large.", type: "exceed_context_size_error" },
      }, { status: 400 }),
      true,
      /^http:\/\/a\/v1 refuses \(400\): too large$/,
    ],
    // vLLM's.
    [
      Response.json({
        object: "error",
        message: "This model's maximum context length is 8 tokens.",
      }, { status: 400 }),
      true,
      /\(400\): This model's maximum context length is 8 tokens$/,
    ],
    // FastAPI's, and a text alone.
    [Response.json({ detail: "Not Found" }, { status: 404 }), false, /\(404\): Not Found$/],
    [new Response("no\nsuch thing", { status: 404 }), false, /\(404\): no such thing$/],
    [Response.json({ error: "busy" }, { status: 503 }), false, /busy; ask again later$/],
    [
      new Response("", { status: 429, headers: { "Retry-After": soon } }),
      false,
      /\(429\); ask again in (59|60) s$/,
    ],
    [new Response("x".repeat(9000), { status: 500 }), false, /^.{1,560}$/],
  ];
  for (const [response, isTooLong, message] of cases) {
    const error = await refusal(url, undefined, response);
    assert.match(error.message, message);
    assert.equal(error.isTooLong, isTooLong, error.message);
  }
});

Deno.test("cli chat: what is refused at the start, with a server", async () => {
  using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = taken.addr as Deno.NetAddr;
  taken.close();
  refused(
    await chatAbout(["--server", `http://127.0.0.1:${port}`], "Hi\n"),
    1,
    /^error: http:\/\/127\.0\.0\.1:\d+\/v1 can't be reached: Connection refused; expected the URL/,
  );
  refused(
    await chatAbout(["--server", "127.0.0.1:80", "--context", "50", "--gpu", "deno"], "Hi\n"),
    2,
    '--server is "127.0.0.1:80"; expected the URL of a server, such as http://127.0.0.1:8080',
    "--context is for a model that is loaded here; it does not go with --server",
    "--gpu is for",
  );
  refused(
    await chatAbout(["--api-key-file", "f"], "Hi\n"),
    2,
    "--model is missing; expected a model folder",
    "--api-key-file is for a server's key; expected --server with its URL",
  );
});
