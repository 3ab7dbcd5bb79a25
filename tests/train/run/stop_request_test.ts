/** Requests to stop without real signals, which tests/cli/cli_stop_test.ts sends. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { stopListener, StopRequest } from "../../../train/run/stop_request.ts";

const wait = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Signals as a test sends them. */
class FakeSignals implements Disposable {
  readonly listeners = new Map<string, () => void>();
  readonly #real = { ...Deno };

  constructor() {
    Deno.addSignalListener = (signal, listener) => void this.listeners.set(signal, listener);
    Deno.removeSignalListener = (signal, listener) => {
      if (this.listeners.get(signal) === listener) this.listeners.delete(signal);
    };
  }

  send(signal: string): void {
    this.listeners.get(signal)?.();
  }

  [Symbol.dispose](): void {
    const { addSignalListener, removeSignalListener } = this.#real;
    Object.assign(Deno, { addSignalListener, removeSignalListener });
  }
}

/** What is said on standard error meanwhile. */
async function said(body: () => Promise<void>): Promise<string> {
  const { error } = console;
  let text = "";
  console.error = (line) => void (text += line);
  try {
    await body();
  } finally {
    console.error = error;
  }
  return text;
}

Deno.test("stop: a signal that came before the other thread listened counts, and is answered", async () => {
  using signals = new FakeSignals();
  const text = await said(async () => {
    using stop = new StopRequest("Ending");
    assert.equal(stop.requested, false);
    signals.send("SIGTERM");
    assert.equal(stop.requested, true);
    assert.equal(stop.code, 143);
    signals.send("SIGINT"); // the first one decides
    assert.equal(stop.code, 143);
    for (let i = 0; signals.listeners.size > 0 && i < 500; i++) await wait(10);
    assert.equal(signals.listeners.size, 0, "this thread listens beside the other one");
  });
  assert.match(text, /^\nEnding \(Ctrl-C again: stop at once\)\.$/);
});

Deno.test("stop: a request that is over listens no more", () => {
  using signals = new FakeSignals();
  {
    using stop = new StopRequest("Ending");
    assert.ok(signals.listeners.size > 0 && !stop.requested);
  }
  assert.equal(signals.listeners.size, 0);
});

Deno.test("stop: the thread answers once, and after a second Ctrl-C leaves signals to the system", async () => {
  using signals = new FakeSignals();
  const notes = new Int32Array(new SharedArrayBuffer(64));
  let listens = false;
  const listen = stopListener(() => listens = true);
  const names = ["SIGINT", "SIGTERM"] as const, now = Date.now;
  const text = await said(async () => {
    listen("Ending");
    listen({ notes, signals: names });
    assert.ok(listens);
    const left = () => signals.listeners.size;
    try {
      for (const signal of ["SIGTERM", "SIGTERM", "SIGINT"]) signals.send(signal);
      assert.equal(left(), 0, "Ctrl-C after another request is a person's");
      notes.fill(0);
      listen({ notes, signals: names });
      signals.send("SIGINT");
      Date.now = () => now() + 900;
      signals.send("SIGINT"); // within a second it is the same
      Date.now = () => now() + 5000;
      for (const signal of ["SIGTERM", "SIGTERM"]) signals.send(signal); // a cluster's
      assert.equal(left(), 2);
      signals.send("SIGINT");
      assert.equal(left(), 0);
    } finally {
      Date.now = now;
    }
    await Promise.resolve();
  });
  assert.equal(text.match(/Ending/g)?.length, 2);
});

Deno.test("stop: a file asks, is removed, and one from before is not taken", async () => {
  const folder = Deno.makeTempDirSync(), file = join(folder, "stop");
  try {
    using signals = new FakeSignals();
    await said(async () => {
      using stop = new StopRequest("Ending");
      Deno.writeTextFileSync(file, "stop");
      stop.watchFile(file);
      assert.equal(stop.requested, false);
      Deno.writeTextFileSync(file, "stop");
      assert.equal(stop.requested, false, "looked for more than once a second");
      await wait(1050);
      assert.equal(stop.requested, true);
      assert.equal(stop.code, 130);
      assert.deepEqual([...Deno.readDirSync(folder)], []);
    });
    assert.ok(signals);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});
