/** Who waits, for how long, and what becomes of those who leave. */
import assert from "node:assert/strict";
import { askRaw } from "../../raw_http.ts";
import { serverTest, text } from "./in_process.ts";

const KEYS = ["first-client-0001", "second-client-002"];
const as = (client: number) => ({ Authorization: `Bearer ${KEYS[client]}` });

serverTest("more than may wait are refused with a time to wait", {}, async (server) => {
  const { post, admitted, give, told } = server;
  const answers = [1, 2, 3].map((max_tokens) => post("/v1/completions", text({ max_tokens })));
  const running = [await admitted(), await admitted()];
  while (JSON.parse((await server.ask({ path: "/health" })).text).waiting < 1);
  // Two would be one too many, but one is not.
  const refused = await post("/v1/completions", text({ n: 2 }));
  assert.equal(refused.status, 429);
  const { error } = JSON.parse(refused.text);
  assert.deepEqual([error.type, error.code], ["rate_limit_error", "queue_full"]);
  assert.match(refused.headers.get("retry-after") ?? "", /^[1-9]\d?$/);
  answers.push(post("/v1/completions", text({ max_tokens: 4 })));
  while (JSON.parse((await server.ask({ path: "/health" })).text).waiting < 2);
  assert.equal((await post("/v1/completions", text())).status, 429);
  for (const { id } of running) give({ id, ids: [5], finished: "length" });
  for (const { id } of [await admitted(), await admitted()]) {
    give({ id, ids: [], finished: "stop" });
  }
  assert.deepEqual((await Promise.all(answers)).map(({ status }) => status), [200, 200, 200, 200]);
  const last = post("/v1/completions", text());
  give({ id: (await admitted()).id, ids: [], problem: "the logits are NaN" });
  assert.equal((await last).status, 500);
  assert.match((await last).text, /the logits are NaN/);
  assert.ok(!told.some(({ kind }) => kind === "evict"), "it ended by itself");
});

serverTest("clients take turns", { keys: KEYS, sequences: 1, queue: 9 }, async (server) => {
  const { post, admitted, give, ask } = server;
  const waiting = async (count: number) => {
    while (JSON.parse((await ask({ path: "/health" })).text).waiting < count);
  };
  const answers = [post("/v1/completions", text({ max_tokens: 10 }), as(0))];
  let { id } = await admitted();
  for (const [i, max_tokens] of [11, 12, 13].entries()) {
    answers.push(post("/v1/completions", text({ max_tokens }), as(0)));
    await waiting(i + 1);
  }
  answers.push(post("/v1/completions", text({ max_tokens: 20, n: 2 }), as(1)));
  await waiting(5);
  const order: number[] = [];
  for (let i = 0; i < 5; i++) {
    give({ id, ids: [], finished: "stop" });
    const next = await admitted();
    order.push(next.options.maxTokens);
    id = next.id;
  }
  give({ id, ids: [], finished: "stop" });
  await Promise.all(answers);
  assert.deepEqual(order, [11, 20, 12, 20, 13]);
});

serverTest(
  "a client that leaves is evicted, or waits no more",
  { sequences: 1 },
  async (server) => {
    const { port, admitted, until, give, post, ask } = server;
    for (const stream of [true, false]) {
      const body = JSON.stringify(text({ stream }));
      const connect = async () => {
        const connection = await Deno.connect({ hostname: "127.0.0.1", port });
        const head = `POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n` +
          `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n`;
        await connection.write(new TextEncoder().encode(head + body));
        return connection;
      };
      const connection = await connect(), { id } = await admitted();
      const second = await connect();
      while (JSON.parse((await ask({ path: "/health" })).text).waiting < 1);
      second.close();
      while (JSON.parse((await ask({ path: "/health" })).text).waiting > 0);
      give({ id, ids: [5] });
      connection.close();
      await until("evict");
      // What still comes of it goes nowhere.
      give({ id, ids: [6], finished: "stop" });
    }
    const answer = post("/v1/completions", text());
    give({ id: (await admitted()).id, ids: [], finished: "stop" });
    assert.equal((await answer).status, 200);
  },
);

serverTest("an answer that takes too long is ended", { timeout: 1 }, async ({ post, until }) => {
  const { status, text: body } = await post("/v1/completions", text());
  assert.equal(status, 408);
  assert.equal(JSON.parse(body).error.code, "timeout");
  await until("evict");
});

serverTest("a stop text ends a sequence, and is no part of the answer", {}, async (server) => {
  const { post, admitted, give, until, told } = server;
  const { prompt: ids } = await (async () => {
    const answer = post("/v1/completions", text({ prompt: "The home of Daisy is the barn." }));
    const admission = await admitted();
    give({ id: admission.id, ids: [], finished: "stop" });
    await answer;
    return admission;
  })();
  const answer = post("/v1/completions", text({ stop: ["X", "Daisy is"], max_tokens: 50 }));
  const { id } = await admitted();
  give({ id, ids: ids.slice(1) });
  const { choices, usage } = JSON.parse((await answer).text);
  assert.deepEqual([choices[0].text, choices[0].finish_reason], ["The home of ", "stop"]);
  assert.ok(usage.completion_tokens < ids.length - 1, "tokens behind it don't count");
  await until("evict");
  assert.equal(told.filter(({ kind }) => kind === "evict").length, 1);
});

serverTest(
  "a server that ends finishes what runs and refuses the rest",
  { sequences: 1 },
  async (server) => {
    const { post, admitted, give, until, port } = server;
    const first = post("/v1/completions", text()), { id } = await admitted();
    const second = post("/v1/completions", text());
    while (JSON.parse((await server.ask({ path: "/health" })).text).waiting < 1);
    server.server.finish();
    assert.equal((await second).status, 503);
    give({ id, ids: [], finished: "stop" });
    assert.equal((await first).status, 200);
    await until("finished");
    await assert.rejects(askRaw(port, {}), Deno.errors.ConnectionRefused);
  },
);

serverTest(
  "a server that ends waits for no connection that asks for nothing",
  {},
  async (server) => {
    const { port, admitted, give, until } = server;
    const asking = async () => {
      const response = await fetch(`http://127.0.0.1:${port}/v1/completions`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(text({ stream: true })),
      });
      return await response.text();
    };
    // As some clients keep one ready.
    using _unused = await Deno.connect({ hostname: "127.0.0.1", port });
    // Of two others one waits for nothing, and one is kept once its answer has come.
    const both = [asking(), asking()];
    const [one, other] = [await admitted(), await admitted()];
    give({ id: one.id, ids: [], finished: "stop" });
    await Promise.race(both);
    server.server.finish();
    const began = performance.now();
    give({ id: other.id, ids: [5, 6], finished: "stop" });
    await until("finished");
    assert.ok(performance.now() - began < 5000);
    for (const answer of await Promise.all(both)) assert.match(answer, /data: \[DONE\]/);
  },
);

serverTest("a server that ends waits for no request that has come in part", {}, async (server) => {
  const { port, until } = server;
  const head = `POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n` +
    "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{";
  using half = await Deno.connect({ hostname: "127.0.0.1", port });
  await half.write(new TextEncoder().encode(head));
  // What came before has been read then.
  await server.ask({ path: "/health" });
  const began = performance.now();
  server.server.finish();
  await until("finished");
  assert.ok(performance.now() - began < 5000);
  assert.equal(await half.read(new Uint8Array(1)).catch(() => null), null);
});
