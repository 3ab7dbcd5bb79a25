/**
 * Many clients at once: some leave in the middle of a stream, some send what is no request or too much, some read slowly. By
 * default for a moment; LORIKEET_SERVE_SECONDS=120 makes it long, with 64 clients. What memory the server has is bounded.
 */
import assert from "node:assert/strict";
import OpenAI from "openai";
import { startLorikeet } from "../../cli/cli.ts";
import { gpuTest, random } from "../../kernels/harness.ts";
import { addressOf, end } from "../../watch/served.ts";

const GIVEN = Deno.env.get("LORIKEET_SERVE_SECONDS");
const SECONDS = Number(GIVEN ?? 10), CLIENTS = GIVEN === undefined ? 12 : 64;
/**
 * Seconds after which memory is flat, and the part by which it may differ from its mean from then on: of means over
 * WINDOW seconds, since what is garbage comes and goes.
 */
const [WARM, MOST_DIFFERENCE] = GIVEN === undefined ? [4, 0.1] : [10, 0.05], WINDOW = 3;
const QUESTIONS = Array.from(
  { length: 16 },
  (_, i) => `Question ${i}: who is afraid of ${i} mice?`,
);
const TOKENS = 24;

const mean = (values: readonly number[]) =>
  values.reduce((sum, value) => sum + value) / values.length;

/** The resident memory of a server's process, as it tells, in MB. */
async function memoryOf(url: URL): Promise<number> {
  const text = await (await fetch(new URL("/metrics", url))).text();
  return Number(/^process_resident_memory_bytes (\d+)$/m.exec(text)?.[1]) / 1e6;
}

/** Measures a server's memory every second while a test runs, from second WARM on. */
async function watchMemory(url: URL, until: number): Promise<number[]> {
  const found: number[] = [];
  await wait(1000 * WARM);
  while (performance.now() < until) {
    found.push(await memoryOf(url));
    await wait(1000);
  }
  return found;
}

const wait = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

gpuTest(`serve: ${CLIENTS} clients for ${SECONDS} s, some of them rude`, async () => {
  const flags = ["--port", "0", "--sequences", "16", "--queue", "200"];
  const command = startLorikeet("serve", ["--model", "builtin", "--gpu", "deno", ...flags]);
  try {
    const url = await addressOf(command), next = random(1);
    const client = new OpenAI({ baseURL: url.href, apiKey: "none", maxRetries: 0 });
    const asked = (content: string) => ({
      model: "builtin",
      messages: [{ role: "user" as const, content }],
      max_tokens: TOKENS,
      temperature: 0,
    });
    const expected: string[] = [];
    for (const content of QUESTIONS) {
      const { choices: [{ message }] } = await client.chat.completions.create(asked(content));
      expected.push(message.content ?? "");
    }
    const until = performance.now() + 1000 * SECONDS, firsts: number[] = [];
    const counts = { whole: 0, left: 0, refused: 0 };

    /** Reads a stream to its end, or leaves after its first part. */
    const stream = async (leaves: boolean, slow: boolean) => {
      const i = Math.floor((next() + 1) / 2 * QUESTIONS.length), began = performance.now();
      const stop = new AbortController();
      const parts = await client.chat.completions.create(
        { ...asked(QUESTIONS[i]), stream: true },
        { signal: stop.signal },
      );
      let text = "";
      for await (const { choices: [{ delta }] } of parts) {
        if (text === "" && delta.content) firsts.push(performance.now() - began);
        text += delta.content ?? "";
        if (slow) await wait(30);
        if (leaves && text !== "") stop.abort();
      }
      if (leaves) counts.left++;
      else {
        assert.equal(text, expected[i]);
        counts.whole++;
      }
    };
    const bodies = [
      "{",
      JSON.stringify({ model: "builtin" }),
      JSON.stringify({ ...asked("x"), temperature: "hot" }),
      JSON.stringify(asked("mice ".repeat(5000))),
      JSON.stringify({ user: "x".repeat(9 << 20) }),
    ];
    const malformed = async () => {
      const body = bodies[Math.floor((next() + 1) / 2 * bodies.length)];
      const headers = { "Content-Type": "application/json" };
      const answer = await fetch(`${url.href}/chat/completions`, { method: "POST", headers, body });
      assert.ok(answer.status === 400 || answer.status === 413, `${answer.status}`);
      await answer.body?.cancel();
      counts.refused++;
      await wait(50);
    };
    const kinds = [
      () => stream(false, false),
      () => stream(true, false),
      malformed,
      () => stream(false, true),
    ];
    const clients = Array.from({ length: CLIENTS }, async (_, i) => {
      // A third of each, of whole streams some by slow readers.
      const kind = i % 3 === 0 && i % 2 === 0 ? 3 : i % 3;
      while (performance.now() < until) await kinds[kind]();
    });
    const [memory] = await Promise.all([watchMemory(url, until), ...clients]);
    firsts.sort((a, b) => a - b);
    const [p50, p99] = [0.5, 0.99].map((part) => firsts[Math.floor(part * (firsts.length - 1))]);
    const { whole, left, refused } = counts;
    console.log(
      `    ${whole} whole, ${left} left, ${refused} refused; first token after ${
        p50.toFixed(0)
      } ms (median), ` +
        `${p99.toFixed(0)} ms (p99)`,
    );
    assert.ok(whole > 0 && left > 0 && refused > 0);
    const middle = mean(memory);
    const windows = memory.slice(WINDOW - 1).map((_, i) => mean(memory.slice(i, i + WINDOW)));
    const [least, most] = [Math.min(...windows), Math.max(...windows)];
    const range = `${least.toFixed(0)} to ${most.toFixed(0)} MB, ${
      middle.toFixed(0)
    } MB on average`;
    console.log(`    from second ${WARM} on: ${range}`);
    assert.ok(
      least >= (1 - MOST_DIFFERENCE) * middle && most <= (1 + MOST_DIFFERENCE) * middle,
      range,
    );
    for (;;) {
      const health = await (await fetch(new URL("/health", url))).json();
      if (health.running === 0 && health.waiting === 0) break;
    }
    const metrics = await (await fetch(new URL("/metrics", url))).text();
    assert.doesNotMatch(metrics, /status="5/, metrics);
  } finally {
    await end(command);
  }
});
