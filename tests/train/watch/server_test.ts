/** Who the page's server answers, and what; asked by bytes on a socket, which no client puts right. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { isLoopbackName } from "../../../http/guard.ts";
import { Runs } from "../../../train/watch/runs.ts";
import { serveWatchPage } from "../../../train/watch/serve.ts";
import { decodeCurves, type Report } from "../../../train/watch/page/view.ts";
import { askRaw, type RawAnswer, type RawRequest } from "../../raw_http.ts";
import { inFolder, makeRun, metricsLines } from "./run_files.ts";

/** A server for a test: one run of ten steps, in a folder beside a file that nobody is to see. */
interface Server {
  folder: string;
  port: number;
  /** Asks as the page does, but for what is given; a header that is empty is left out. */
  ask(request: RawRequest): Promise<RawAnswer>;
}

/** A test with a server. */
function serverTest(name: string, body: (server: Server) => Promise<void>): void {
  Deno.test(`watch server: ${name}`, () =>
    inFolder(async (parent) => {
      Deno.writeTextFileSync(join(parent, "secret"), "secret");
      const folder = makeRun(join(parent, "run"), { "metrics.jsonl": metricsLines(1, 10) });
      const page = await serveWatchPage(new Runs([folder]), 0), url = new URL(page.url);
      const port = Number(url.port), own = `127.0.0.1:${port}`;
      const headers = { Host: own, Authorization: `Bearer ${url.hash.slice(1)}` };
      try {
        await body({
          folder,
          port,
          ask: (request) =>
            askRaw(port, {
              path: "/api/runs",
              ...request,
              headers: { ...headers, ...request.headers },
            }),
        });
      } finally {
        await page.close();
      }
    }));
}

serverTest("the page with the token is told of the run", async ({ ask, port }) => {
  const { status, text, headers } = await ask({ headers: { Origin: `http://127.0.0.1:${port}` } });
  assert.equal(status, 200);
  const { reading, runs }: Report = JSON.parse(text);
  assert.deepEqual([reading, runs.length, runs[0].name, runs[0].step], [false, 1, "run", 10]);
  assert.equal(headers.get("cache-control"), "no-store");
  const curves = await ask({ path: "/api/runs/0/curves?axis=step&points=10&from=3&to=6" });
  assert.deepEqual([...decodeCurves(curves.bytes.buffer).x], [2, 3, 4, 5, 6, 7]);
});

serverTest(
  "a foreign Host is refused: the page of another name at this address",
  async (server) => {
    for (
      const Host of ["evil.example", `evil.example:${server.port}`, "127.0.0.1.evil.example", ""]
    ) {
      for (const path of ["/", "/api/runs"]) {
        const { status, text } = await server.ask({ path, headers: { Host } });
        // Without any Host, a request is none.
        assert.ok(status === 403 || (Host === "" && status === 400), `${Host}: ${status}`);
        assert.doesNotMatch(text, /run/);
      }
    }
  },
);

Deno.test("watch server: names of this machine, at any port: that of a tunnel's other end", () => {
  for (const host of ["127.0.0.1", "localhost:1", "LOCALHOST:65535", "[::1]:80"]) {
    assert.ok(isLoopbackName(host), host);
  }
  for (const host of ["", "127.0.0.2", "localhost.evil", "localhost:", "a@localhost", "[::2]"]) {
    assert.ok(!isLoopbackName(host), host);
  }
  assert.ok(!isLoopbackName(undefined));
});

serverTest("a foreign Origin is refused, also with the token", async ({ ask, port, folder }) => {
  const origins = [
    "http://evil.example",
    "null",
    `https://127.0.0.1:${port}`,
    "http://127.0.0.1:1",
  ];
  for (const Origin of origins) {
    assert.equal((await ask({ headers: { Origin } })).status, 403, Origin);
    const stop = { method: "POST", path: "/api/runs/0/stop", headers: { Origin } };
    assert.equal((await ask(stop)).status, 403, Origin);
  }
  const preflight = { method: "OPTIONS", headers: { Origin: "http://evil.example" } };
  const { status, headers } = await ask(preflight);
  assert.equal(status, 403);
  assert.equal(headers.get("access-control-allow-origin"), null);
  assert.throws(() => Deno.lstatSync(join(folder, "stop")), Deno.errors.NotFound);
});

serverTest("what a browser sends for another site is refused", async ({ ask }) => {
  for (const site of ["cross-site", "same-site"]) {
    const { status } = await ask({ path: "/", headers: { "Sec-Fetch-Site": site } });
    assert.equal(status, 403, site);
  }
});

serverTest("without the token nothing is told and nothing stopped", async ({ ask, folder }) => {
  const wrong = ["", "Bearer", "Bearer wrong", "Bearer " + "x".repeat(500), "Basic eDp5"];
  for (const Authorization of wrong) {
    const requests: RawRequest[] = [
      { path: "/api/runs" },
      { path: "/api/runs/0/curves?axis=step" },
      { path: "/api/runs/0/configuration" },
      { path: "/api/runs/0/samples/1" },
      { path: "/api/none" },
      { method: "POST", path: "/api/runs/0/stop" },
    ];
    for (const request of requests) {
      const { status, text } = await ask({ ...request, headers: { Authorization } });
      assert.deepEqual([status, text], [401, "The token is missing or wrong."], Authorization);
    }
  }
  assert.throws(() => Deno.lstatSync(join(folder, "stop")), Deno.errors.NotFound);
});

serverTest("a path outside is refused", async ({ ask }) => {
  const paths = [
    "/../secret",
    "/..%2fsecret",
    "/%2e%2e/secret",
    "//etc/passwd",
    "/page/../../run.ts",
    "/metrics.jsonl",
    "/api/runs/../../secret",
    "/api/runs/..%2fsecret/configuration",
    "/api/runs/1/configuration",
    "/api/runs/-1/configuration",
    "/api/runs/0x0/configuration",
    "/api/runs/0/samples/..%2f..%2fsecret",
    "/api/runs/__proto__/configuration",
  ];
  for (const path of paths) {
    const { status, text } = await ask({ path });
    assert.equal(status, 404, path);
    assert.doesNotMatch(text, /secret|root:|import/);
  }
});

serverTest("links in a run's folder are not followed", async ({ ask, folder }) => {
  Deno.symlinkSync("../secret", join(folder, "config.yaml"));
  const { status, text } = await ask({ path: "/api/runs/0/configuration" });
  assert.deepEqual([status, text], [200, ""]);
  Deno.symlinkSync("../made", join(folder, "stop"));
  await ask({ method: "POST", path: "/api/runs/0/stop" });
  assert.throws(() => Deno.lstatSync(join(folder, "../made")), Deno.errors.NotFound);
});

serverTest("bodies, long addresses, other methods and wrong views are refused", async ({ ask }) => {
  const stop = { method: "POST", path: "/api/runs/0/stop" };
  const long = { ...stop, headers: { "Content-Length": "1000000000" }, body: "x" };
  assert.equal((await ask(long)).status, 413);
  const chunked = { ...stop, headers: { "Transfer-Encoding": "chunked" }, body: "5\r\nhello\r\n" };
  assert.equal((await ask(chunked)).status, 413);
  assert.equal((await ask({ path: `/api/runs?${"x".repeat(3000)}` })).status, 414);
  for (const method of ["PUT", "DELETE", "PATCH"]) {
    assert.equal((await ask({ ...stop, method })).status, 404, method);
  }
  const wrong = [
    "",
    "axis=x",
    "axis=step&points=0",
    "axis=step&points=1e9",
    "axis=step&from=2&to=1",
  ]
    .concat("axis=step&smoothing=1", "axis=step&from=NaN", "axis=step&points=", "axis=step&from=x");
  for (const view of wrong) {
    assert.equal((await ask({ path: `/api/runs/0/curves?${view}` })).status, 400, view);
  }
});

serverTest("every answer forbids what is from elsewhere", async ({ ask }) => {
  for (const request of [{ path: "/" }, { path: "/none" }, { headers: { Authorization: "" } }]) {
    const { headers } = await ask(request);
    const policy = headers.get("content-security-policy") ?? "";
    assert.match(policy, /default-src 'none'; script-src 'self'; style-src 'self';/);
    assert.match(policy, /frame-ancestors 'none'/);
    assert.doesNotMatch(policy, /unsafe|https?:|\*/);
    assert.equal(headers.get("x-content-type-options"), "nosniff");
    assert.equal(headers.get("referrer-policy"), "no-referrer");
    assert.equal(headers.get("set-cookie"), null);
  }
});

serverTest("a stop is a file that the run finds, made once", async ({ ask, folder }) => {
  const stop = { method: "POST", path: "/api/runs/0/stop" };
  assert.equal((await ask(stop)).status, 200);
  assert.equal(Deno.readTextFileSync(join(folder, "stop")), "stop");
  assert.equal((await ask(stop)).status, 200);
  const { runs }: Report = JSON.parse((await ask({})).text);
  assert.equal(runs[0].status, "stopping");
});

serverTest("a run that is at its end, or at work nowhere, is not stopped", async (server) => {
  const { ask, folder } = server, stop = { method: "POST", path: "/api/runs/0/stop" };
  const old = new Date(Date.now() - 3_600_000);
  Deno.utimeSync(join(folder, "metrics.jsonl"), old, old);
  const refused = async () => {
    const { status, text } = await ask(stop);
    assert.throws(() => Deno.lstatSync(join(folder, "stop")), Deno.errors.NotFound);
    return `${status} ${text}`;
  };
  assert.match(await refused(), /^409 No program works in the run's folder/);
  makeRun(folder, { "summary.json": '{"peak_memory_mb":5,"memory_mb":{"parameter":5}}' });
  assert.match(await refused(), /^409 The run is finished/);
});

serverTest("connections are bounded, and the page is there again once they end", async (server) => {
  const { port, ask } = server, connections: Deno.Conn[] = [];
  const request = new TextEncoder().encode("GET /icon.svg HTTP/1.1\r\nHost: localhost\r\n\r\n");
  let answered = 0;
  for (let i = 0; i < 80; i++) {
    const connection = await Deno.connect({ hostname: "127.0.0.1", port });
    connections.push(connection);
    await connection.write(request).catch(() => {});
    // One too many is closed without an answer.
    const count = await connection.read(new Uint8Array(1000)).catch(() => null);
    if (count !== null) answered++;
  }
  assert.equal(answered, 64);
  for (const connection of connections) connection.close();
  for (;;) { // The server learns of the ends after a moment.
    const status = await ask({}).then(({ status }) => status, () => 0);
    if (status === 200) break;
  }
});

Deno.test("watch server: a port that is taken is named", async () => {
  const page = await serveWatchPage(new Runs([]), 0), port = Number(new URL(page.url).port);
  try {
    await assert.rejects(
      serveWatchPage(new Runs([]), port),
      new RegExp(`^UserError: port ${port} is taken`),
    );
  } finally {
    await page.close();
  }
});
