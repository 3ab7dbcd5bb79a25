/** Who the server answers, and what it refuses. */
import assert from "node:assert/strict";
import { chat, serverTest, text } from "./in_process.ts";
import { several } from "./schemas.ts";

const KEY = "0123456789abcdef", OTHER = "fedcba9876543210";

serverTest("a foreign Host is refused", {}, async ({ ask, post, port, told }) => {
  const hosts = ["evil.example", `evil.example:${port}`, "127.0.0.1.evil.example", "192.168.0.1"];
  for (const Host of hosts) {
    assert.equal((await ask({ path: "/v1/models", headers: { Host } })).status, 403, Host);
    const { status, text: body } = await post("/v1/chat/completions", chat(), { Host });
    assert.equal(status, 403, Host);
    assert.deepEqual(JSON.parse(body), {
      error: {
        message:
          "This Host is not served here. Another name of it is given by --origin http://NAME:PORT.",
        type: "permission_error",
        param: null,
        code: null,
      },
    });
  }
  for (const Host of ["localhost:1", "[::1]", "127.0.0.1"]) {
    assert.equal((await ask({ path: "/v1/models", headers: { Host } })).status, 200, Host);
  }
  assert.deepEqual(told, []);
});

serverTest("a foreign Origin or site is refused", {}, async ({ ask, post, port, told }) => {
  for (
    const Origin of [
      "http://evil.example",
      "null",
      "http://127.0.0.1:1",
      `https://127.0.0.1:${port}`,
    ]
  ) {
    assert.equal((await post("/v1/chat/completions", chat(), { Origin })).status, 403, Origin);
    const preflight = await ask({ method: "OPTIONS", path: "/v1/models", headers: { Origin } });
    assert.equal(preflight.status, 403);
    assert.equal(preflight.headers.get("access-control-allow-origin"), null);
  }
  const site = { "Sec-Fetch-Site": "cross-site" };
  assert.equal((await ask({ path: "/v1/models", headers: site })).status, 403);
  const own = { Origin: `http://127.0.0.1:${port}` };
  assert.equal((await ask({ path: "/v1/models", headers: own })).status, 200);
  assert.deepEqual(told, []);
});

const PROXIED = ["https://models.example.org", "https://10.0.0.9:8443"];

serverTest("a proxy's origin is the server's own, and no other of its name", {
  origins: PROXIED,
}, async ({ ask, port }) => {
  const status = async (Host: string, Origin?: string) =>
    (await ask({ path: "/v1/models", headers: { Host, ...(Origin && { Origin }) } })).status;
  const local = `127.0.0.1:${port}`;
  for (
    const Host of ["models.example.org", "models.example.org:443", "MODELS.example.org", local]
  ) {
    // The proxy keeps Host, or names the server by its own.
    assert.equal(await status(Host), 200, Host);
    assert.equal(await status(Host, PROXIED[0]), 200, Host);
  }
  assert.equal(await status("10.0.0.9:8443", PROXIED[1]), 200);
  assert.equal(await status("10.0.0.9", PROXIED[1]), 200, "some proxies leave out the port");
  assert.equal(await status(local, `http://${local}`), 200, "past the proxy");
  const foreign = [
    ["models.example.org", "http://models.example.org"],
    ["models.example.org", "https://models.example.org:444"],
    ["models.example.org", "https://example.org"],
    ["models.example.org", "https://models.example.org.evil.example"],
    ["models.example.org", "null"],
    ["10.0.0.9:8443", "https://10.0.0.9"],
    ["10.0.0.9:8443", "http://10.0.0.9:8443"],
    [local, `https://${local}`],
    [local, "https://evil.example"],
    ["example.org", PROXIED[0]],
    ["evil.example", "https://evil.example"],
  ];
  for (const [Host, Origin] of foreign) assert.equal(await status(Host, Origin), 403, Origin);
});

serverTest("without a key nothing but health is told", { keys: [KEY, OTHER] }, async (server) => {
  const { ask, post, told } = server;
  const wrong = ["", "Bearer", `Bearer ${KEY}x`, `Bearer ${KEY.slice(1)}`, `Basic ${KEY}`, KEY];
  for (const Authorization of wrong) {
    const headers = { Authorization };
    for (const path of ["/v1/models", "/v1/none", "/page"]) {
      const { status, text: body } = await ask({ path, headers });
      assert.equal(status, 401, `${path} with ${Authorization}`);
      assert.equal(JSON.parse(body).error.code, "invalid_api_key");
    }
    assert.equal((await post("/v1/completions", text(), headers)).status, 401);
    assert.equal((await ask({ path: "/health", headers })).status, 200);
  }
  for (const Authorization of [`Bearer ${KEY}`, `Bearer ${OTHER}`, `bearer  ${KEY}`]) {
    const headers = { Authorization };
    assert.equal((await ask({ path: "/v1/models", headers })).status, 200);
  }
  assert.deepEqual(told, []);
});

serverTest("paths outside are refused, in OpenAI's shape", {}, async ({ ask, port }) => {
  const paths = ["/../deno.json", "/v1/../../etc/passwd", "/v1/models/..%2f..%2fsecret", "//etc"];
  for (const path of [...paths, "/v1/files", "/v1/models/other", "/index.html"]) {
    const { status, text: body } = await ask({ path });
    assert.equal(status, 404, path);
    const { error } = JSON.parse(body);
    assert.equal(error.type, "not_found_error");
    assert.doesNotMatch(body, /root:|imports/);
  }
  assert.equal((await ask({ path: `/v1/models?${"x".repeat(3000)}` })).status, 414);
  const { headers } = await ask({ path: "/v1/models", headers: { Host: `localhost:${port}` } });
  assert.match(headers.get("content-security-policy") ?? "", /default-src 'none'/);
  assert.equal(headers.get("x-content-type-options"), "nosniff");
  assert.equal(headers.get("cache-control"), "no-store");
});

serverTest(
  "bodies that are too large, of another type, or no JSON are refused",
  {},
  async (server) => {
    const { ask, post, told } = server, path = "/v1/completions";
    const json = { "Content-Type": "application/json" };
    const long = {
      method: "POST",
      path,
      headers: { ...json, "Content-Length": "1000000000" },
      body: "x",
    };
    assert.equal((await ask(long)).status, 413);
    const large = text({ user: "x".repeat(9 << 20) });
    assert.equal((await post(path, large)).status, 413);
    const pieces = `${(9 << 20).toString(16)}\r\n${"x".repeat(9 << 20)}\r\n0\r\n\r\n`;
    const chunked = { ...json, "Transfer-Encoding": "chunked" };
    assert.equal((await ask({ method: "POST", path, headers: chunked, body: pieces })).status, 413);
    assert.equal((await post(path, text(), { "Content-Type": "text/plain" })).status, 415);
    for (const broken of ["", "{", "\u0000", '{"model":"builtin",}', "\ud800"]) {
      const { status, text: body } = await post(path, broken);
      assert.equal(status, 400, broken);
      assert.match(JSON.parse(body).error.message, /the body is no JSON/, broken);
    }
    for (const strange of ["[]", "null", "3", '"x"']) {
      assert.equal((await post(path, strange)).status, 400, strange);
    }
    assert.deepEqual(told, []);
  },
);

serverTest(
  "bodies of more values than are worth their time are refused soon",
  {},
  async ({ post }) => {
    const chats = "/v1/chat/completions", texts = "/v1/completions";
    const fields = Object.fromEntries(several(400_000, (i) => [`k${i}`, 1]));
    const bodies: [string, unknown, RegExp][] = [
      [
        chats,
        chat(fields),
        /the body holds \d{6} fields and entries of lists; expected at most 50000/,
      ],
      [
        chats,
        chat({ messages: several(200_000, () => ({ role: "user", content: "x" })) }),
        /holds 8\d{5} /,
      ],
      [chats, chat({ messages: several(200_000, () => 1) }), /holds 20000\d fields/],
      [chats, chat({ messages: [{ role: "user", content: several(200_000, () => 1) }] }), /fields/],
      [texts, text({ prompt: [several(200_000, () => "a")] }), /holds 20000\d fields/],
      [texts, text({ prompt: [several(200_000, () => -1)] }), /holds 20000\d fields/],
      [texts, text({ prompt: several(2_000_000, () => 1) }), /holds 1999999 ids of tokens; /],
      // Ids are many, and what texts hold are no values.
      [texts, text({ prompt: several(200_000, () => 12) }), /^prompt: 200000 /],
      [chats, chat({ user: '",:\\'.repeat(100_000), n: 0 }), /^n: /],
    ];
    for (const [path, body, message] of bodies) {
      const json = JSON.stringify(body), began = performance.now();
      const { status, text } = await post(path, json);
      assert.equal(status, 400);
      assert.match(JSON.parse(text).error.message, message);
      assert.ok(performance.now() - began < 1000, `${message} took long`);
    }
  },
);

serverTest("a body that is refused unread holds up no later request", {}, async ({ port }) => {
  const url = `http://127.0.0.1:${port}`, headers = { "Content-Type": "application/json" };
  for (let i = 0; i < 3; i++) {
    const body = JSON.stringify(text({ user: "x".repeat(9 << 20) }));
    const refused = await fetch(`${url}/v1/completions`, { method: "POST", headers, body });
    assert.equal(refused.status, 413);
    assert.match((await refused.json()).error.message, /too large; expected at most 8388608 bytes/);
    const health = await fetch(`${url}/health`);
    assert.deepEqual(await health.json(), { status: "ok", running: 0, waiting: 0 });
  }
});

serverTest(
  "the page holds no secret, and is served without a key",
  { keys: [KEY] },
  async (server) => {
    const { ask, port, told } = server;
    const { status, text: page, headers } = await ask({ path: "/" });
    assert.equal(status, 200);
    assert.match(headers.get("content-type") ?? "", /^text\/html/);
    assert.doesNotMatch(page, new RegExp(KEY));
    const policy = headers.get("content-security-policy") ?? "";
    for (const part of ["default-src 'none'", "script-src 'self'", "form-action 'none'"]) {
      assert.ok(policy.split("; ").includes(part), policy);
    }
    assert.match(policy, /require-trusted-types-for 'script'; trusted-types dompurify$/);
    const named = [...page.matchAll(/ (?:src|href)="([^"]+)"/g)].map(([, path]) => `/${path}`);
    assert.ok(named.length >= 4, named.join());
    for (const path of named) assert.equal((await ask({ path })).status, 200, path);
    for (
      const path of [
        "/page/",
        "/page/deno.json",
        "/page/../main.ts",
        "/page/%2e%2e/main.ts",
        "/http/page/none",
      ]
    ) {
      assert.ok([401, 404].includes((await ask({ path })).status), path);
    }
    assert.equal((await ask({ path: "/", headers: { Host: "evil.example" } })).status, 403);
    const origin = { Origin: "http://evil.example" }, site = { "Sec-Fetch-Site": "cross-site" };
    assert.equal((await ask({ path: "/page/app.ts", headers: origin })).status, 403);
    assert.equal((await ask({ path: "/", headers: site })).status, 403);
    assert.equal((await ask({ path: "/", headers: { Host: `localhost:${port}` } })).status, 200);
    assert.equal(
      (await ask({
        method: "POST",
        path: "/",
        headers: { "Content-Type": "application/json", "Content-Length": "2" },
        body: "{}",
      })).status,
      404,
    );
    assert.deepEqual(told, []);
  },
);
