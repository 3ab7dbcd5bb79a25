/** Requests to stop as the run's own thread hears them; tests/cli/cli_stop_test.ts sends real signals. */
import assert from "node:assert/strict";
import { StopRequest } from "../../train/stop_request.ts";

Deno.test("a signal that came before the other thread listened counts when this one hears it", async () => {
  const { addSignalListener, removeSignalListener } = Deno;
  const listeners = new Map<string, () => void>();
  Deno.addSignalListener = (signal, listener) => void listeners.set(signal, listener);
  Deno.removeSignalListener = (signal, listener) => {
    if (listeners.get(signal) === listener) listeners.delete(signal);
  };
  try {
    using stop = new StopRequest();
    await stop.listen();
    assert.equal(stop.requested, false);
    listeners.get("SIGTERM")?.();
    assert.equal(stop.requested, true);
  } finally {
    Object.assign(Deno, { addSignalListener, removeSignalListener });
  }
  assert.equal(listeners.size, 0, "a request that is over still listens");
});
